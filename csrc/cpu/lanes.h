// SPDX-License-Identifier: Apache-2.0
// What the fast forms share: neighbouring elements of a head as lanes of floats, and lanes as bits.
#pragma once

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include <type_traits>

#include "deeperlab/types.h"
#include "simd.h"

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

// to_float of types.h, lane by lane.
template <class V>
V to_floats(Vector<uint16_t, lanes_of<V>> from, BFloat16) {
  using Bits = Vector<uint32_t, lanes_of<V>>;
  return reinterpret_cast<V>(__builtin_convertvector(from, Bits) << 16);
}

template <class V>
V to_floats(Vector<uint16_t, lanes_of<V>> from, Half) {
  using Bits = Vector<uint32_t, lanes_of<V>>;
  const Bits bits = __builtin_convertvector(from, Bits);
  const Bits sign = (bits & 0x8000u) << 16, rest = (bits & 0x7fffu) << 13;
  const V subnormal = __builtin_convertvector(bits & 0x3ffu, V) * 5.9604644775390625e-8f;
  Bits out = rest + (112u << 23);
  out = rest >= 0x0f800000u ? 0x7f800000u | rest : out;
  out = rest < 0x00800000u ? reinterpret_cast<Bits>(subnormal) : out;
  return reinterpret_cast<V>(sign | out);
}

// Elements from[0], from[column], … as floats; dense: column is 1, and known to be.
template <class V, bool dense, class T>
V load_floats(const T* from, int64_t column) {
  if constexpr (dense && sizeof(T) == sizeof(float)) {
    return load<V>(from);
  } else if constexpr (dense) {
    return to_floats<V>(load<Vector<uint16_t, lanes_of<V>>>(from), T{});
  } else {
    V out;
    for (int i = 0; i < lanes_of<V>; ++i) {
      out[i] = to_float(from[i * column]);
    }
    return out;
  }
}

// Calls body(std::true_type) where the columns of a head lie side by side, body(std::false_type) otherwise.
template <class Body>
void with_density(bool dense, const Body& body) {
  if (dense) {
    body(std::true_type{});
  } else {
    body(std::false_type{});
  }
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

// Lanes a[0], b[0], a[1], b[1], …: the first and the second half.
template <class V>
V interleave_low(V a, V b) {
  if constexpr (lanes_of<V> == 16) {
    return __builtin_shuffle(a, b, Vector<int32_t, 16>{0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23});
  } else if constexpr (lanes_of<V> == 8) {
    return __builtin_shuffle(a, b, Vector<int32_t, 8>{0, 8, 1, 9, 2, 10, 3, 11});
  } else {
    return __builtin_shuffle(a, b, Vector<int32_t, 4>{0, 4, 1, 5});
  }
}

template <class V>
V interleave_high(V a, V b) {
  if constexpr (lanes_of<V> == 16) {
    return __builtin_shuffle(a, b, Vector<int32_t, 16>{8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31});
  } else if constexpr (lanes_of<V> == 8) {
    return __builtin_shuffle(a, b, Vector<int32_t, 8>{4, 12, 5, 13, 6, 14, 7, 15});
  } else {
    return __builtin_shuffle(a, b, Vector<int32_t, 4>{2, 6, 3, 7});
  }
}

// The even or the odd lanes of a and b: takes apart what the two above put together.
template <class V>
V even_lanes(V a, V b) {
  if constexpr (lanes_of<V> == 16) {
    return __builtin_shuffle(a, b, Vector<int32_t, 16>{0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30});
  } else if constexpr (lanes_of<V> == 8) {
    return __builtin_shuffle(a, b, Vector<int32_t, 8>{0, 2, 4, 6, 8, 10, 12, 14});
  } else {
    return __builtin_shuffle(a, b, Vector<int32_t, 4>{0, 2, 4, 6});
  }
}

template <class V>
V odd_lanes(V a, V b) {
  if constexpr (lanes_of<V> == 16) {
    return __builtin_shuffle(a, b, Vector<int32_t, 16>{1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31});
  } else if constexpr (lanes_of<V> == 8) {
    return __builtin_shuffle(a, b, Vector<int32_t, 8>{1, 3, 5, 7, 9, 11, 13, 15});
  } else {
    return __builtin_shuffle(a, b, Vector<int32_t, 4>{1, 3, 5, 7});
  }
}

// The least of all lanes; no lane is NaN.
template <class V>
float least_lane(V values) {
  if constexpr (lanes_of<V> == 16) {
    using Half8 = Vector<float, 8>;
    Half8 halves[2];
    memcpy(halves, &values, sizeof halves);
    return least_lane(choose(less(halves[0], halves[1]), halves[0], halves[1]));
  } else if constexpr (lanes_of<V> == 8) {
    using Half4 = Vector<float, 4>;
    Half4 halves[2];
    memcpy(halves, &values, sizeof halves);
    return least_lane(choose(less(halves[0], halves[1]), halves[0], halves[1]));
  } else {
    const float a = values[0] < values[1] ? values[0] : values[1], b = values[2] < values[3] ? values[2] : values[3];
    return a < b ? a : b;
  }
}

// x to the nearest integer, ties to even, as a float and as an integer; |x| <= 2^22. Adding 1.5 · 2^23 leaves no bit
// for a fraction.
constexpr float no_fraction = 12582912.0f;

template <class V>
V round_lanes(V x) {
  return (x + no_fraction) - no_fraction;
}

template <class V>
Vector<int32_t, lanes_of<V>> rounded_integers(V x) {
  using Int = Vector<int32_t, lanes_of<V>>;
  return reinterpret_cast<Int>(x + no_fraction) - int32_t(0x4b400000);
}

// clamp of view.h, lane by lane: NaN becomes `low`.
template <class V>
V clamp_lanes(V value, float low, float high) {
  value = choose(less_equal(all<V>(low), value), value, all<V>(low));
  return choose(less_equal(value, all<V>(high)), value, all<V>(high));
}

// exp and sigmoid of exp.h, lane by lane, by the same operations.
template <class V>
V exp_lanes(V x) {
  using Int = Vector<int32_t, lanes_of<V>>;
  const V low = all<V>(-87.33654f), high = all<V>(88.72283f), infinite = all<V>(float_from_bits(0x7f800000u));
  const V bounded = clamp_lanes(x, low[0], high[0]);
  const V n = round_lanes(bounded * 1.44269504f);
  const V r = (bounded - n * 0.693359375f) - n * -2.12194440e-4f;
  V p = all<V>(1.97902984e-4f);
  p = p * r + 1.39447036e-3f;
  p = p * r + 8.33349734e-3f;
  p = p * r + 4.16662944e-2f;
  p = p * r + 1.66666659e-1f;
  p = p * r + 0.5f;
  const V e = ((r * r) * p + r) + 1.0f;
  const Int whole = rounded_integers(n), half = whole >> 1;
  const V scaled = e * reinterpret_cast<V>((half + 127) << 23) * reinterpret_cast<V>((whole - half + 127) << 23);
  return choose(equal(x, x), choose(less(high, x), infinite, choose(less(x, low), V{}, scaled)), x);
}

template <class V>
V sigmoid_lanes(V logit) {
  return choose(equal(logit, logit), 1.0f / (1.0f + exp_lanes(-logit)), V{});
}

// Calls visit(i) for every bit set.
template <class Visit>
void visit_bits(uint32_t bits, const Visit& visit) {
  for (; bits != 0; bits &= bits - 1) {
    visit(__builtin_ctz(bits));
  }
}

// Calls visit(x) for blocks of `lanes` that cover [0, count); the last may overlap the one before. count >= lanes.
template <class Visit>
void visit_blocks(int64_t count, int64_t lanes, const Visit& visit) {
  int64_t x = 0;
  for (; x + lanes <= count; x += lanes) {
    visit(x);
  }
  if (x < count) {
    visit(count - lanes);
  }
}

}  // namespace deeperlab::cpu
