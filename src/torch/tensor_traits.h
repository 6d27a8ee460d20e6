// SPDX-License-Identifier: Apache-2.0
// Torch tensors on the CPU. Outputs and scratch come from torch's allocator.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include "common/call.h"
#include "common/platform.h"
#include "common/threads.h"
#include "forked.h"
#include "signals.h"

namespace deeperlab::binding {

struct TensorTraits {
  using Array = torch::stable::Tensor;
  using ScalarType = torch::headeronly::ScalarType;
  struct Release {};  // torch has released the GIL before it calls an operator
  static constexpr const char* floats = "float32, float16 or bfloat16";

  mutable Interrupt interrupt{signal_poll()};

  static int64_t rank(const Array& tensor) { return tensor.dim(); }
  static int64_t extent(const Array& tensor, int64_t axis) { return tensor.size(axis); }
  // torch counts strides in elements, but torch.frombuffer gives memory that is not aligned, and a storage may have
  // been freed or shortened since the tensor was made.
  static void require_memory(const Array& tensor, const char* name) {
    const int64_t width = int64_t(tensor.element_size());
    const int64_t past = int64_t(reinterpret_cast<uintptr_t>(data(tensor)) % size_t(width));
    require(past == 0, name, ": expected aligned memory, got ", past, " bytes past an element of ", width,
            "; pass a clone");
    int64_t held = 0;
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_storage_size(tensor.get(), &held));
    int64_t last = tensor.storage_offset();  // the farthest element
    bool empty = false, fits = true;
    for (int64_t axis = 0; axis < rank(tensor); ++axis) {
      int64_t reach = 0;
      empty = empty || extent(tensor, axis) == 0;
      fits = fits && !__builtin_mul_overflow(extent(tensor, axis) - 1, stride(tensor, axis), &reach) &&
             !__builtin_add_overflow(last, reach, &last);
    }
    require(empty || (fits && last < held / width), name, ": expected a storage that holds the tensor, got one of ",
            held, " bytes; was it freed or resized?");
  }

  static void require_place(const Array& tensor, const char* name, const Array& like) {
    require(tensor.is_cuda() == like.is_cuda() && tensor.get_device_index() == like.get_device_index(), name,
            ": expected the device of the other tensors, got ", tensor.is_cuda() ? "CUDA device " : "device ",
            tensor.get_device_index());
  }

  static int64_t stride(const Array& tensor, int64_t axis) { return tensor.size(axis) > 1 ? tensor.stride(axis) : 0; }
  static const void* data(const Array& tensor) { return tensor.const_data_ptr(); }

  static bool type(const Array& tensor, Type& type) {
    constexpr ScalarType types[] = {ScalarType::Float, ScalarType::Half, ScalarType::BFloat16, ScalarType::Byte,
                                    ScalarType::Short, ScalarType::Int,  ScalarType::Long};
    for (int i = 0; i < 7; ++i) {
      if (tensor.scalar_type() == types[i]) {
        type = Type(i);
        return true;
      }
    }
    return false;
  }

  static std::string dtype(const Array& tensor) {
    std::ostringstream name;
    name << torch::headeronly::toString(tensor.scalar_type());
    return name.str();
  }

  // The stable ABI cannot raise a TypeError; deeperlab.fuse does so before an operator is called.
  [[noreturn]] static void refuse_type(const std::string& message) { throw std::invalid_argument(message); }

  void raise_interrupt() const {
    if (interrupt.raised()) {
      throw std::runtime_error(interrupted);
    }
  }

  template <class T>
  static constexpr ScalarType scalar_type() {
    return std::is_same_v<T, float>     ? ScalarType::Float
           : std::is_same_v<T, int32_t> ? ScalarType::Int
           : std::is_same_v<T, int64_t> ? ScalarType::Long
           : std::is_same_v<T, bool>    ? ScalarType::Bool
                                        : ScalarType::Byte;
  }

  // torch's `empty` of elements of `width` bytes. Its error would name a function of torch, not what is lacking.
  static Array empty(Sizes sizes, ScalarType type, int64_t width, const torch::stable::Device& device) {
    try {
      return torch::stable::empty({sizes.begin(), sizes.size()}, type, std::nullopt, device);
    } catch (const std::runtime_error&) {
      const std::string place = device.is_cpu() ? "the CPU" : "CUDA device " + std::to_string(device.index());
      throw std::runtime_error(no_memory(width * product(sizes), place));
    }
  }

  template <class T>
  static Array make(Sizes sizes) {
    return allocate(sizes, scalar_type<T>(), sizeof(T));
  }

  cpu::Parallel parallel() const {
    if (is_forked_child()) {
      return {&run_on_threads, &is_stopped, &interrupt, int(torch::stable::get_num_threads()), simd()};
    }
    return {&run_on_pool, &is_stopped, &interrupt, 0, simd()};
  }
  CpuEngine engine() const { return {parallel()}; }

 private:
  static void run_on_pool(const cpu::Parallel& self, int64_t n, int64_t grain, cpu::Parallel::Range range,
                          void* closure) {
    Interrupt& interrupt = *static_cast<Interrupt*>(self.call);
    std::atomic<int64_t> left{n};
    torch::stable::parallel_for(0, n, grain, [&](int64_t begin, int64_t end) {
      range(closure, begin, end);
      interrupt.finish(left, end - begin);
    });
  }

  // A large tensor sits on a 2 MiB boundary and asks for huge pages: the page faults of a fresh 8.3 MB map cost more
  // than all the work on it otherwise.
  static Array allocate(Sizes sizes, ScalarType type, int64_t width) {
    constexpr int64_t huge = int64_t(2) << 20;
    const torch::stable::Device device(torch::headeronly::DeviceType::CPU);
    const int64_t bytes = width * product(sizes);
    if (bytes < 2 * huge) {
      return empty(sizes, type, width, device);
    }
    const int64_t advised = (bytes + huge - 1) / huge * huge;  // the last page too: its small pages would cost as much
    Array block = empty({advised + huge}, ScalarType::Byte, 1, device);
    const uintptr_t start = (reinterpret_cast<uintptr_t>(block.mutable_data_ptr()) + huge - 1) / huge * huge;
    void* data = reinterpret_cast<void*>(start);
    advise_huge_pages(data, size_t(advised));
    Ints strides(sizes.size(), 1);
    for (size_t i = sizes.size(); i-- > 1;) {
      strides[i - 1] = strides[i] * sizes.begin()[i];
    }
    return torch::stable::from_blob(data, {sizes.begin(), sizes.size()}, strides, device, type, [block](void*) {});
  }
};

// What torch hands over.
inline Value read_option(Kind kind, StableIValue value) {
  using torch::stable::detail::to;
  switch (kind) {
    case Kind::flag:
      return to<bool>(value);
    case Kind::integer:
      return to<int64_t>(value);
    case Kind::real:
      return to<double>(value);
    case Kind::optional_real: {
      const auto given = to<std::optional<double>>(value);
      return given ? Value(*given) : Value();
    }
    case Kind::word:
      return to<std::string>(value);
    case Kind::reals:
      return to<Reals>(value);
    default:
      return to<Ints>(value);
  }
}

// Arguments of a call, which own what torch has handed over.
struct Arguments {
  std::vector<TensorTraits::Array> arrays;
  std::vector<Value> options;

  Arguments(const Operator& op, const StableIValue* stack) {
    arrays.reserve(op.arrays.size());
    options.reserve(op.options.size());
    for (size_t i = 0; i < op.arrays.size(); ++i) {
      arrays.push_back(torch::stable::detail::to<TensorTraits::Array>(stack[i]));
    }
    for (size_t i = 0; i < op.options.size(); ++i) {
      options.push_back(read_option(op.options[i].kind, stack[op.arrays.size() + i]));
    }
  }
};

inline void write_results(const std::vector<TensorTraits::Array>& results, StableIValue* stack) {
  for (size_t i = 0; i < results.size(); ++i) {
    stack[i] = torch::stable::detail::from(results[i]);
  }
}

}  // namespace deeperlab::binding
