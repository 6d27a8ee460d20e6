// SPDX-License-Identifier: Apache-2.0
// _numpy.unfilter: the numbers of a PNG; deeperlab.data inflates it.
#include "deeperlab/unfilter.h"

#include "array_traits.h"
#include "module.h"

namespace deeperlab::binding {
namespace {

py::array unfilter(const py::bytes& data, int64_t height, int64_t width, int64_t pixel_bytes) {
  constexpr int64_t longest = (int64_t(1) << 31) - 1;  // a side of a PNG
  in_range("height", height, 1, longest);
  in_range("width", width, 1, longest);
  in_range("pixel_bytes", pixel_bytes, 1, 3);
  const auto bytes = std::string_view(data);
  const int64_t count = int64_t(bytes.size()), row = 1 + width * pixel_bytes;
  require(count % row == 0 && count / row == height, "data: expected ", height, " rows of ", row, " bytes, got ", count,
          " bytes");
  py::array numbers = pixel_bytes == 1   ? ArrayTraits::make<uint8_t>({height, width})
                      : pixel_bytes == 2 ? ArrayTraits::make<uint16_t>({height, width})
                                         : ArrayTraits::make<int32_t>({height, width});
  py::array scratch = ArrayTraits::make<uint8_t>({cpu::unfilter_scratch_bytes(width, int(pixel_bytes))});
  const FilteredRows rows{reinterpret_cast<const uint8_t*>(bytes.data()), height, width, int(pixel_bytes)};
  void* const made = numbers.mutable_data();
  void* const block = scratch.mutable_data();
  bool known;
  {
    const py::gil_scoped_release released;
    known = cpu::unfilter(rows, made, block);
  }
  require(known, "data: expected filters 0 to 4");
  return numbers;
}

}  // namespace

void register_png(py::module_& m) {
  m.def("unfilter", &unfilter, py::arg("data"), py::arg("height"), py::arg("width"), py::arg("pixel_bytes"),
        "unfilter(data, height, width, pixel_bytes): the numbers [H, W] of a PNG's inflated rows: uint8 of one byte, "
        "uint16 of two, int32 R + 256 G + 65536 B of three.");
}

}  // namespace deeperlab::binding
