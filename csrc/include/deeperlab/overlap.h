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

// The slot of a combination of ids in a table of 2^(64 − shift). `odd` is chosen per process, so that no file can be
// made whose ids all collide; its powers, one per map, are multiplied side by side, and all bits reach the highest.
template <int maps>
uint64_t slot_of(const int64_t* ids, uint64_t odd, int shift) {
  uint64_t hash = 0, power = odd;
  for (int m = 0; m < maps; ++m) {
    hash += uint64_t(ids[m]) * power;
    power *= odd;
  }
  return hash >> shift;
}

namespace cpu {

enum class Simd : uint8_t;

int64_t overlap_scratch_bytes(int64_t width, int64_t capacity);

// Counts the pixels of every combination; returns how many there are, or -1 if more than there is room for. Ids are
// widened to 64 bits, uint64 keeps its bits. `odd` is any odd number; no result depends on it.
int64_t overlap(const IdMaps& maps, uint64_t odd, const Combinations& found, void* scratch, Simd simd);

}  // namespace cpu
}  // namespace deeperlab
