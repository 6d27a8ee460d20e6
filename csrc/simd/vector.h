// SPDX-License-Identifier: Apache-2.0
// Vectors of the compiler's own kind: how they are loaded and stored, and how their lanes change places.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

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

// Of a vector of 4-byte elements.
template <class V>
constexpr int lanes_of = int(sizeof(V) / sizeof(float));

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

// The even or the odd lanes of a, then those of b: takes apart what the two above put together.
template <class V>
V concat_even(V a, V b) {
  if constexpr (lanes_of<V> == 16) {
    return __builtin_shuffle(a, b, Vector<int32_t, 16>{0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30});
  } else if constexpr (lanes_of<V> == 8) {
    return __builtin_shuffle(a, b, Vector<int32_t, 8>{0, 2, 4, 6, 8, 10, 12, 14});
  } else {
    return __builtin_shuffle(a, b, Vector<int32_t, 4>{0, 2, 4, 6});
  }
}

template <class V>
V concat_odd(V a, V b) {
  if constexpr (lanes_of<V> == 16) {
    return __builtin_shuffle(a, b, Vector<int32_t, 16>{1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31});
  } else if constexpr (lanes_of<V> == 8) {
    return __builtin_shuffle(a, b, Vector<int32_t, 8>{1, 3, 5, 7, 9, 11, 13, 15});
  } else {
    return __builtin_shuffle(a, b, Vector<int32_t, 4>{1, 3, 5, 7});
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
  int64_t x = 0;
  for (; x + lanes <= count; x += lanes) {
    visit(x);
  }
  if (x < count) {
    visit(count - lanes);
  }
}

}  // namespace deeperlab::cpu
