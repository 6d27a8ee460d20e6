// SPDX-License-Identifier: Apache-2.0
// Vectors of the compiler's own kind, and the instruction set they are compiled for, chosen when the program runs.
//
// A fast form is one piece of code over `lanes` elements. with_simd compiles it once for each instruction set: all that
// the body calls is inlined ("flatten") into a function that may use that set, so no other function does. Every lane is
// computed by the same IEEE operations in the same order as in the plain form: the bits agree on every set.
#pragma once

#include <cstring>

#include "simd/parallel.h"

namespace deeperlab::cpu {

template <class T, int lanes>
struct VectorOf {
  using type [[gnu::vector_size(sizeof(T) * lanes)]] = T;
};
template <class T, int lanes>
using Vector = typename VectorOf<T, lanes>::type;

// What a body of with_simd is told: how many 4-byte elements fill a register.
template <int n>
struct Lanes {
  static constexpr int count = n;
  using Float = Vector<float, n>;
  using Int = Vector<int32_t, n>;
};

constexpr int widest_lanes = 16;

// `count` elements in whole vectors of any width.
constexpr int64_t whole_vectors(int64_t count) { return (count + widest_lanes - 1) / widest_lanes * widest_lanes; }

template <class V>
V load(const void* from) {
  V value;
  memcpy(&value, from, sizeof value);
  return value;
}

template <class V>
void store(void* to, V value) {
  memcpy(to, &value, sizeof value);
}

// A comparison gives -1 (true) or 0 in each lane.
template <class V>
bool any(V mask) {
  using Word = Vector<int64_t, sizeof(V) / 8>;
  const Word words = reinterpret_cast<Word>(mask);
  int64_t all = 0;
  for (unsigned i = 0; i < sizeof(V) / 8; ++i) {
    all |= words[i];
  }
  return all != 0;
}

template <class Body>
[[gnu::flatten, gnu::noinline]] void run_baseline(const Body& body) {
  body(Lanes<4>{});
}

#if defined(__x86_64__)
template <class Body>
[[gnu::target("avx2,bmi,bmi2"), gnu::flatten, gnu::noinline]] void run_avx2(const Body& body) {
  body(Lanes<8>{});
}

template <class Body>
[[gnu::target("avx512f,avx512bw,avx512dq,avx512vl,avx2,bmi,bmi2"), gnu::flatten, gnu::noinline]] void run_avx512(
    const Body& body) {
  body(Lanes<16>{});
}
#endif

// Calls body(Lanes) in the wide instruction set that `simd` allows; the caller has dealt with Simd::plain.
template <class Body>
void with_simd(Simd simd, const Body& body) {
#if defined(__x86_64__)
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
#if defined(__x86_64__)
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
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
