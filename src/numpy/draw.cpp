// SPDX-License-Identifier: Apache-2.0
// _numpy.draw: a panoptic map over its image; deeperlab.visualize is its public face.
#include "deeperlab/draw.h"

#include "array_traits.h"
#include "module.h"

namespace deeperlab::binding {
namespace {

// A whole number of [low, high] that is given by keyword.
int number(const py::dict& how, const char* name, int64_t low, int64_t high) {
  if (!how.contains(name)) {
    throw py::type_error(std::string(name) + ": expected a number, got none");
  }
  return int(in_range(name, std::get<int64_t>(read_option({name, Kind::integer, nullptr}, how[name])), low, high));
}

py::array draw(const py::array& image, const py::array& category, const py::array& instance, const py::array& shades,
               const py::kwargs& how) {
  for (const auto& [name, value] : how) {
    const std::string given = py::str(name);
    const char* known[] = {"stuff", "thing", "border", "line", "width", "num_threads"};
    if (std::find(std::begin(known), std::end(known), given) == std::end(known)) {
      throw py::type_error(given + ": expected no such argument of draw, got " + std::string(py::repr(value)));
    }
  }
  // Python code may run while a number is read, so no array is looked at before all are.
  const int num_threads = how.contains("num_threads") ? number(how, "num_threads", 1, 1024) : 1;
  const Ints line =
      how.contains("line") ? std::get<Ints>(read_option({"line", Kind::integers, nullptr}, how["line"])) : Ints();
  require(line.size() == 3, "line: expected a color (r, g, b), got ", line.size(), " values");
  Paint paint{};
  paint.stuff = number(how, "stuff", 0, 256);
  paint.thing = number(how, "thing", 0, 256);
  paint.border = number(how, "border", 0, 256);
  paint.width = number(how, "width", 0, 64);
  for (size_t c = 0; c < 3; ++c) {
    paint.line.rgb[c] = uint8_t(in_range("line", line[c], 0, 255));
  }
  require(category.ndim() == 2, "category: expected shape [H, W], got ", category.ndim(), " dimensions");
  require(shades.ndim() == 3, "shades: expected shape [C, S >= 2, 3], got ", shades.ndim(), " dimensions");
  const int64_t rows = in_range("height", int64_t(category.shape(0)), 0, max_side);
  const int64_t columns = in_range("width", int64_t(category.shape(1)), 0, max_side);
  const int64_t categories = in_range("categories", int64_t(shades.shape(0)), 0, 65536);
  const int64_t each = in_range("shades of each category", int64_t(shades.shape(1)), 2, 65536);
  paint.shades = contiguous<ArrayTraits, Color>(shades, "shades", Type::uint8, {categories, each, 3});
  paint.categories = int(categories);
  paint.shades_each = int(each);
  const uint8_t* pixels = contiguous<ArrayTraits, uint8_t>(image, "image", Type::uint8, {rows, columns, 3});
  const SegmentMaps maps{contiguous<ArrayTraits, int32_t>(category, "category", Type::int32, {rows, columns}),
                         contiguous<ArrayTraits, int32_t>(instance, "instance", Type::int32, {rows, columns}),
                         int(rows), int(columns)};
  py::array picture = ArrayTraits::make<uint8_t>({rows, columns, 3});
  if (picture.size() > 0) {
    const py::array scratch = ArrayTraits::make<uint8_t>({cpu::draw_scratch_bytes(maps.height, maps.width)});
    auto* const drawn = out<uint8_t, ArrayTraits>(picture);
    auto* const block = out<uint8_t, ArrayTraits>(scratch);
    const ArrayTraits traits{num_threads};
    {
      const ArrayTraits::Release release;
      cpu::draw(pixels, maps, paint, drawn, block, traits.parallel());
    }
    traits.raise_interrupt();
  }
  return picture;
}

}  // namespace

void register_draw(py::module_& m) {
  m.def(
      "draw", &draw,
      "draw(image, category, instance, shades, *, stuff, thing, border, line, width, num_threads=1): RGB [H, W, 3] of "
      "an image, its maps [H, W] and colors [C, S, 3]; deeperlab.visualize.reference tells more.");
}

}  // namespace deeperlab::binding
