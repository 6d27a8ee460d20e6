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

// Floats of 16 bits, T, as vectors: those in the lower halves of words, or side by side in memory.
template <class V, class T>
struct Widened {
  static V from_words(const IntOf<V>& bits) { return to_float<V>(bits & 0xffff, T{}); }
  static V from_memory(const T* from) {
    return to_float<V>(__builtin_convertvector(load<Vector<uint16_t, lanes_of<V>>>(from), IntOf<V>), T{});
  }
};

#if defined(DEEPERLAB_AVX)
// Processors without an instruction for it take a dozen, which hardly any of them will ever be asked for: not worth
// their place in every loop that reads halves.
template <>
struct Widened<Vector<float, 4>, Half> {
  using V = Vector<float, 4>;
  [[gnu::noinline]] static V from_words(const Vector<int32_t, 4>& bits) { return to_float<V>(bits & 0xffff, Half{}); }
  [[gnu::noinline]] static V from_memory(const Half* from) {
    return to_float<V>(__builtin_convertvector(load<Vector<uint16_t, 4>>(from), IntOf<V>), Half{});
  }
};

template <>
struct Widened<Vector<float, 8>, Half> {
  using V = Vector<float, 8>;
  [[gnu::target("avx2,f16c")]] static V from_words(const Vector<int32_t, 8>& bits) {
    const auto low = __m256i(bits & 0xffff);
    return V(_mm256_cvtph_ps(_mm_packus_epi32(_mm256_castsi256_si128(low), _mm256_extracti128_si256(low, 1))));
  }
  [[gnu::target("avx2,f16c")]] static V from_memory(const Half* from) {
    return V(_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))));
  }
};

template <>
struct Widened<Vector<float, 16>, Half> {
  using V = Vector<float, 16>;
  [[gnu::target("avx512f")]] static V from_words(const Vector<int32_t, 16>& bits) {
    return V(_mm512_maskz_cvtph_ps(0xffff, _mm512_maskz_cvtepi32_epi16(0xffff, __m512i(bits))));
  }
  [[gnu::target("avx512f")]] static V from_memory(const Half* from) {
    return V(_mm512_maskz_cvtph_ps(0xffff, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))));
  }
};
#endif

// Elements from[0], from[column], … as floats; dense: column is 1, and known to be.
template <class V, bool dense, class T>
V load_floats(const T* from, int64_t column) {
  if constexpr (dense && sizeof(T) == sizeof(float)) {
    return load<V>(from);
  } else if constexpr (dense) {
    return Widened<V, T>::from_memory(from);
  } else if constexpr (sizeof(T) == sizeof(float)) {
    float values[lanes_of<V>];
    for (int i = 0; i < lanes_of<V>; ++i) {
      values[i] = from[i * column];
    }
    return load<V>(values);
  } else {
    int32_t bits[lanes_of<V>];
    for (int i = 0; i < lanes_of<V>; ++i) {
      bits[i] = from[i * column].bits;
    }
    return Widened<V, T>::from_words(load<IntOf<V>>(bits));
  }
}

// An element of each lane, and the one after it in memory.
template <class V>
struct Pairs {
  V first, second;
};

#if defined(DEEPERLAB_AVX)
[[gnu::target("avx512f")]] inline Pairs<Vector<float, 16>> gather_pairs(const float* from,
                                                                        const Vector<int32_t, 16>& offset) {
  using V = Vector<float, 16>;
  __m256i index[2];
  memcpy(index, &offset, sizeof index);
  const __m512i none = _mm512_setzero_si512();  // the forms without a mask begin undefined, and GCC 12 warns of it
  const __m512i low = _mm512_mask_i32gather_epi64(none, 0xff, index[0], from, 4);
  const __m512i high = _mm512_mask_i32gather_epi64(none, 0xff, index[1], from, 4);
  return {concat_even(V(low), V(high)), concat_odd(V(low), V(high))};
}

[[gnu::target("avx2")]] inline Pairs<Vector<float, 8>> gather_pairs(const float* from,
                                                                    const Vector<int32_t, 8>& offset) {
  using V = Vector<float, 8>;
  const auto* words = reinterpret_cast<const long long*>(from);
  const __m256i low = _mm256_i32gather_epi64(words, _mm256_castsi256_si128(__m256i(offset)), 4);
  const __m256i high = _mm256_i32gather_epi64(words, _mm256_extracti128_si256(__m256i(offset), 1), 4);
  return {concat_even(V(low), V(high)), concat_odd(V(low), V(high))};
}

// Words of 4 bytes, at offsets in units of 2 bytes.
[[gnu::target("avx512f")]] inline Vector<int32_t, 16> gather_words(const void* from,
                                                                   const Vector<int32_t, 16>& offset) {
  return Vector<int32_t, 16>(_mm512_mask_i32gather_epi32(_mm512_setzero_si512(), 0xffff, __m512i(offset), from, 2));
}

[[gnu::target("avx2")]] inline Vector<int32_t, 8> gather_words(const void* from, const Vector<int32_t, 8>& offset) {
  return Vector<int32_t, 8>(_mm256_i32gather_epi32(static_cast<const int*>(from), __m256i(offset), 2));
}
#endif

// from[offset] and the element after it: fetched as one word where there are instructions for that.
template <class V, class T>
Pairs<V> load_pairs(const T* from, const IntOf<V>& offset) {
#if defined(DEEPERLAB_AVX)
  if constexpr (lanes_of<V> > 4 && sizeof(T) == 2) {
    const IntOf<V> word = gather_words(from, offset);
    return {Widened<V, T>::from_words(word), Widened<V, T>::from_words(word >> 16)};
  } else if constexpr (lanes_of<V> > 4) {
    return gather_pairs(from, offset);
  }
#endif
  if constexpr (sizeof(T) == sizeof(float)) {
    float first[lanes_of<V>], second[lanes_of<V>];
    for (int i = 0; i < lanes_of<V>; ++i) {
      first[i] = from[offset[i]];
      second[i] = from[offset[i] + 1];
    }
    return {load<V>(first), load<V>(second)};
  } else {
    int32_t first[lanes_of<V>], second[lanes_of<V>];
    for (int i = 0; i < lanes_of<V>; ++i) {
      first[i] = from[offset[i]].bits;
      second[i] = from[offset[i] + 1].bits;
    }
    return {Widened<V, T>::from_words(load<IntOf<V>>(first)), Widened<V, T>::from_words(load<IntOf<V>>(second))};
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
