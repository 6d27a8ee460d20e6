// SPDX-License-Identifier: Apache-2.0
// The face of _numpy: NumPy arrays. Outputs and scratch come from operator new, threads are our own.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <sys/mman.h>

#include <memory>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

#include "common/face.h"

namespace deeperlab::binding {

namespace py = pybind11;

// Fork and join: no pool is kept, so a process may fork between calls. Where no thread can be started the caller's
// own does the work.
inline void run_on_threads(const cpu::Parallel& self, int64_t n, int64_t grain, cpu::Parallel::Range range,
                           void* closure) {
  const int64_t shares = std::max<int64_t>(1, std::min<int64_t>(self.threads, n / std::max<int64_t>(grain, 1)));
  std::vector<std::thread> threads;
  threads.reserve(size_t(shares - 1));  // or running out of memory would find threads that nobody joins
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

struct ArrayFace {
  using Array = py::array;
  using Release = py::gil_scoped_release;
  static constexpr const char* floats = "float32 or float16; use .astype(numpy.float32)";

  int threads;

  static int64_t rank(const Array& array) { return array.ndim(); }
  static int64_t extent(const Array& array, int64_t axis) { return array.shape(axis); }
  static const void* data(const Array& array) { return array.data(); }

  // NumPy allows memory that is not aligned, and strides that are no multiple of the element.
  static void require_strides(const Array& array, const char* name) {
    const int64_t width = array.itemsize(), past = int64_t(reinterpret_cast<uintptr_t>(array.data()) % size_t(width));
    bool whole = past == 0;
    for (py::ssize_t axis = 0; axis < array.ndim(); ++axis) {
      whole = whole && array.strides(axis) % width == 0;
    }
    require(whole, name, ": expected aligned memory and strides of whole elements, got strides ",
            text(std::vector<int64_t>(array.strides(), array.strides() + array.ndim()).data(), size_t(array.ndim())),
            " and ", past, " bytes past an element of ", width, "; pass a copy");
  }
  static void require_place(const Array&, const char*, const Array&) {}

  static int64_t stride(const Array& array, int64_t axis) { return array.strides(axis) / array.itemsize(); }

  static bool type(const Array& array, Type& type) {
    const char kind = array.dtype().kind();
    const int64_t width = array.itemsize();
    if (!array.dtype().attr("isnative").cast<bool>()) {
      return false;
    }
    if (kind == 'f' && (width == 4 || width == 2)) {
      type = width == 4 ? Type::float32 : Type::float16;
      return true;
    }
    if (kind == 'u' && width == 1) {
      type = Type::uint8;
      return true;
    }
    if (kind == 'i' && width >= 2) {
      type = width == 2 ? Type::int16 : width == 4 ? Type::int32 : Type::int64;
      return true;
    }
    return false;
  }

  static std::string dtype(const Array& array) { return py::str(array.dtype()); }

  [[noreturn]] static void refuse_type(const std::string& message) { throw py::type_error(message); }

  template <class T>
  static Array make(Sizes sizes) {
    int64_t bytes = sizeof(T);
    for (const int64_t size : sizes) {
      bytes *= size;
    }
    auto block = std::make_unique<Block>(bytes);
    const T* data = static_cast<const T*>(block->data);
    const py::capsule owner(block.get(), [](void* pointer) { delete static_cast<Block*>(pointer); });
    block.release();
    return py::array_t<T>(std::vector<py::ssize_t>(sizes.begin(), sizes.end()), data, owner);
  }

  cpu::Parallel parallel() const { return {&run_on_threads, threads, simd()}; }
  CpuEngine engine() const { return {parallel()}; }

 private:
  // Large memory sits on a 2 MiB boundary and asks for huge pages; see tensors.h.
  struct Block {
    static constexpr int64_t huge = int64_t(2) << 20;
    std::align_val_t alignment;
    void* data;

    explicit Block(int64_t bytes) : alignment(bytes < 2 * huge ? std::align_val_t(64) : std::align_val_t(huge)) {
      bytes = bytes < 2 * huge ? std::max<int64_t>(bytes, 1) : (bytes + huge - 1) / huge * huge;
      data = ::operator new(size_t(bytes), alignment);
      if (bytes >= 2 * huge) {
        madvise(data, size_t(bytes), MADV_HUGEPAGE);  // advice: where it is not taken, nothing is lost
      }
    }
    Block(const Block&) = delete;
    Block& operator=(const Block&) = delete;
    ~Block() { ::operator delete(data, alignment); }
  };
};

// A function of stages.h or fuse.h for Python: num_threads stands where the face was, at the end.
template <auto Function>
struct Threaded;

template <class R, class... Arguments, R (*Function)(const ArrayFace&, Arguments...)>
struct Threaded<Function> {
  static R call(Arguments... arguments, int num_threads) {
    require_range("num_threads", num_threads, 1, 1024);
    return Function(ArrayFace{num_threads}, arguments...);
  }
};

}  // namespace deeperlab::binding
