// SPDX-License-Identifier: Apache-2.0
// Array -> view: the only place of _numpy that checks memory. Outputs and scratch come from operator new.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <sys/mman.h>

#include <algorithm>
#include <memory>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

#include "arguments.h"
#include "parallel.h"

namespace deeperlab::binding {

namespace py = pybind11;

inline void require_shape(const py::array& array, const char* name, std::initializer_list<int64_t> expected) {
  const Ints sizes(array.shape(), array.shape() + array.ndim());
  require(std::equal(expected.begin(), expected.end(), sizes.begin(), sizes.end()), name, ": expected shape ",
          text(expected.begin(), expected.size()), ", got ", text(sizes.data(), sizes.size()));
}

// Strides in elements. NumPy allows strides that are no multiple of the element; those are refused.
inline View view_of(const py::array& array, const char* name, Type type, bool labels) {
  const auto stride = [&](int axis) {
    const int64_t bytes = array.strides(axis);
    require(bytes % array.itemsize() == 0, name, ": expected strides in whole elements; pass a copy");
    return bytes / array.itemsize();
  };
  require(reinterpret_cast<uintptr_t>(array.data()) % size_t(array.itemsize()) == 0, name,
          ": expected aligned memory; pass a copy");
  return labels ? View{array.data(), type, stride(0), 0, stride(1), stride(2)}
                : View{array.data(), type, stride(0), stride(1), stride(2), stride(3)};
}

// A head [N, channels, h, w]; every head of a call has the dtype of `like`.
inline View head(const py::array& array, const char* name, const py::array& like,
                 std::initializer_list<int64_t> expected) {
  require_shape(array, name, expected);
  const bool single = array.dtype().is(py::dtype("float32")) || py::isinstance<py::array_t<float>>(array);
  const bool half = array.dtype().kind() == 'f' && array.itemsize() == 2;
  if (!single && !half) {
    throw py::type_error(std::string(name) + ": expected float32 or float16, got " +
                         std::string(py::str(array.dtype())) + "; use .astype(numpy.float32)");
  }
  require(array.itemsize() == like.itemsize(), name, ": expected the dtype of the other heads, ",
          std::string(py::str(like.dtype())), ", got ", std::string(py::str(array.dtype())));
  return view_of(array, name, single ? Type::float32 : Type::float16, false);
}

// Logits [N, C, h, w], or integer labels [N, H, W].
inline View semantic_view(const py::array& array, const py::array& like, const Shape& shape) {
  if (array.ndim() == 4) {
    return head(array, "semantic", like, {shape.images, shape.classes, shape.h, shape.w});
  }
  require_shape(array, "semantic", {shape.images, shape.height, shape.width});
  const bool byte = py::isinstance<py::array_t<uint8_t>>(array), small = py::isinstance<py::array_t<int16_t>>(array);
  const bool word = py::isinstance<py::array_t<int32_t>>(array), wide = py::isinstance<py::array_t<int64_t>>(array);
  if (!byte && !small && !word && !wide) {
    throw py::type_error("semantic: expected labels of type uint8, int16, int32 or int64, got " +
                         std::string(py::str(array.dtype())));
  }
  const Type type = byte ? Type::uint8 : small ? Type::int16 : word ? Type::int32 : Type::int64;
  return view_of(array, "semantic", type, true);
}

// Memory on a 2 MiB boundary that asks for huge pages where it is large; see tensors.h.
struct Deleter {
  size_t alignment;
  void operator()(char* data) const { ::operator delete(data, std::align_val_t(alignment)); }
};
using Block = std::unique_ptr<char, Deleter>;

inline Block allocate(int64_t bytes) {
  constexpr int64_t huge = int64_t(2) << 20;
  const size_t alignment = bytes < 2 * huge ? 64 : size_t(huge);
  Block block(static_cast<char*>(::operator new(size_t(std::max<int64_t>(bytes, 1)), std::align_val_t(alignment))),
              Deleter{alignment});
  if (bytes >= 2 * huge) {
    madvise(block.get(), size_t(bytes), MADV_HUGEPAGE);  // advice: where it is not taken, nothing is lost
  }
  return block;
}

template <class T>
py::array_t<T> make_array(std::initializer_list<int64_t> sizes) {
  int64_t bytes = sizeof(T);
  for (const int64_t size : sizes) {
    bytes *= size;
  }
  Block block = allocate(bytes);
  T* data = reinterpret_cast<T*>(block.get());
  Block* owner = new Block(std::move(block));
  const py::capsule capsule(owner, [](void* pointer) { delete static_cast<Block*>(pointer); });
  return py::array_t<T>(std::vector<py::ssize_t>(sizes.begin(), sizes.end()), data, capsule);
}

// Fork and join: no pool is kept, so a process may fork between calls. Where no thread can be started the caller's
// own does the work.
inline void run_on_threads(const cpu::Parallel& self, int64_t n, int64_t grain, cpu::Parallel::Range range,
                           void* closure) {
  const int64_t shares = std::max<int64_t>(1, std::min<int64_t>(self.threads, n / std::max<int64_t>(grain, 1)));
  std::vector<std::thread> threads;
  int64_t done = 0;
  for (int64_t i = 1; i < shares; ++i) {
    const int64_t end = n * i / shares;
    try {
      threads.emplace_back(range, closure, done, end);
    } catch (const std::system_error&) {
      break;
    }
    done = end;
  }
  range(closure, done, n);
  for (std::thread& thread : threads) {
    thread.join();
  }
}

inline cpu::Parallel own_threads(int threads) { return {&run_on_threads, threads}; }

}  // namespace deeperlab::binding
