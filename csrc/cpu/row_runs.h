// SPDX-License-Identifier: Apache-2.0
// Where the runs of one row of maps begin, and when to stop looking.
#pragma once

#include <algorithm>
#include <cstring>

#include "deeperlab/runs.h"
#include "simd/bits.h"
#include "simd/parallel.h"
#include "simd/vector.h"

namespace deeperlab::cpu {

constexpr int few_runs = 4;  // runs that begin in one word, mostly at most: processors need not guess how many

// Whether a call ends before row y. Asked at every row it would take 5 % of the time.
inline bool stops_at(int64_t y, const Parallel& parallel) { return y % 16 == 0 && parallel.stopped(parallel); }

// Bit i: pixel i of `count` differs from its left neighbor. For any layout.
template <class T>
uint64_t differ(const char* pixel, int64_t column, int count) {
  uint64_t bits = 0;
  for (int i = 0; i < count; ++i, pixel += column) {
    bits |= uint64_t(load<T>(pixel) != load<T>(pixel - column)) << i;
  }
  return bits;
}

// The same for a word of pixels side by side: the lane of one that differs becomes other than 0.
template <class L, class T>
void differ(const char* pixel, typename L::Int* any) {
  using Pixels = Vector<T, L::count>;
  for (int i = 0; i < word / L::count; ++i, pixel += L::count * sizeof(T)) {
    Pixels change = load<Pixels>(pixel) ^ load<Pixels>(pixel - sizeof(T));
    if constexpr (sizeof(T) == 8) {
      change |= change >> 32;
    }
    any[i] |= __builtin_convertvector(change, typename L::Int);
  }
}

template <class L, class T>
uint64_t differ(const char* pixel, int64_t column, int count, typename L::Int* any) {
  if (column != int64_t(sizeof(T)) || count < word) {
    return differ<T>(pixel, column, count);
  }
  differ<L, T>(pixel, any);
  return 0;
}

// Either way: bits, or lanes of `any`.
template <class L>
uint64_t differ(const IdMap& map, int64_t y, int64_t x, int count, typename L::Int* any) {
  const char* pixel = map.data + y * map.row + x * map.column;
  switch (map.bytes) {
    case 1:
      return differ<L, uint8_t>(pixel, map.column, count, any);
    case 2:
      return differ<L, uint16_t>(pixel, map.column, count, any);
    case 4:
      return differ<L, uint32_t>(pixel, map.column, count, any);
    default:
      return differ<L, uint64_t>(pixel, map.column, count, any);
  }
}

// The columns where the runs of row y begin, then the width; returns how many runs. The plain form compares every pixel
// with its left neighbor.
inline int64_t plain_row_runs(const IdMaps& maps, int64_t y, int64_t* starts) {
  int64_t found = 0;
  starts[found++] = 0;
  for (int64_t x = 1; x < maps.width; ++x) {
    bool differs = false;
    for (int m = 0; m < maps.number; ++m) {
      const IdMap& map = maps.map[m];
      const char* pixel = map.data + y * map.row + x * map.column;
      differs |= memcmp(pixel, pixel - map.column, size_t(map.bytes)) != 0;
    }
    if (differs) {
      starts[found++] = x;
    }
  }
  starts[found] = maps.width;
  return found;
}

// The fast form reads all maps word by word: what is done with a word is hidden behind the memory of the next.
template <class L, int maps>
int64_t row_runs(const IdMap* map, int64_t y, int64_t width, int64_t* starts) {
  int64_t found = 0;
  starts[found++] = 0;
  for (int64_t begin = 1; begin < width; begin += word) {
    const int64_t x = std::max<int64_t>(1, std::min(begin, width - word));  // the last word overlaps the one before
    const int count = int(std::min(word, width - x));
    typename L::Int any[word / L::count] = {};
    uint64_t bits = 0;
    for (int m = 0; m < maps; ++m) {
      bits |= differ<L>(map[m], y, x, count, any);
    }
    bits = (bits | bits_of_word<L>(any)) & ~uint64_t(0) << (begin - x);
    for (int i = 0; i < few_runs; ++i) {
      starts[found] = x + __builtin_ctzll(bits | uint64_t(1) << (word - 1));
      found += bits != 0;
      bits &= bits - 1;
    }
    for (; bits != 0; bits &= bits - 1) {
      starts[found++] = x + __builtin_ctzll(bits);
    }
  }
  starts[found] = width;
  return found;
}

}  // namespace deeperlab::cpu
