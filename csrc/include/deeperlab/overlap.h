// SPDX-License-Identifier: Apache-2.0
// overlap: how many pixels each combination of ids has in maps laid over one another (counts for the metrics).
#pragma once

#include "deeperlab/runs.h"

namespace deeperlab {

// The distinct combinations of ids.
struct Combinations {
  int64_t* ids;      // [capacity, maps] in the order of their first pixels (rows from the top, each from the left)
  int64_t* pixels;   // [capacity]
  int64_t capacity;  // 2^30 at most; the number of pixels always suffices
};

// Random numbers, new for every count: whatever the ids are, they collide no more often than random ones.
struct Hashing {
  uint64_t start, low[max_maps], high[max_maps];
};

// The slot of a combination of ids in a table of 2^(32 − shift). The upper half of the sum is strongly universal
// (Lemire and Kaser 2014, "multilinear"): over the random numbers, the values of any two combinations are uniform and
// independent. The last step is a permutation, which changes nothing of that, but what still is regular, such as ids in
// equal steps, would stand side by side without it.
template <int maps>
uint32_t slot_of(const int64_t* ids, const Hashing& random, int shift) {
  uint64_t sum = random.start;
  for (int m = 0; m < maps; ++m) {
    sum += (uint64_t(ids[m]) & 0xffffffffu) * random.low[m] + (uint64_t(ids[m]) >> 32) * random.high[m];
  }
  const uint32_t hash = uint32_t(sum >> 32);
  return ((hash ^ hash >> 15) * 0x9e3779b1u) >> shift;
}

namespace cpu {

struct Parallel;

int64_t overlap_scratch_bytes(int64_t width, int64_t capacity);

// Counts the pixels of every combination; returns how many there are, or -1 if more than there is room for. Ids are
// widened to 64 bits, uint64 keeps its bits. No result depends on `random`. One thread counts.
int64_t overlap(const IdMaps& maps, const Hashing& random, const Combinations& found, void* scratch,
                const Parallel& parallel);

}  // namespace cpu
}  // namespace deeperlab
