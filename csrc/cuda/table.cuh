// SPDX-License-Identifier: Apache-2.0
// Counters of a block: what its threads add to the same counter in global memory is added up in shared memory first, so
// that many threads that count for few (a large instance) do not queue for one address. A hash table that need not hold
// everything: what finds no slot goes straight to global memory. Sums of integers, so who adds when is of no account.
#pragma once

#include "launch.cuh"

namespace deeperlab::cuda {

template <int bits>
struct Table {
  static constexpr int slots = 1 << bits;
  static constexpr uint32_t empty = 0xffffffffu;
  static constexpr int probes = 8;

  uint32_t keys[slots];
  uint32_t sums[slots];

  // By all threads of a block, with a barrier after it.
  __device__ void clear() {
    for (int i = int(threadIdx.x); i < slots; i += int(blockDim.x)) {
      keys[i] = empty;
      sums[i] = 0;
    }
  }

  // Adds to the counter `key`; direct(key, value) where there is no room. A table's sums must stay below 2^32.
  template <class Direct>
  __device__ void add(uint32_t key, uint32_t value, const Direct& direct) {
    if (value == 0) {
      return;
    }
    uint32_t slot = (key * 2654435769u) >> (32 - bits);
#pragma unroll 1
    for (int probe = 0; probe < probes; ++probe) {
      const uint32_t seen = atomicCAS(&keys[slot], empty, key);
      if (seen == empty || seen == key) {
        atomicAdd(&sums[slot], value);
        return;
      }
      slot = (slot + 1) & (slots - 1);
    }
    direct(key, value);
  }

  // By all threads, after a barrier: hands every sum to direct(key, value).
  template <class Direct>
  __device__ void flush(const Direct& direct) const {
    for (int i = int(threadIdx.x); i < slots; i += int(blockDim.x)) {
      if (sums[i] != 0) {
        direct(keys[i], sums[i]);
      }
    }
  }
};

}  // namespace deeperlab::cuda
