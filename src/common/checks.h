// SPDX-License-Identifier: Apache-2.0
// How an argument is refused: by name, with what was expected and what came. std::invalid_argument becomes a Python
// ValueError. And what is said of memory.
#pragma once

#include <cstdint>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace deeperlab::binding {

using Ints = std::vector<int64_t>;
using Reals = std::vector<double>;

template <class... Parts>
void require(bool holds, const Parts&... parts) {
  if (!holds) {
    std::ostringstream message;
    (message << ... << parts);
    throw std::invalid_argument(message.str());
  }
}

template <class T>
T in_range(const std::string& name, T value, double low, double high) {
  require(double(value) >= low && double(value) <= high, name, ": expected ", low, " to ", high, ", got ", value);
  return value;  // NaN was refused
}

// What is said where memory ends. Each binding raises its library's own error.
inline std::string no_memory(int64_t bytes, const std::string& place) {
  return "out of memory: expected " + std::to_string(bytes) + " bytes on " + place + ", got none";
}

inline std::string text(const int64_t* sizes, size_t count) {
  std::ostringstream out;
  out << '[';
  for (size_t i = 0; i < count; ++i) {
    out << (i == 0 ? "" : ", ") << sizes[i];
  }
  out << ']';
  return out.str();
}

}  // namespace deeperlab::binding
