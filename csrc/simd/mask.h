// SPDX-License-Identifier: Apache-2.0
// Comparisons of vectors, the choices they make, and their answers as bits.
#pragma once

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "deeperlab/types.h"
#include "simd/dispatch.h"

namespace deeperlab::cpu {

template <class V>
constexpr int lanes_of = int(sizeof(V) / sizeof(float));

// One value in all lanes. (`x + V{}` is taken apart by GCC 12, lane by lane, for wide vectors.)
#if defined(__x86_64__)
[[gnu::target("avx512f")]] inline void spread(float x, Vector<float, 16>& out) {
  out = reinterpret_cast<Vector<float, 16>>(_mm512_set1_ps(x));
}
[[gnu::target("avx512f")]] inline void spread(int32_t x, Vector<int32_t, 16>& out) {
  out = reinterpret_cast<Vector<int32_t, 16>>(_mm512_set1_epi32(x));
}
[[gnu::target("avx2")]] inline void spread(float x, Vector<float, 8>& out) {
  out = reinterpret_cast<Vector<float, 8>>(_mm256_set1_ps(x));
}
[[gnu::target("avx2")]] inline void spread(int32_t x, Vector<int32_t, 8>& out) {
  out = reinterpret_cast<Vector<int32_t, 8>>(_mm256_set1_epi32(x));
}
#endif
inline void spread(float x, Vector<float, 4>& out) { out = Vector<float, 4>{x, x, x, x}; }
inline void spread(int32_t x, Vector<int32_t, 4>& out) { out = Vector<int32_t, 4>{x, x, x, x}; }

template <class V, class T>
V all(T x) {
  V out;
  spread(x, out);
  return out;
}

// The answer of a comparison, lane by lane, and the choice it makes. AVX-512 has registers of bits for it, which GCC 12
// does not use of its own accord where comparisons are combined: it takes vectors of 512 bits apart instead.
template <int lanes>
struct Mask {
  Vector<int32_t, lanes> lane;  // -1: true, 0: false
};
template <class V>
using MaskOf = Mask<lanes_of<V>>;

template <int lanes>
Mask<lanes> operator&(Mask<lanes> a, Mask<lanes> b) {
  return {a.lane & b.lane};
}

template <class V>
MaskOf<V> less(const V& a, const V& b) {
  return {a < b};
}

template <class V>
MaskOf<V> less_equal(const V& a, const V& b) {
  return {a <= b};
}

template <class V>
MaskOf<V> equal(const V& a, const V& b) {
  return {a == b};
}

template <class V>
V choose(MaskOf<V> mask, const V& a, const V& b) {
  return mask.lane ? a : b;
}

// The greater, the lesser; b where either is NaN.
template <class V>
V max_lanes(const V& a, const V& b) {
  return a > b ? a : b;
}

template <class V>
V min_lanes(const V& a, const V& b) {
  return a < b ? a : b;
}

// Bit i of the result is lane i.
inline uint32_t bits_of(Mask<4> mask) {
#if defined(__x86_64__)
  return uint32_t(_mm_movemask_ps(reinterpret_cast<__m128>(mask.lane)));
#else
  return (mask.lane[0] & 1u) | (mask.lane[1] & 2u) | (mask.lane[2] & 4u) | (mask.lane[3] & 8u);
#endif
}

#if defined(__x86_64__)
[[gnu::target("avx2")]] inline uint32_t bits_of(const Mask<8>& mask) {
  return uint32_t(_mm256_movemask_ps(reinterpret_cast<__m256>(mask.lane)));
}

[[gnu::target("avx2")]] inline Vector<float, 8> max_lanes(const Vector<float, 8>& a, const Vector<float, 8>& b) {
  return reinterpret_cast<Vector<float, 8>>(_mm256_max_ps(reinterpret_cast<__m256>(a), reinterpret_cast<__m256>(b)));
}

[[gnu::target("avx2")]] inline Vector<float, 8> min_lanes(const Vector<float, 8>& a, const Vector<float, 8>& b) {
  return reinterpret_cast<Vector<float, 8>>(_mm256_min_ps(reinterpret_cast<__m256>(a), reinterpret_cast<__m256>(b)));
}

template <>
struct Mask<16> {
  uint16_t bits;
};

inline Mask<16> operator&(Mask<16> a, Mask<16> b) { return {uint16_t(a.bits & b.bits)}; }
inline uint32_t bits_of(Mask<16> mask) { return mask.bits; }

using Float16 = Vector<float, 16>;
using Int16 = Vector<int32_t, 16>;

[[gnu::target("avx512f")]] inline Mask<16> less(const Float16& a, const Float16& b) {
  return {_mm512_cmp_ps_mask(reinterpret_cast<__m512>(a), reinterpret_cast<__m512>(b), _CMP_LT_OQ)};
}

[[gnu::target("avx512f")]] inline Mask<16> less_equal(const Float16& a, const Float16& b) {
  return {_mm512_cmp_ps_mask(reinterpret_cast<__m512>(a), reinterpret_cast<__m512>(b), _CMP_LE_OQ)};
}

[[gnu::target("avx512f")]] inline Mask<16> equal(const Float16& a, const Float16& b) {
  return {_mm512_cmp_ps_mask(reinterpret_cast<__m512>(a), reinterpret_cast<__m512>(b), _CMP_EQ_OQ)};
}

[[gnu::target("avx512f")]] inline Mask<16> less(const Int16& a, const Int16& b) {
  return {_mm512_cmplt_epi32_mask(reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(b))};
}

[[gnu::target("avx512f")]] inline Mask<16> equal(const Int16& a, const Int16& b) {
  return {_mm512_cmpeq_epi32_mask(reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(b))};
}

[[gnu::target("avx512f")]] inline Float16 max_lanes(const Float16& a, const Float16& b) {
  return reinterpret_cast<Float16>(
      _mm512_maskz_max_ps(0xffff, reinterpret_cast<__m512>(a), reinterpret_cast<__m512>(b)));
}

[[gnu::target("avx512f")]] inline Float16 min_lanes(const Float16& a, const Float16& b) {
  return reinterpret_cast<Float16>(
      _mm512_maskz_min_ps(0xffff, reinterpret_cast<__m512>(a), reinterpret_cast<__m512>(b)));
}

[[gnu::target("avx512f")]] inline Float16 choose(Mask<16> mask, const Float16& a, const Float16& b) {
  return reinterpret_cast<Float16>(
      _mm512_mask_blend_ps(mask.bits, reinterpret_cast<__m512>(b), reinterpret_cast<__m512>(a)));
}

[[gnu::target("avx512f")]] inline Int16 choose(Mask<16> mask, const Int16& a, const Int16& b) {
  return reinterpret_cast<Int16>(
      _mm512_mask_blend_epi32(mask.bits, reinterpret_cast<__m512i>(b), reinterpret_cast<__m512i>(a)));
}
#endif

template <class V>
constexpr uint32_t all_bits = (1u << lanes_of<V>)-1;

// Calls visit(i) for every bit set.
template <class Visit>
void visit_bits(uint32_t bits, const Visit& visit) {
  for (; bits != 0; bits &= bits - 1) {
    visit(__builtin_ctz(bits));
  }
}

}  // namespace deeperlab::cpu
