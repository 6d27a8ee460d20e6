// SPDX-License-Identifier: Apache-2.0
// _numpy: maps as runs of equal pixels; deeperlab._runs is their face.
#include "deeperlab/runs.h"

#include "array_traits.h"
#include "id_maps.h"
#include "module.h"

namespace deeperlab::binding {
namespace {

using Numbers = py::array_t<int64_t, py::array::c_style>;
using Values = py::array_t<int32_t, py::array::c_style>;

py::tuple find_runs(const py::args& arguments) {
  const ArrayTraits traits{1};
  const cpu::Parallel parallel = traits.parallel();
  const Maps maps = checked_maps(arguments);
  const Views views(maps);
  const int64_t height = views.height, width = views.width;
  const py::array scratch = ArrayTraits::make<uint8_t>({cpu::runs_scratch_bytes(width)});
  auto* const block = out<uint8_t, ArrayTraits>(scratch);
  // Sixteen pixels a run are few for a panoptic map. Where there are fewer, the second try has room for all.
  for (int64_t capacity = height * width / 16 + height;;) {
    py::array columns = ArrayTraits::make<int64_t>({4, capacity});
    auto* const to = out<int64_t, ArrayTraits>(columns);
    int64_t found;
    {
      const py::gil_scoped_release released;
      found = cpu::find_runs({views.view, int(maps.size()), height, width},
                             {to, to + capacity, to + 2 * capacity, to + 3 * capacity, capacity}, block, parallel);
    }
    traits.raise_interrupt();
    if (found <= capacity) {
      py::tuple result(4);
      for (int64_t i = 0; i < 4; ++i) {
        result[size_t(i)] = py::array_t<int64_t>(found, to + i * capacity);
      }
      return result;
    }
    capacity = found;
  }
}

Numbers pixel_boxes(const Numbers& length, const Numbers& y, const Numbers& x, const Numbers& label, int64_t count) {
  for (const Numbers* one : {&length, &y, &x, &label}) {
    require(one->ndim() == 1 && one->size() == length.size(), "runs: expected four lists of one length");
  }
  in_range("count", count, 0, double(int64_t(1) << 40));
  for (const Numbers* one : {&length, &y, &x}) {
    const bool inside = std::all_of(one->data(), one->data() + one->size(),
                                    [](int64_t place) { return place >= 0 && place <= most_pixels; });
    require(inside, "runs: expected lengths and places of 0 to 2^48");
  }
  Numbers boxes({count, int64_t(4)});
  auto* const box = reinterpret_cast<PixelBox*>(boxes.mutable_data());
  const auto at = [](const Numbers& numbers) { return const_cast<int64_t*>(numbers.data()); };
  const Runs runs{nullptr, at(length), at(y), at(x), int64_t(length.size())};
  const std::vector<int64_t> labels(label.data(), label.data() + label.size());  // which no other thread can change
  bool known;
  {
    const py::gil_scoped_release released;
    known = cpu::pixel_boxes(runs, labels.data(), count, box);
  }
  require(known, "label: expected 0 to ", count - 1);
  return boxes;
}

Values spread(const Numbers& length, const Values& value, int64_t height, int64_t width) {
  in_range("height", height, 0, max_side);
  in_range("width", width, 0, max_side);
  require(length.ndim() == 1 && value.ndim() == 1 && length.size() == value.size(),
          "value: expected one for each of the runs, got ", value.size(), " for ", length.size());
  const std::vector<int64_t> lengths(length.data(), length.data() + length.size());  // which no other thread can change
  int64_t pixels = 0;
  for (const int64_t each : lengths) {
    require(each >= 0 && each <= height * width - pixels, "length: expected runs that cover [", height, ", ", width,
            "]");
    pixels += each;
  }
  require(pixels == height * width, "length: expected runs that cover [", height, ", ", width, "]");
  Values map({height, width});
  auto* const to = map.mutable_data();
  const int32_t* const values = value.data();
  const int64_t runs = length.size();
  {
    const py::gil_scoped_release released;
    cpu::spread(lengths.data(), values, runs, to);
  }
  return map;
}

}  // namespace

void register_runs(py::module_& m) {
  m.def(
      "find_runs", &find_runs,
      "find_runs(*maps) -> (start, length, y, x), int64 [R] each: the longest runs within which none of 1 to 4 integer "
      "maps [H, W] changes, row by row.");
  m.def(
      "pixel_boxes", &pixel_boxes, py::arg("length"), py::arg("y"), py::arg("x"), py::arg("label"), py::arg("count"),
      "pixel_boxes(length, y, x, label, count): tight boxes (x0, y0, x1, y1), int64 [count, 4], of the pixels of each "
      "label, given that of every run.");
  m.def("spread", &spread, py::arg("length"), py::arg("value"), py::arg("height"), py::arg("width"),
        "spread(length, value, height, width): int32 [H, W], every pixel with the value of its run.");
}

}  // namespace deeperlab::binding
