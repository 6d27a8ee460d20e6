// SPDX-License-Identifier: Apache-2.0
// The vocabulary of deeperlab/number.h for vectors, and what of it has no meaning for a scalar. Lane by lane it is
// the same IEEE operations, so that a formula gives the same bits for both.
#pragma once

#include "deeperlab/types.h"
#include "simd/mask.h"

namespace deeperlab {

template <class V>
struct VectorNumber {
  static constexpr int lanes = cpu::lanes_of<V>;
  using Real = cpu::Vector<float, lanes>;
  using Int = cpu::Vector<int32_t, lanes>;
  using Mask = cpu::Mask<lanes>;

  static Mask less(const V& a, const V& b) { return {a < b}; }
  static Mask less_equal(const V& a, const V& b) { return {a <= b}; }
  static Mask equal(const V& a, const V& b) { return {a == b}; }
  static V select(const Mask& mask, const V& a, const V& b) { return mask.lane ? a : b; }
  static V maximum(const V& a, const V& b) { return a > b ? a : b; }
  static V minimum(const V& a, const V& b) { return a < b ? a : b; }
  static Real to_real(const V& x) { return __builtin_convertvector(x, Real); }
  static Int to_int(const V& x) { return __builtin_convertvector(x, Int); }
};

template <>
struct Number<cpu::Vector<float, 4>> : VectorNumber<cpu::Vector<float, 4>> {
  static Real broadcast(float x) { return Real{x, x, x, x}; }
};

template <>
struct Number<cpu::Vector<int32_t, 4>> : VectorNumber<cpu::Vector<int32_t, 4>> {
  static Int broadcast(int32_t x) { return Int{x, x, x, x}; }
};

// Intrinsics where GCC 12 does not find the instruction of its own accord. `x + V{}`, for one, is taken apart lane by
// lane, as are comparisons and choices of 512 bits where they are combined; and intrinsics without a mask begin with an
// undefined register, of which it warns.
#if defined(DEEPERLAB_AVX)
template <>
struct Number<cpu::Vector<float, 8>> : VectorNumber<cpu::Vector<float, 8>> {
  [[gnu::target("avx2")]] static Real broadcast(float x) { return Real(_mm256_set1_ps(x)); }
  [[gnu::target("avx2")]] static Real maximum(const Real& a, const Real& b) {
    return Real(_mm256_max_ps(__m256(a), __m256(b)));
  }
  [[gnu::target("avx2")]] static Real minimum(const Real& a, const Real& b) {
    return Real(_mm256_min_ps(__m256(a), __m256(b)));
  }
};

template <>
struct Number<cpu::Vector<int32_t, 8>> : VectorNumber<cpu::Vector<int32_t, 8>> {
  [[gnu::target("avx2")]] static Int broadcast(int32_t x) { return Int(_mm256_set1_epi32(x)); }
};

template <>
struct Number<cpu::Vector<float, 16>> : VectorNumber<cpu::Vector<float, 16>> {
  [[gnu::target("avx512f")]] static Real broadcast(float x) { return Real(_mm512_set1_ps(x)); }
  [[gnu::target("avx512f")]] static Mask less(const Real& a, const Real& b) {
    return {_mm512_cmp_ps_mask(__m512(a), __m512(b), _CMP_LT_OQ)};
  }
  [[gnu::target("avx512f")]] static Mask less_equal(const Real& a, const Real& b) {
    return {_mm512_cmp_ps_mask(__m512(a), __m512(b), _CMP_LE_OQ)};
  }
  [[gnu::target("avx512f")]] static Mask equal(const Real& a, const Real& b) {
    return {_mm512_cmp_ps_mask(__m512(a), __m512(b), _CMP_EQ_OQ)};
  }
  [[gnu::target("avx512f")]] static Real select(Mask mask, const Real& a, const Real& b) {
    return Real(_mm512_mask_blend_ps(mask.bits, __m512(b), __m512(a)));
  }
  [[gnu::target("avx512f")]] static Real maximum(const Real& a, const Real& b) {
    return Real(_mm512_maskz_max_ps(0xffff, __m512(a), __m512(b)));
  }
  [[gnu::target("avx512f")]] static Real minimum(const Real& a, const Real& b) {
    return Real(_mm512_maskz_min_ps(0xffff, __m512(a), __m512(b)));
  }
};

template <>
struct Number<cpu::Vector<int32_t, 16>> : VectorNumber<cpu::Vector<int32_t, 16>> {
  [[gnu::target("avx512f")]] static Int broadcast(int32_t x) { return Int(_mm512_set1_epi32(x)); }
  [[gnu::target("avx512f")]] static Mask less(const Int& a, const Int& b) {
    return {_mm512_cmplt_epi32_mask(__m512i(a), __m512i(b))};
  }
  [[gnu::target("avx512f")]] static Mask equal(const Int& a, const Int& b) {
    return {_mm512_cmpeq_epi32_mask(__m512i(a), __m512i(b))};
  }
  [[gnu::target("avx512f")]] static Int select(Mask mask, const Int& a, const Int& b) {
    return Int(_mm512_mask_blend_epi32(mask.bits, __m512i(b), __m512i(a)));
  }
  [[gnu::target("avx512f")]] static Int maximum(const Int& a, const Int& b) {
    return Int(_mm512_maskz_max_epi32(0xffff, __m512i(a), __m512i(b)));
  }
  [[gnu::target("avx512f")]] static Int minimum(const Int& a, const Int& b) {
    return Int(_mm512_maskz_min_epi32(0xffff, __m512i(a), __m512i(b)));
  }
};
#endif

namespace cpu {

using deeperlab::select;  // beside the stage of that name

// Elements from[0], from[column], … as floats; dense: column is 1, and known to be.
template <class V, bool dense, class T>
V load_floats(const T* from, int64_t column) {
  if constexpr (dense && sizeof(T) == sizeof(float)) {
    return load<V>(from);
  } else if constexpr (dense) {
    const auto bits = __builtin_convertvector(load<Vector<uint16_t, lanes_of<V>>>(from), IntOf<V>);
    return to_float<V>(bits, T{});
  } else {
    V out;
    for (int i = 0; i < lanes_of<V>; ++i) {
      out[i] = to_float(from[i * column]);
    }
    return out;
  }
}

// The least of all lanes; no lane is NaN.
template <class V>
float least_lane(const V& values) {
  if constexpr (lanes_of<V> > 4) {
    Vector<float, lanes_of<V> / 2> halves[2];
    memcpy(halves, &values, sizeof halves);
    return least_lane(minimum(halves[0], halves[1]));
  } else {
    return minimum(minimum(values[0], values[1]), minimum(values[2], values[3]));
  }
}

}  // namespace cpu
}  // namespace deeperlab
