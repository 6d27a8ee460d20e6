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

// Lane i: bit i of `bits`, of which there are at least as many.
template <class V>
MaskOf<V> lanes_of_bits(uint32_t bits) {
  V lane_bit;
  for (int i = 0; i < lanes_of<V>; ++i) {
    lane_bit[i] = int32_t(1u << i);
  }
  return equal(broadcast<V>(int32_t(bits)) & lane_bit, lane_bit);
}

}  // namespace deeperlab::cpu
