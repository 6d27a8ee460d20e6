// SPDX-License-Identifier: Apache-2.0
// NumPy arrays. Outputs and scratch come from operator new, threads are our own.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <memory>
#include <new>
#include <vector>

#include "common/call.h"
#include "common/platform.h"
#include "common/threads.h"

namespace deeperlab::binding {

namespace py = pybind11;

inline bool poll_signals() {
  const PyGILState_STATE state = PyGILState_Ensure();
  const bool raised = PyErr_CheckSignals() != 0;
  PyGILState_Release(state);
  return raised;
}

struct ArrayTraits {
  using Array = py::array;
  using Release = py::gil_scoped_release;
  static constexpr const char* floats = "float32 or float16; use .astype(numpy.float32)";

  int threads;
  mutable Interrupt interrupt{&poll_signals};

  static int64_t rank(const Array& array) { return array.ndim(); }
  static int64_t extent(const Array& array, int64_t axis) { return array.shape(axis); }
  static const void* data(const Array& array) { return array.data(); }

  // NumPy allows memory that is not aligned, and strides that are no multiple of the element.
  static void require_memory(const Array& array, const char* name) {
    const int64_t width = array.itemsize(), past = int64_t(reinterpret_cast<uintptr_t>(array.data()) % size_t(width));
    bool aligned = past == 0;
    for (py::ssize_t axis = 0; axis < array.ndim(); ++axis) {
      aligned = aligned && array.strides(axis) % width == 0;
    }
    require(aligned, name, ": expected aligned memory and strides of whole elements, got strides ",
            text(std::vector<int64_t>(array.strides(), array.strides() + array.ndim()).data(), size_t(array.ndim())),
            " and ", past, " bytes past an element of ", width, "; pass a copy");
  }
  static void require_place(const Array&, const char*, const Array&) {}

  static int64_t stride(const Array& array, int64_t axis) {
    return array.shape(axis) > 1 ? array.strides(axis) / array.itemsize() : 0;
  }

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

  void raise_interrupt() const {
    if (interrupt.raised()) {
      throw py::error_already_set();
    }
  }

  template <class T>
  static Array make(Sizes sizes) {
    auto block = std::make_unique<Block>(int64_t(sizeof(T)) * product(sizes));
    const T* data = static_cast<const T*>(block->data);
    const py::capsule owner(block.get(), [](void* pointer) { delete static_cast<Block*>(pointer); });
    [[maybe_unused]] Block* const held = block.release();  // by the capsule
    return py::array_t<T>(std::vector<py::ssize_t>(sizes.begin(), sizes.end()), data, owner);
  }

  cpu::Parallel parallel() const { return {&run_on_threads, &is_stopped, &interrupt, threads, simd()}; }
  CpuEngine engine() const { return {parallel()}; }

 private:
  // Large memory sits on a 2 MiB boundary and asks for huge pages; see tensor_traits.h.
  struct Block {
    static constexpr int64_t huge = int64_t(2) << 20;
    std::align_val_t alignment;
    void* data;

    explicit Block(int64_t bytes) : alignment(bytes < 2 * huge ? std::align_val_t(64) : std::align_val_t(huge)) {
      bytes = bytes < 2 * huge ? std::max<int64_t>(bytes, 1) : (bytes + huge - 1) / huge * huge;
      data = ::operator new(size_t(bytes), alignment, std::nothrow);
      if (data == nullptr) {
        PyErr_SetString(PyExc_MemoryError, no_memory(bytes, "the CPU").c_str());
        throw py::error_already_set();
      }
      if (bytes >= 2 * huge) {
        advise_huge_pages(data, size_t(bytes));
      }
    }
    Block(const Block&) = delete;
    Block& operator=(const Block&) = delete;
    ~Block() { ::operator delete(data, alignment); }
  };
};

[[noreturn]] inline void refuse_option(const Option& option, const py::handle& value) {
  throw py::type_error(option.name + ": expected " + kind_names[int(option.kind)] + ", got " +
                       std::string(py::repr(value)));
}

template <class T>
T cast_option(const Option& option, const py::handle& value) {
  try {
    return value.cast<T>();
  } catch (const py::cast_error&) {
    refuse_option(option, value);
  }
}

// What Python hands over.
inline Value read_option(const Option& option, const py::handle& value) {
  const bool is_flag = py::isinstance<py::bool_>(value), is_word = py::isinstance<py::str>(value);
  const bool wants_flag = option.kind == Kind::flag, wants_word = option.kind == Kind::word;
  if (is_flag != wants_flag || is_word != wants_word) {  // a bool is an int to Python, and a str a sequence
    refuse_option(option, value);
  }
  switch (option.kind) {
    case Kind::flag:
      return value.cast<bool>();
    case Kind::integer:
      return cast_option<int64_t>(option, value);
    case Kind::real:
      return cast_option<double>(option, value);
    case Kind::optional_real:
      return value.is_none() ? Value() : Value(cast_option<double>(option, value));
    case Kind::word:
      return value.cast<std::string>();
    case Kind::reals:
      return cast_option<Reals>(option, value);
    default:
      return cast_option<Ints>(option, value);
  }
}

// The arguments of a call: arrays by place or by name, options by name, and num_threads.
struct Arguments {
  std::vector<py::array> arrays;
  std::vector<Value> options;
  int num_threads = 1;

  Arguments(const Operator& op, const py::args& args, const py::kwargs& given) {
    if (args.size() > op.arrays.size()) {
      throw py::type_error(op.name + ": expected at most " + std::to_string(op.arrays.size()) + " arrays, got " +
                           std::to_string(args.size()) + " arguments without a name");
    }
    size_t used = 0;  // of what is given by name
    const auto take = [&](const std::string& name) {
      PyObject* const value = PyDict_GetItemString(given.ptr(), name.c_str());
      if (value == nullptr) {
        throw py::type_error(name + ": expected by " + op.name + ", got none");
      }
      ++used;
      return py::handle(value);
    };
    for (size_t i = 0; i < op.arrays.size(); ++i) {
      const py::object value =
          i < args.size() ? py::object(args[i]) : py::reinterpret_borrow<py::object>(take(op.arrays[i]));
      if (!py::isinstance<py::array>(value)) {
        throw py::type_error(op.arrays[i] + ": expected a NumPy array, got " +
                             std::string(py::str(py::type::of(value))));
      }
      arrays.push_back(py::reinterpret_borrow<py::array>(value));
    }
    for (const Option& option : op.options) {
      options.push_back(read_option(option, take(option.name)));
    }
    if (given.contains("num_threads")) {
      const Value threads = read_option({"num_threads", Kind::integer, nullptr}, take("num_threads"));
      num_threads = int(in_range("num_threads", std::get<int64_t>(threads), 1, 1024));
    }
    if (used != given.size()) {
      refuse_unknown(op, given);
    }
  }

 private:
  [[noreturn]] static void refuse_unknown(const Operator& op, const py::kwargs& given) {
    for (const auto& [key, value] : given) {
      const std::string name = py::str(key);
      const auto is_this = [&](const Option& option) { return option.name == name; };
      if (name != "num_threads" && std::none_of(op.options.begin(), op.options.end(), is_this)) {
        throw py::type_error(name + ": expected once by " + op.name + ", or not at all, got " +
                             std::string(py::repr(value)));
      }
    }
    throw py::type_error(op.name + ": expected every argument once");
  }
};

// A function of fuse.h or stages.h for Python.
template <class Traits>
void define(py::module_& m, const char* name, Results<Traits> (*function)(const Call<Traits>&)) {
  const Operator& op = operator_named(name);
  m.def(
      name,
      [&op, function](const py::args& args, const py::kwargs& given) -> py::object {
        Arguments arguments(op, args, given);
        const Traits traits{arguments.num_threads};
        const auto results = function({op, traits, std::move(arguments.arrays), std::move(arguments.options)});
        return results.size() == 1 ? py::object(results[0]) : py::object(py::cast(results).template cast<py::tuple>());
      },
      (op.schema() + ", and num_threads").c_str());
}

}  // namespace deeperlab::binding
