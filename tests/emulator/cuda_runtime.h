// SPDX-License-Identifier: Apache-2.0
// As much of the CUDA runtime as csrc/cuda asks for, on one processor: the text of the kernels is compiled as C++, and
// every thread of a block runs on a fibre of its own, in order or in reverse. It proves what kernels compute, barriers
// and warps included; it does not prove that they are free of races.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <utility>

#define __global__
#define __device__
#define __host__
#define __shared__ static  // blocks run one after the other

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  dim3() = default;
  explicit dim3(unsigned own_x) : x(own_x) {}
};

using cudaStream_t = void*;
enum cudaError_t { cudaSuccess, cudaErrorNoKernelImageForDevice, cudaErrorInsufficientDriver, cudaErrorUnknown };
enum cudaDeviceAttr { cudaDevAttrMultiProcessorCount };
enum cudaMemcpyKind { cudaMemcpyDeviceToHost };
enum cudaStreamCaptureStatus { cudaStreamCaptureStatusNone, cudaStreamCaptureStatusActive };
struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  cudaStream_t stream = nullptr;
};

inline cudaError_t cudaGetDevice(int* device) { return *device = 0, cudaSuccess; }
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr, int) { return *value = 1, cudaSuccess; }
inline const char* cudaGetErrorString(cudaError_t) { return "the words of CUDA"; }
inline cudaError_t cudaMemsetAsync(void* data, int value, size_t bytes, cudaStream_t) {
  memset(data, value, bytes);
  return cudaSuccess;
}

extern thread_local dim3 gridDim, blockDim, blockIdx, threadIdx;  // of the thread that runs

namespace emulator {

extern thread_local bool reversed, captured;               // captured: a graph, not that it would be
extern thread_local cudaError_t last_error, launch_error;  // launch_error: what the next launches end with

void run_grid(unsigned blocks, unsigned threads, const std::function<void()>& kernel);
void pass();  // lets others run
void block_barrier();
// Waits until every lane of `lanes` has given a value; gives those of all.
const unsigned long long* exchange(unsigned lanes, unsigned long long value);

template <class T>
unsigned long long pack(T value) {
  unsigned long long bits = 0;
  memcpy(&bits, &value, sizeof value);
  return bits;
}

template <class T>
T unpack(unsigned long long bits) {
  T value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

}  // namespace emulator

template <class... Parameters, class... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               Arguments&&... arguments) {
  if (emulator::launch_error == cudaSuccess) {
    emulator::run_grid(config->gridDim.x, config->blockDim.x, [&] { kernel(arguments...); });
  } else {
    emulator::last_error = emulator::launch_error;
  }
  return emulator::launch_error;
}

inline cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t) {
  memcpy(to, from, bytes);
  return cudaSuccess;
}
inline cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
inline cudaError_t cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus* status) {
  *status = emulator::captured ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
  return cudaSuccess;
}
inline cudaError_t cudaGetLastError() { return std::exchange(emulator::last_error, cudaSuccess); }

inline void __syncthreads() { emulator::block_barrier(); }
inline void __syncwarp() { emulator::exchange(0xffffffffu, 0); }
inline void __nanosleep(unsigned) { emulator::pass(); }
inline int __ffs(int bits) { return __builtin_ffs(bits); }
inline int __popc(unsigned bits) { return __builtin_popcount(bits); }

inline unsigned __ballot_sync(unsigned lanes, int predicate) {
  const unsigned long long* given = emulator::exchange(lanes, predicate != 0);
  unsigned bits = 0;
  for (unsigned i = 0; i < 32; ++i) {
    bits |= unsigned(lanes >> i & 1u && given[i] != 0) << i;
  }
  return bits;
}
inline int __any_sync(unsigned lanes, int predicate) { return __ballot_sync(lanes, predicate) != 0; }
inline int __all_sync(unsigned lanes, int predicate) { return __ballot_sync(lanes, predicate) == lanes; }

template <class T>
T __shfl_sync(unsigned lanes, T value, int from) {
  return emulator::unpack<T>(emulator::exchange(lanes, emulator::pack(value))[from % 32]);
}
template <class T>
T __shfl_xor_sync(unsigned lanes, T value, int with) {
  return __shfl_sync(lanes, value, int(threadIdx.x % 32) ^ with);
}

template <class T>
T atomicAdd(T* address, T value) {
  const T before = *address;
  *address = before + value;
  return before;
}
template <class T>
T atomicMin(T* address, T value) {
  return std::exchange(*address, value < *address ? value : *address);
}
template <class T>
T atomicMax(T* address, T value) {
  return std::exchange(*address, value > *address ? value : *address);
}
template <class T>
T atomicExch(T* address, T value) {
  return std::exchange(*address, value);
}
template <class T>
T atomicCAS(T* address, T expected, T value) {
  return *address == expected ? std::exchange(*address, value) : *address;
}
