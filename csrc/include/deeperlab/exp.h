// SPDX-License-Identifier: Apache-2.0
// The one exp of the project: IEEE operations only, so that CPU, CUDA and NumPy give the same bits.
#pragma once

#include <cmath>

#include "deeperlab/types.h"

namespace deeperlab {

// 2^n for -126 <= n <= 127.
DEEPERLAB_HD inline float power_of_two(int n) { return float_from_bits(uint32_t(n + 127) << 23); }

// e^x within 0.95 ulp; 0 below the smallest normal number, +inf above the largest, NaN for NaN.
// x = n·ln 2 + r with |r| <= ln 2 / 2, and e^r = 1 + r + r²·p(r), p of degree 5 with the least greatest relative
// error of e^r (5e-11; the Taylor coefficients would miss by 1.02 ulp). ln 2 is split so that n · (its first part,
// 9 bits) is exact.
DEEPERLAB_HD inline float exp(float x) {
  if (x != x) {
    return x;
  }
  if (x > 88.72283f) {
    return float_from_bits(0x7f800000u);
  }
  if (x < -87.33654f) {
    return 0.0f;
  }
  const float n = rintf(x * 1.44269504f);
  const float r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
  float p = 1.97902984e-4f;
  p = p * r + 1.39447036e-3f;
  p = p * r + 8.33349734e-3f;
  p = p * r + 4.16662944e-2f;
  p = p * r + 1.66666659e-1f;
  p = p * r + 0.5f;
  const float e = ((r * r) * p + r) + 1.0f;
  const int whole = int(n);
  const int half = whole >> 1;  // two steps: 2^128 is not a float, e · 2^128 may be
  return e * power_of_two(half) * power_of_two(whole - half);
}

// Probability of a logit; 0 for NaN.
DEEPERLAB_HD inline float sigmoid(float logit) { return logit != logit ? 0.0f : 1.0f / (1.0f + exp(-logit)); }

}  // namespace deeperlab
