// SPDX-License-Identifier: Apache-2.0
// _numpy.draw: a panoptic map over its image; deeperlab.visualize is its public face.
#include "deeperlab/draw.h"

#include "arrays.h"
#include "module.h"

namespace deeperlab::binding {
namespace {

py::array draw(const py::array& image, const py::array& category, const py::array& instance, const py::array& shades,
               int64_t stuff, int64_t thing, int64_t border, const Ints& line, int64_t width, int num_threads) {
  require_rank<ArrayFace>(category, "category", 2, "[H, W]");
  require_rank<ArrayFace>(shades, "shades", 3, "[C, S >= 2, 3]");
  require_range("num_threads", num_threads, 1, 1024);
  const int64_t rows = category.shape(0), columns = category.shape(1);
  const int64_t categories = shades.shape(0), each = shades.shape(1);
  checked("height", rows, 0, max_side);
  checked("width", columns, 0, max_side);
  require(line.size() == 3, "line: expected a color (r, g, b), got ", line.size(), " values");
  Paint paint{};
  paint.shades = reinterpret_cast<const Color*>(
      contiguous<ArrayFace, uint8_t>(shades, "shades", Type::uint8, {categories, each, 3}));
  paint.categories = checked("categories", categories, 0, 65536);
  paint.shades_each = checked("shades of each category", each, 2, 65536);
  paint.stuff = checked("stuff", stuff, 0, 256);
  paint.thing = checked("thing", thing, 0, 256);
  paint.border = checked("border", border, 0, 256);
  for (size_t c = 0; c < 3; ++c) {
    paint.line.rgb[c] = uint8_t(checked("line", line[c], 0, 255));
  }
  paint.width = checked("width", width, 0, 64);
  const uint8_t* pixels = contiguous<ArrayFace, uint8_t>(image, "image", Type::uint8, {rows, columns, 3});
  const int32_t* categories_of = contiguous<ArrayFace, int32_t>(category, "category", Type::int32, {rows, columns});
  const int32_t* instances_of = contiguous<ArrayFace, int32_t>(instance, "instance", Type::int32, {rows, columns});
  py::array picture = ArrayFace::make<uint8_t>({rows, columns, 3});
  if (picture.size() > 0) {
    const cpu::Parallel parallel = ArrayFace{num_threads}.parallel();
    const py::array scratch = ArrayFace::make<uint8_t>({cpu::draw_scratch_bytes(int(rows), int(columns))});
    auto* const drawn = out<uint8_t, ArrayFace>(picture);
    auto* const block = out<uint8_t, ArrayFace>(scratch);
    const ArrayFace::Release release;
    cpu::draw(pixels, categories_of, instances_of, int(rows), int(columns), paint, drawn, block, parallel);
  }
  return picture;
}

}  // namespace

void register_draw(py::module_& m) {
  using py::arg;
  m.def("draw", &draw, arg("image"), arg("category"), arg("instance"), arg("shades"), py::kw_only(), arg("stuff"),
        arg("thing"), arg("border"), arg("line"), arg("width"), arg("num_threads") = 1,
        "RGB [H, W, 3] of an image, its maps [H, W] and colors [C, S, 3]; deeperlab.visualize.reference tells more.");
}

}  // namespace deeperlab::binding
