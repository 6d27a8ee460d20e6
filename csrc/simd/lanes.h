// SPDX-License-Identifier: Apache-2.0
// What the fast forms share: neighboring elements of a head as lanes of floats, lanes put in another order, and the
// functions of exp.h and view.h lane by lane.
#pragma once

#include <limits>
#include <type_traits>

#include "deeperlab/types.h"
#include "simd/mask.h"

namespace deeperlab::cpu {

constexpr float infinity = std::numeric_limits<float>::infinity();

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
  return min_lanes(max_lanes(value, all<V>(low)), all<V>(high));
}

// exp and sigmoid of exp.h, lane by lane, by the same operations.
constexpr float least_exponent = -87.33654f, greatest_exponent = 88.72283f;

// Of x within the exponents; at the nearest of them for others.
template <class V>
V bounded_exp_lanes(V x) {
  using Int = Vector<int32_t, lanes_of<V>>;
  x = clamp_lanes(x, least_exponent, greatest_exponent);
  const V n = round_lanes(x * 1.44269504f);
  const V r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
  V p = all<V>(1.97902984e-4f);
  p = p * r + 1.39447036e-3f;
  p = p * r + 8.33349734e-3f;
  p = p * r + 4.16662944e-2f;
  p = p * r + 1.66666659e-1f;
  p = p * r + 0.5f;
  const V e = ((r * r) * p + r) + 1.0f;
  const Int whole = rounded_integers(n), half = whole >> 1;
  return e * reinterpret_cast<V>((half + 127) << 23) * reinterpret_cast<V>((whole - half + 127) << 23);
}

template <class V>
V exp_lanes(V x) {
  const V finite = choose(less(x, all<V>(least_exponent)), V{}, bounded_exp_lanes(x));
  return choose(equal(x, x), choose(less(all<V>(greatest_exponent), x), all<V>(infinity), finite), x);
}

// 1 + exp is 1 at the least exponent too. NaN becomes 0.
template <class V>
V sigmoid_lanes(V logit) {
  return choose(less_equal(-logit, all<V>(greatest_exponent)), 1.0f / (1.0f + bounded_exp_lanes(-logit)), V{});
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
