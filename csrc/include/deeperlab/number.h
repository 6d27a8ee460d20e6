// SPDX-License-Identifier: Apache-2.0
// The vocabulary that makes one formula serve a number and a vector of numbers. Operators of the language work for
// both; comparisons, choices and conversions go through Number, which is defined here for scalars, on host and device,
// and in csrc/simd/number.h for vectors.
#pragma once

#include <cstdint>
#include <cstring>
#include <limits>

#if defined(__CUDACC__)
#define DEEPERLAB_HD __host__ __device__
#else
#define DEEPERLAB_HD
#endif

namespace deeperlab {

// A vector has no associated namespace, so its overloads would not be found from a template that is defined before
// them; a specialization is.
template <class V>
struct Number {
  using Real = float;   // as many floats as V has lanes
  using Int = int32_t;  // as many integers
  using Mask = bool;    // the answer of a comparison

  DEEPERLAB_HD static V broadcast(V x) { return x; }
  DEEPERLAB_HD static bool less(V a, V b) { return a < b; }
  DEEPERLAB_HD static bool less_equal(V a, V b) { return a <= b; }
  DEEPERLAB_HD static bool equal(V a, V b) { return a == b; }
  DEEPERLAB_HD static V select(bool mask, V a, V b) { return mask ? a : b; }
  DEEPERLAB_HD static V maximum(V a, V b) { return a > b ? a : b; }
  DEEPERLAB_HD static V minimum(V a, V b) { return a < b ? a : b; }
  DEEPERLAB_HD static float to_real(V x) { return float(x); }
  DEEPERLAB_HD static int32_t to_int(V x) { return int32_t(x); }
};

template <class V>
using RealOf = typename Number<V>::Real;
template <class V>
using IntOf = typename Number<V>::Int;
template <class V>
using MaskOf = typename Number<V>::Mask;

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();

// One value in all lanes.
template <class V, class T>
DEEPERLAB_HD inline V broadcast(T x) {
  return Number<V>::broadcast(x);
}

// Comparisons; false where either is NaN.
template <class V>
DEEPERLAB_HD inline MaskOf<V> less(const V& a, const V& b) {
  return Number<V>::less(a, b);
}

template <class V>
DEEPERLAB_HD inline MaskOf<V> less_equal(const V& a, const V& b) {
  return Number<V>::less_equal(a, b);
}

template <class V>
DEEPERLAB_HD inline MaskOf<V> equal(const V& a, const V& b) {
  return Number<V>::equal(a, b);
}

// a where the mask is set, b elsewhere.
template <class V>
DEEPERLAB_HD inline V select(const MaskOf<V>& mask, const V& a, const V& b) {
  return Number<V>::select(mask, a, b);
}

// The greater, the lesser; b where either is NaN or both are zeros.
template <class V>
DEEPERLAB_HD inline V maximum(const V& a, const V& b) {
  return Number<V>::maximum(a, b);
}

template <class V>
DEEPERLAB_HD inline V minimum(const V& a, const V& b) {
  return Number<V>::minimum(a, b);
}

template <class V>
DEEPERLAB_HD inline RealOf<V> to_real(const V& x) {
  return Number<V>::to_real(x);
}

// Towards zero; |x| < 2^31.
template <class V>
DEEPERLAB_HD inline IntOf<V> to_int(const V& x) {
  return Number<V>::to_int(x);
}

// The same bits as another type of the same size.
template <class To, class From>
DEEPERLAB_HD inline To bit_cast(const From& from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  memcpy(&to, &from, sizeof to);
  return to;
}

// The nearest integer, ties to even; |x| <= 2^22. Added to 1.5 · 2^23, x has no bit left for a fraction.
template <class V>
DEEPERLAB_HD inline V round(const V& x) {
  return (x + 12582912.0f) - 12582912.0f;
}

template <class V>
DEEPERLAB_HD inline IntOf<V> round_to_int(const V& x) {
  return bit_cast<IntOf<V>>(x + 12582912.0f) - 0x4b400000;
}

// x / divisor > 0. For a power of two a multiplication gives the same bits and takes less time: 1 / divisor is exact,
// so both round the same real number.
template <class V>
DEEPERLAB_HD inline V divide(const V& x, int divisor) {
  return (divisor & (divisor - 1)) == 0 ? x * (1.0f / float(divisor)) : x / float(divisor);
}

// NaN becomes `low`.
template <class V>
DEEPERLAB_HD inline V clamp(const V& value, float low, float high) {
  return minimum(maximum(value, broadcast<V>(low)), broadcast<V>(high));
}

}  // namespace deeperlab
