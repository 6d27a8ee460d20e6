// SPDX-License-Identifier: Apache-2.0
// The instruction set that a fast form is compiled for, chosen when the program runs.
//
// A fast form is one piece of code over `lanes` elements. with_simd compiles it once for each instruction set: all that
// the body calls is inlined ("flatten") into a function that may use that set, so no other function does. Every lane is
// computed by the same IEEE operations in the same order as in the plain form: the bits agree on every set.
#pragma once

#include "simd/parallel.h"
#include "simd/vector.h"

namespace deeperlab::cpu {

template <class Body>
[[gnu::flatten, gnu::noinline]] void run_baseline(const Body& body) {
  body(Lanes<4>{});
}

#if defined(DEEPERLAB_AVX)
template <class Body>
[[gnu::target("avx2,bmi,bmi2,f16c"), gnu::flatten, gnu::noinline]] void run_avx2(const Body& body) {
  body(Lanes<8>{});
}

template <class Body>
[[gnu::target("avx512f,avx512bw,avx512dq,avx512vl,avx2,bmi,bmi2,f16c"), gnu::flatten, gnu::noinline]] void run_avx512(
    const Body& body) {
  body(Lanes<16>{});
}
#endif

// Calls body(Lanes) in the wide instruction set that `simd` allows; the caller has dealt with Simd::plain.
template <class Body>
void with_simd([[maybe_unused]] Simd simd, const Body& body) {
#if defined(DEEPERLAB_AVX)
  if (simd == Simd::avx512) {
    return run_avx512(body);
  }
  if (simd == Simd::avx2) {
    return run_avx2(body);
  }
#endif
  run_baseline(body);
}

// The best instruction set of this machine.
inline Simd best_simd() {
#if defined(DEEPERLAB_AVX)
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") &&
                    __builtin_cpu_supports("f16c");
  if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
    return Simd::avx512;
  }
  if (avx2) {
    return Simd::avx2;
  }
#endif
  return Simd::baseline;
}

}  // namespace deeperlab::cpu
