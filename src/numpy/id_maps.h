// SPDX-License-Identifier: Apache-2.0
// Maps of integers of any type and layout, as the engine's counts take them.
#pragma once

#include <string>
#include <vector>

#include "array_traits.h"
#include "deeperlab/runs.h"

namespace deeperlab::binding {

using Maps = std::vector<py::array>;

constexpr int64_t most_pixels = int64_t(1) << 48;  // of maps whose pixels share memory, as those of broadcast_to

inline bool is_native(const py::array& map) { return map.dtype().attr("isnative").cast<bool>(); }

// The maps as arrays of native byte order; memory of any layout will do. Python code may run while an argument becomes
// an array, so nothing is looked at before all are.
inline Maps checked_maps(const py::args& arguments) {
  require(!arguments.empty() && arguments.size() <= size_t(max_maps), "maps: expected 1 to ", max_maps, ", got ",
          arguments.size());
  const auto name = [](size_t i) { return "maps[" + std::to_string(i) + "]"; };
  Maps maps;
  for (const py::handle argument : arguments) {
    py::array map = py::array::ensure(argument);
    if (!map) {
      PyErr_Clear();
      throw py::type_error(name(maps.size()) + ": expected an integer map, got " +
                           std::string(py::str(py::type::of(argument))));
    }
    maps.push_back(is_native(map) ? map : py::array(map.attr("astype")(map.dtype().attr("newbyteorder")("="))));
  }
  for (size_t i = 0; i < maps.size(); ++i) {
    const py::array& map = maps[i];
    const bool integer = map.dtype().kind() == 'i' || map.dtype().kind() == 'u';
    if (!integer || !is_native(map)) {
      throw py::type_error(name(i) + ": expected an integer map, got " + std::string(py::str(map.dtype())));
    }
    require(map.ndim() == 2, name(i), ": expected a map [H, W], got ", map.ndim(), " dimensions");
    const Ints size(map.shape(), map.shape() + 2), first(maps[0].shape(), maps[0].shape() + 2);
    require(size == first, name(i), ": expected shape ", text(first.data(), 2), ", got ", text(size.data(), 2));
  }
  return maps;
}

// What the engine is told of checked maps; those without a pixel are 0 x 0.
struct Views {
  IdMap view[max_maps];
  int64_t height = 0, width = 0;

  explicit Views(const Maps& maps) {
    if (maps[0].size() > 0) {
      height = maps[0].shape(0);
      width = maps[0].shape(1);
    }
    require(width == 0 || height <= most_pixels / width, "maps: expected at most 2^48 pixels, got ", height, " x ",
            width);
    std::transform(maps.begin(), maps.end(), view, [](const py::array& map) {
      const auto step = [&](int axis) { return map.shape(axis) > 1 ? int64_t(map.strides(axis)) : 0; };
      return IdMap{static_cast<const char*>(map.data()), int(map.itemsize()), map.dtype().kind() == 'i', step(0),
                   step(1)};
    });
  }
};

}  // namespace deeperlab::binding
