// SPDX-License-Identifier: Apache-2.0
// Stores around the cache, for maps too large to stay in it: a line that is written as a whole need not be read first.
#pragma once

#include "simd/mask.h"
#include "simd/vector.h"

namespace deeperlab::cpu {

constexpr int64_t line = 64;                             // bytes
constexpr int64_t too_large_to_stay = int64_t(4) << 20;  // bytes, of an array

// Elements before the first that begins a line.
template <class T>
int64_t elements_to_line(const T* array) {
  return int64_t(-reinterpret_cast<uintptr_t>(array) % line / sizeof(T));
}

// Stores a vector at a multiple of its size. Other threads see it once this one has called end_stream.
#if defined(DEEPERLAB_AVX)
[[gnu::target("avx512f")]] inline void stream(void* to, const Vector<int32_t, 16>& value) {
  _mm512_stream_si512(static_cast<__m512i*>(to), __m512i(value));
}
[[gnu::target("avx2")]] inline void stream(void* to, const Vector<int32_t, 8>& value) {
  _mm256_stream_si256(static_cast<__m256i*>(to), __m256i(value));
}
#endif
#if defined(__x86_64__)
inline void stream(void* to, const Vector<int32_t, 4>& value) {
  _mm_stream_si128(static_cast<__m128i*>(to), reinterpret_cast<__m128i>(value));
}
inline void end_stream() { _mm_sfence(); }
#else
inline void stream(void* to, const Vector<int32_t, 4>& value) { store(to, value); }
inline void end_stream() {}
#endif

}  // namespace deeperlab::cpu
