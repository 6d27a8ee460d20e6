// SPDX-License-Identifier: Apache-2.0
// Maps of integers of any type and layout, as the engine's counts take them.
#pragma once

#include <string>
#include <vector>

#include "array_traits.h"
#include "deeperlab/runs.h"

namespace deeperlab::binding {

using Maps = std::vector<py::array>;

// The maps as arrays of native byte order; memory of any layout will do.
inline Maps checked_maps(const py::args& arguments) {
  require(!arguments.empty() && arguments.size() <= size_t(max_maps), "maps: expected 1 to ", max_maps, ", got ",
          arguments.size());
  Maps maps;
  for (const py::handle argument : arguments) {
    const std::string name = "maps[" + std::to_string(maps.size()) + "]";
    py::array map = py::array::ensure(argument);
    if (!map || (map.dtype().kind() != 'i' && map.dtype().kind() != 'u')) {
      PyErr_Clear();
      const std::string type = map ? py::str(map.dtype()) : py::str(py::type::of(argument));
      throw py::type_error(name + ": expected an integer map, got " + type);
    }
    require(map.ndim() == 2, name, ": expected a map [H, W], got ", map.ndim(), " dimensions");
    if (!map.dtype().attr("isnative").cast<bool>()) {
      map = map.attr("astype")(map.dtype().attr("newbyteorder")("="));
    }
    maps.push_back(map);
    const Ints size(map.shape(), map.shape() + 2), first(maps[0].shape(), maps[0].shape() + 2);
    require(size == first, name, ": expected shape ", text(first.data(), 2), ", got ", text(size.data(), 2));
  }
  return maps;
}

inline IdMap view_of(const py::array& map) {
  return {static_cast<const char*>(map.data()), int(map.itemsize()), map.dtype().kind() == 'i', map.strides(0),
          map.strides(1)};
}

}  // namespace deeperlab::binding
