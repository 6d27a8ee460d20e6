// SPDX-License-Identifier: Apache-2.0
// The one exp of the project: IEEE operations only, so that CPU, CUDA and NumPy give the same bits.
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

// e^x within 0.95 ulp; for x beyond the exponents above, the value at the nearer of them, and for NaN that at the
// least. x = n·ln 2 + r with |r| <= ln 2 / 2, and e^r = 1 + r + r²·p(r), p of degree 5 with the least greatest relative
// error of e^r (5e-11; the Taylor coefficients would miss by 1.02 ulp). ln 2 is split so that n · (its first part,
// 9 bits) is exact.
template <class V>
DEEPERLAB_HD inline V bounded_exp(const V& value) {
  using Int = IntOf<V>;
  const V x = clamp(value, least_exponent, greatest_exponent);
  const V n = round(x * 1.44269504f);
  const V r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
  V p = broadcast<V>(1.97902984e-4f);
  p = p * r + 1.39447036e-3f;
  p = p * r + 8.33349734e-3f;
  p = p * r + 4.16662944e-2f;
  p = p * r + 1.66666659e-1f;
  p = p * r + 0.5f;
  const V e = ((r * r) * p + r) + 1.0f;
  const Int exponent = round_to_int(n), half = exponent >> 1;  // two steps: 2^128 is not a float, e · 2^128 may be
  return e * power_of_two(half) * power_of_two(exponent - half);
}

// e^x within 0.95 ulp; 0 below the smallest normal number, +inf above the largest, NaN for NaN.
template <class V>
DEEPERLAB_HD inline V exp(const V& x) {
  const V finite = select(less(x, broadcast<V>(least_exponent)), V{}, bounded_exp(x));
  return select(equal(x, x), select(less(broadcast<V>(greatest_exponent), x), broadcast<V>(infinity), finite), x);
}

// Probability of a logit, 1 / (1 + e^-logit); 0 for NaN. 1 + e^x is 1 at the least exponent as it is below.
template <class V>
DEEPERLAB_HD inline V sigmoid(const V& logit) {
  const V x = -logit;
  return select(less_equal(x, broadcast<V>(greatest_exponent)), 1.0f / (1.0f + bounded_exp(x)), V{});
}

}  // namespace deeperlab
