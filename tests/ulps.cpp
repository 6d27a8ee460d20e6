// SPDX-License-Identifier: Apache-2.0
// How far the functions of deeperlab/exp.h that NumPy has no twin of lie from the truth. Prints "function ulps".
#include <cmath>
#include <cstdio>

#include "deeperlab/exp.h"

namespace {

using deeperlab::bit_cast;

// The greatest error, in ulps of the exact value, over every 61st float from `first` to `last`.
template <class Function, class Exact>
void measure(const char* name, float first, float last, const Function& function, const Exact& exact) {
  double worst = 0.0;
  for (int32_t bits = bit_cast<int32_t>(first); bits <= bit_cast<int32_t>(last); bits += 61) {
    const float x = bit_cast<float>(bits);
    const double truth = exact(double(x));
    const float near = float(std::fabs(truth));
    const double ulp = double(bit_cast<float>(bit_cast<int32_t>(near) + 1)) - double(near);
    worst = std::fmax(worst, std::fabs(double(function(x)) - truth) / ulp);
  }
  printf("%s %.3f\n", name, worst);
}

}  // namespace

int main() {
  measure("log", 1.0f, 16777216.0f, [](float x) { return deeperlab::log(x); }, [](double x) { return std::log(x); });
  measure(
      "exp_below_zero", 0.0f, 87.33654f, [](float x) { return deeperlab::exp_below_zero(-x); },
      [](double x) { return std::exp(-x); });
  printf("log(1) %g\n", double(deeperlab::log(1.0f)));
  printf("exp_below_zero(0) %g\n", double(deeperlab::exp_below_zero(0.0f)));
  printf("exp_below_zero(-inf) %g\n", double(deeperlab::exp_below_zero(-deeperlab::infinity)));
  printf("log(nan) %g\n", std::fabs(double(deeperlab::log(float(NAN)))));
  printf("exp_below_zero(nan) %g\n", std::fabs(double(deeperlab::exp_below_zero(float(NAN)))));
}
