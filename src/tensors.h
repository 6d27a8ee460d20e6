// SPDX-License-Identifier: Apache-2.0
// Tensor -> view: the only place of _C that checks memory. Outputs and scratch come from torch's allocator.
#pragma once

#include <sys/mman.h>

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <algorithm>

#include "parallel.h"
#include "arguments.h"

namespace deeperlab::binding {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

inline bool type_of(const Tensor& tensor, Type& type) {
  switch (tensor.scalar_type()) {
    case ScalarType::Float:
      type = Type::float32;
      return true;
    case ScalarType::Half:
      type = Type::float16;
      return true;
    case ScalarType::BFloat16:
      type = Type::bfloat16;
      return true;
    case ScalarType::Byte:
      type = Type::uint8;
      return true;
    case ScalarType::Short:
      type = Type::int16;
      return true;
    case ScalarType::Int:
      type = Type::int32;
      return true;
    case ScalarType::Long:
      type = Type::int64;
      return true;
    default:
      return false;
  }
}

inline void require_shape(const Tensor& tensor, const char* name, std::initializer_list<int64_t> expected) {
  const auto sizes = tensor.sizes();
  const bool equal = sizes.size() == expected.size() && std::equal(expected.begin(), expected.end(), sizes.begin());
  require(equal, name, ": expected shape ", text(expected.begin(), expected.size()), ", got ",
          text(sizes.data(), sizes.size()));
}

// A head [N, channels, h, w] of any floating type and any strides. Every head of a call has the type of `like`.
inline View head(const Tensor& tensor, const char* name, const Tensor& like, std::initializer_list<int64_t> expected) {
  require_shape(tensor, name, expected);
  View view{tensor.const_data_ptr(), Type::float32,    tensor.stride(0),
            tensor.stride(1),        tensor.stride(2), tensor.stride(3)};
  require(type_of(tensor, view.type) && is_floating(view.type), name, ": expected float32, float16 or bfloat16");
  require(tensor.scalar_type() == like.scalar_type(), name, ": expected the dtype of the other heads");
  return view;
}

// Logits [N, C, h, w], or integer labels [N, H, W].
inline View semantic_view(const Tensor& tensor, const Tensor& like, const Shape& shape) {
  if (tensor.dim() == 4) {
    return head(tensor, "semantic", like, {shape.images, shape.classes, shape.h, shape.w});
  }
  require_shape(tensor, "semantic", {shape.images, shape.height, shape.width});
  View view{tensor.const_data_ptr(), Type::int32, tensor.stride(0), 0, tensor.stride(1), tensor.stride(2)};
  require(type_of(tensor, view.type) && !is_floating(view.type),
          "semantic: expected labels of type uint8, int16, int32 or int64");
  return view;
}

// What one stage hands to the next: contiguous, of one exact type.
template <class T>
const T* array(const Tensor& tensor, const char* name, ScalarType type, std::initializer_list<int64_t> expected) {
  require_shape(tensor, name, expected);
  require(tensor.scalar_type() == type, name, ": unexpected dtype");
  require(tensor.is_contiguous(), name, ": expected a contiguous tensor");
  return static_cast<const T*>(tensor.const_data_ptr());
}

// The same for integers that index memory: every value must lie in [low, high].
inline const int32_t* indices(const Tensor& tensor, const char* name, std::initializer_list<int64_t> expected,
                              int64_t low, int64_t high) {
  const int32_t* data = array<int32_t>(tensor, name, ScalarType::Int, expected);
  for (int64_t i = 0, count = tensor.numel(); i < count; ++i) {
    require(data[i] >= low && data[i] <= high, name, ": expected values in [", low, ", ", high, "], got ", data[i]);
  }
  return data;
}

// An uninitialised tensor on the CPU. A large one sits on a 2 MiB boundary and asks for huge pages: the page faults
// of a fresh 8.3 MB map cost more than all the work on it otherwise.
inline Tensor allocate(std::initializer_list<int64_t> sizes, ScalarType type) {
  constexpr int64_t huge = int64_t(2) << 20;
  const auto device = torch::stable::Device(torch::headeronly::DeviceType::CPU);
  const int64_t width = type == ScalarType::Long ? 8 : type == ScalarType::Bool || type == ScalarType::Byte ? 1 : 4;
  int64_t bytes = width;
  for (const int64_t size : sizes) {
    bytes *= size;
  }
  const torch::headeronly::IntHeaderOnlyArrayRef shape(sizes.begin(), sizes.size());
  if (bytes < 2 * huge) {
    return torch::stable::empty(shape, type, std::nullopt, device);
  }
  const int64_t block_bytes = bytes + huge;
  Tensor block = torch::stable::empty({&block_bytes, 1}, ScalarType::Byte, std::nullopt, device);
  const auto start = (reinterpret_cast<uintptr_t>(block.mutable_data_ptr()) + huge - 1) / huge * huge;
  void* data = reinterpret_cast<void*>(start);
  madvise(data, size_t(bytes), MADV_HUGEPAGE);  // advice: where it is not taken, nothing is lost
  Ints strides(sizes.size(), 1);
  for (size_t i = sizes.size(); i-- > 1;) {
    strides[i - 1] = strides[i] * sizes.begin()[i];
  }
  return torch::stable::from_blob(data, shape, strides, device, type, [block](void*) {});
}

inline void run_on_torch_threads(const cpu::Parallel&, int64_t n, int64_t grain, cpu::Parallel::Range range,
                                 void* closure) {
  torch::stable::parallel_for(0, n, grain, [=](int64_t begin, int64_t end) { range(closure, begin, end); });
}

inline cpu::Parallel torch_threads() { return {&run_on_torch_threads, 0}; }

template <class T>
T* out(const Tensor& tensor) {
  return static_cast<T*>(tensor.mutable_data_ptr());
}

}  // namespace deeperlab::binding
