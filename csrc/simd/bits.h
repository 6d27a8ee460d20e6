// SPDX-License-Identifier: Apache-2.0
// 64 pixels as bits of a word: where something begins or ends is found by counting zeros, not pixel by pixel.
#pragma once

#include "simd/number.h"

namespace deeperlab::cpu {

constexpr int64_t word = 64;

// Bit i: lane i of the vectors any[word / L::count] is not 0.
template <class L>
uint64_t bits_of_word(const typename L::Int* any) {
  using Int = typename L::Int;
  uint64_t zeros = 0;
  for (int i = 0; i < int(word) / L::count; ++i) {
    zeros |= uint64_t(bits_of(equal(any[i], Int{}))) << (i * L::count);
  }
  return ~zeros;
}

}  // namespace deeperlab::cpu
