// SPDX-License-Identifier: Apache-2.0
// Vectors of the compiler's own kind: how they are loaded and stored, and how their lanes change places.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

// AVX2 and AVX-512, whose forms are functions for another instruction set than the rest (dispatch.h). Clang refuses to
// compile them, as vectors are passed between functions before it inlines them; clang-tidy, which reads, may see them.
#if defined(__x86_64__) && (!defined(__clang__) || defined(__clang_analyzer__))
#define DEEPERLAB_AVX
#endif

namespace deeperlab::cpu {

template <class T, int lanes>
struct VectorOf {
  using type [[gnu::vector_size(sizeof(T) * lanes)]] = T;
};
template <class T, int lanes>
using Vector = typename VectorOf<T, lanes>::type;

// What a body of with_simd (dispatch.h) is told: how many 4-byte elements fill a register.
template <int n>
struct Lanes {
  static constexpr int count = n;
  using Float = Vector<float, n>;
  using Int = Vector<int32_t, n>;
};

// Of a vector of 4-byte elements; a float is one of its own.
template <class V>
constexpr int lanes_of = int(sizeof(V) / 4);

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

// Lanes of a, 0, 1, …, and of b, which go on counting, in the order order(0), order(1), ….
template <class V, class Order, int... i>
V shuffle(V a, V b, Order order, std::integer_sequence<int, i...>) {
#if !defined(__clang__) && __GNUC__ < 12
  return __builtin_shuffle(a, b, Vector<int32_t, lanes_of<V>>{order(i)...});
#else
  return __builtin_shufflevector(a, b, order(i)...);
#endif
}

template <class V, class Order>
V shuffle(V a, V b, Order order) {
  return shuffle(a, b, order, std::make_integer_sequence<int, lanes_of<V>>{});
}

// Lanes a[0], b[0], a[1], b[1], …: the first and the second half.
template <class V>
V interleave_low(V a, V b) {
  return shuffle(a, b, [](int i) { return i / 2 + i % 2 * lanes_of<V>; });
}

template <class V>
V interleave_high(V a, V b) {
  return shuffle(a, b, [](int i) { return (lanes_of<V> + i) / 2 + i % 2 * lanes_of<V>; });
}

// The even or the odd lanes of a, then those of b: takes apart what the two above put together.
template <class V>
V concat_even(V a, V b) {
  return shuffle(a, b, [](int i) { return 2 * i; });
}

template <class V>
V concat_odd(V a, V b) {
  return shuffle(a, b, [](int i) { return 2 * i + 1; });
}

// Rows become columns: lane j of row i goes to lane i of row j.
template <class V>
void transpose(V (&rows)[lanes_of<V>]) {
  constexpr int n = lanes_of<V>;
  for (int half = 1; half < n; half *= 2) {
    V mixed[n];
    for (int i = 0; i < n / 2; ++i) {
      mixed[2 * i] = interleave_low(rows[i], rows[i + n / 2]);
      mixed[2 * i + 1] = interleave_high(rows[i], rows[i + n / 2]);
    }
    std::copy(mixed, mixed + n, rows);
  }
}

// Calls body(std::true_type) where elements lie side by side, body(std::false_type) otherwise.
template <class Body>
void with_density(bool dense, const Body& body) {
  if (dense) {
    body(std::true_type{});
  } else {
    body(std::false_type{});
  }
}

// Calls visit(x) for blocks of `lanes` that cover [0, count); the last may overlap the one before. count >= lanes.
template <class Visit>
void visit_blocks(int64_t count, int64_t lanes, const Visit& visit) {
  for (int64_t x = 0; x < count; x += lanes) {  // one call: where it is inlined, half the code
    visit(std::min(x, count - lanes));
  }
}

}  // namespace deeperlab::cpu
