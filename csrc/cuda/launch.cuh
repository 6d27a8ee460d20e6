// SPDX-License-Identifier: Apache-2.0
// How kernels are launched, and where a thread finds itself. Kernels know nothing of torch; every one of them is also
// compiled as plain C++, with threads emulated, for the tests (tests/emulator).
#pragma once

#include <cuda_runtime.h>

#include "deeperlab/values.h"

namespace deeperlab::cuda {

constexpr int warp = 32;
constexpr int block = 256;  // threads
constexpr int warps_of_block = block / warp;
constexpr unsigned all_lanes = 0xffffffffu;

__device__ inline int64_t thread_index() { return int64_t(blockIdx.x) * blockDim.x + threadIdx.x; }
__device__ inline int lane_index() { return int(threadIdx.x) % warp; }

// Work that comes as a list for each image, whose length only the device knows: the warps of an image take entries
// first, first + step, …
struct ListShare {
  int64_t image;
  int32_t first, step;
};

__device__ inline ListShare list_share(int64_t images) {
  const int64_t index = blockIdx.x / images, blocks = gridDim.x / images;
  return {blockIdx.x % images, int32_t(index * warps_of_block + threadIdx.x / warp), int32_t(blocks * warps_of_block)};
}

constexpr int64_t blocks_for(int64_t count, int64_t each) { return (count + each - 1) / each; }

// Launches a kernel over `blocks` blocks; none: there is nothing to do. A failure stays with the runtime until
// cudaGetLastError asks; more blocks than a grid has become none, which is one.
template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), int64_t blocks, Stream stream, const Arguments&... arguments) {
  if (blocks == 0) {
    return;
  }
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(blocks > 0x7fffffff ? 0u : unsigned(blocks));
  config.blockDim = dim3(block);
  config.stream = static_cast<cudaStream_t>(stream);
  cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...);
}

// Over the lists of all images, whose number is the kernel's first parameter: as many blocks as keep the device busy.
template <class... Parameters, class... Arguments>
void launch_lists(void (*kernel)(Parameters...), int64_t images, Stream stream, const Arguments&... arguments) {
  int device = 0, processors = 1;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
  const int64_t each = 2 * processors / images;
  launch(kernel, images * (each > 1 ? each : 1), stream, images, arguments...);
}

// An error in words; nullptr: none.
inline const char* explain(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return nullptr;
    case cudaErrorNoKernelImageForDevice:
      return "there is no kernel for its architecture; rebuild with CMAKE_CUDA_ARCHITECTURES=native";
    case cudaErrorInsufficientDriver:
      return "its driver is too old for the CUDA that deeperlab was built with; CUDA 13 needs driver 580 or later";
    default:
      return cudaGetErrorString(error);
  }
}

template <class T>
void fill_with_zeros(T* array, int64_t count, Stream stream) {
  cudaMemsetAsync(array, 0, size_t(count) * sizeof(T), static_cast<cudaStream_t>(stream));
}

// Reductions over all lanes of a warp.
template <class T, class Combine>
__device__ inline T reduce_warp(T value, const Combine& combine) {
  for (int offset = warp / 2; offset > 0; offset /= 2) {
    value = combine(value, __shfl_xor_sync(all_lanes, value, offset));
  }
  return value;
}

__device__ inline int64_t sum_warp(int64_t value) {
  return reduce_warp(static_cast<long long>(value), [](long long a, long long b) { return a + b; });
}

}  // namespace deeperlab::cuda
