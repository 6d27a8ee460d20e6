// SPDX-License-Identifier: Apache-2.0
// The one exp and the one log of the project: IEEE operations only, so that CPU, CUDA and NumPy give the same bits.
#pragma once

#include "deeperlab/number.h"

namespace deeperlab {

// Beyond these, e^x is no normal number.
constexpr float least_exponent = -87.33654f, greatest_exponent = 88.72283f;

// 2^n for -126 <= n <= 127.
template <class I>
DEEPERLAB_HD inline RealOf<I> power_of_two(const I& n) {
  return bit_cast<RealOf<I>>((n + 127) << 23);
}

// e^x / 2^n for n = the integer next to x / ln 2, x between the exponents above. x = n·ln 2 + r with |r| <= ln 2 / 2,
// and e^r = 1 + r + r²·p(r), p of degree 5 with the least greatest relative error of e^r (5e-11; the Taylor
// coefficients would miss by 1.02 ulp). ln 2 is split so that n · (its first part, 9 bits) is exact.
template <class V>
DEEPERLAB_HD inline V exp_of_rest(const V& x, const V& n) {
  const V r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
  V p = broadcast<V>(1.97902984e-4f);
  p = p * r + 1.39447036e-3f;
  p = p * r + 8.33349734e-3f;
  p = p * r + 4.16662944e-2f;
  p = p * r + 1.66666659e-1f;
  p = p * r + 0.5f;
  return ((r * r) * p + r) + 1.0f;
}

// e^x within 0.95 ulp; for x beyond the exponents above, the value at the nearer of them, and for NaN that at the
// least.
template <class V>
DEEPERLAB_HD inline V bounded_exp(const V& value) {
  using Int = IntOf<V>;
  const V x = clamp(value, least_exponent, greatest_exponent);
  const V n = round(x * 1.44269504f);
  const V e = exp_of_rest(x, n);
  const Int exponent = round_to_int(n), half = exponent >> 1;  // two steps: 2^128 is not a float, e · 2^128 may be
  return e * power_of_two(half) * power_of_two(exponent - half);
}

// e^x within 0.95 ulp; 0 below the smallest normal number, +inf above the largest, NaN for NaN.
template <class V>
DEEPERLAB_HD inline V exp(const V& x) {
  const V finite = select(less(x, broadcast<V>(least_exponent)), V{}, bounded_exp(x));
  return select(equal(x, x), select(less(broadcast<V>(greatest_exponent), x), broadcast<V>(infinity), finite), x);
}

// e^x within 0.95 ulp for -87 <= x <= 87, anything for others, with the bits of `exp`. The bits of `shifted` are those
// of 12582912 and n more, and what is shifted out of the first is no part of n; e^r · 2^n has an exponent n larger.
template <class V>
DEEPERLAB_HD inline V exp_within(const V& x) {
  using Int = IntOf<V>;
  const V shifted = x * 1.44269504f + 12582912.0f;  // as in `round`
  return bit_cast<V>(bit_cast<Int>(exp_of_rest(x, shifted - 12582912.0f)) + (bit_cast<Int>(shifted) << 23));
}

// e^x within 0.95 ulp for x <= 0: half the work. Below the least exponent the value there, 1.2e-38; NaN for NaN.
template <class V>
DEEPERLAB_HD inline V exp_below_zero(const V& value) {
  const V x = maximum(broadcast<V>(least_exponent), value);
  const V shifted = x * 1.44269504f + 12582912.0f;  // as in `round`
  const IntOf<V> exponent = bit_cast<IntOf<V>>(shifted) - 0x4b400000;
  return exp_of_rest(x, shifted - 12582912.0f) *
         bit_cast<V>(((exponent + 127) & 0xff) << 23);  // 0xff: anything for NaN
}

// log(x) within 0.81 ulp for 1 <= x < 2^24; NaN for NaN. x = 2^n·(1 + f) with f in [-1/3, 1/3], and
// log(1 + f) = f - f²/2 + f³·p(f), p of degree 7 with the least greatest relative error of the whole (5e-9).
template <class V>
DEEPERLAB_HD inline V log(const V& x) {
  using Int = IntOf<V>;
  const Int bits = bit_cast<Int>(x), two_thirds = broadcast<Int>(0x3f2aaaab);
  const Int exponent = ((bits - two_thirds) >> 23) & 0xff;  // 0xff: of a NaN, which may be negative
  const V f = bit_cast<V>(bits - (exponent << 23)) - 1.0f, n = to_real(exponent);
  V p = broadcast<V>(-1.28923625e-1f);
  p = p * f + 1.39851108e-1f;
  p = p * f + -1.21841215e-1f;
  p = p * f + 1.40057445e-1f;
  p = p * f + -1.66804969e-1f;
  p = p * f + 2.00104132e-1f;
  p = p * f + -2.49997973e-1f;
  p = p * f + 3.33332151e-1f;
  const V square = f * f;
  const V rest = ((f * square) * p + n * -2.12194440e-4f) - square * 0.5f;
  return select(equal(x, x), (rest + f) + n * 0.693359375f, x);
}

// Probability of a logit, 1 / (1 + e^-logit); 0 for NaN. 1 + e^x is 1 at the least exponent as it is below.
template <class V>
DEEPERLAB_HD inline V sigmoid(const V& logit) {
  const V x = -logit;
  return select(less_equal(x, broadcast<V>(greatest_exponent)), 1.0f / (1.0f + bounded_exp(x)), V{});
}

}  // namespace deeperlab
