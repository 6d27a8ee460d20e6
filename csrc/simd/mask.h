// SPDX-License-Identifier: Apache-2.0
// The answer of a comparison of vectors, lane by lane, and as bits.
#pragma once

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "simd/vector.h"

namespace deeperlab::cpu {

// AVX-512 has registers of bits for masks, which GCC 12 does not use of its own accord where comparisons are combined:
// it takes vectors of 512 bits apart instead.
template <int lanes>
struct Mask {
  Vector<int32_t, lanes> lane;  // -1: true, 0: false
};

template <int lanes>
Mask<lanes> operator&(const Mask<lanes>& a, const Mask<lanes>& b) {
  return {a.lane & b.lane};
}

template <int lanes>
Mask<lanes> operator|(const Mask<lanes>& a, const Mask<lanes>& b) {
  return {a.lane | b.lane};
}

// Bit i of the result is lane i.
inline uint32_t bits_of(const Mask<4>& mask) {
#if defined(__x86_64__)
  return uint32_t(_mm_movemask_ps(reinterpret_cast<__m128>(mask.lane)));
#else
  return (mask.lane[0] & 1u) | (mask.lane[1] & 2u) | (mask.lane[2] & 4u) | (mask.lane[3] & 8u);
#endif
}

#if defined(DEEPERLAB_AVX)
[[gnu::target("avx2")]] inline uint32_t bits_of(const Mask<8>& mask) {
  return uint32_t(_mm256_movemask_ps(reinterpret_cast<__m256>(mask.lane)));
}

template <>
struct Mask<16> {
  uint16_t bits;
};

inline Mask<16> operator&(Mask<16> a, Mask<16> b) { return {uint16_t(a.bits & b.bits)}; }
inline Mask<16> operator|(Mask<16> a, Mask<16> b) { return {uint16_t(a.bits | b.bits)}; }
inline uint32_t bits_of(Mask<16> mask) { return mask.bits; }
#endif

// Every lane of a V.
template <class V>
constexpr uint32_t all_bits = (1u << lanes_of<V>)-1;

template <int lanes>
bool any(const Mask<lanes>& mask) {
  return bits_of(mask) != 0;
}

template <int lanes>
bool all(const Mask<lanes>& mask) {
  return bits_of(mask) == (1u << lanes) - 1;
}

// Calls visit(i) for every bit set.
template <class Visit>
void visit_bits(uint32_t bits, const Visit& visit) {
  for (; bits != 0; bits &= bits - 1) {
    visit(__builtin_ctz(bits));
  }
}

}  // namespace deeperlab::cpu
