// SPDX-License-Identifier: Apache-2.0
// The loops of crf over its lattice: corners of pixels, and rows of values to vertices, along axes and back. A vector
// is a few classes of one pixel or vertex, up to eight, so a row is read where it lies and sums stay in registers. The
// plain form is the same text with vectors of one.
#pragma once

#include <utility>

#include "crf_memory.h"
#include "simd/dispatch.h"
#include "simd/number.h"

namespace deeperlab::cpu {

struct Single {
  static constexpr int count = 1;
  using Float = float;
  using Int = int32_t;
};

// Calls body(narrow, wide): lanes that divide a group of eight, and all that there are.
template <class Body>
void with_widths(Simd simd, const Body& body) {
  if (simd == Simd::plain) {
    return body(Single{}, Single{});
  }
  with_simd(simd, [&](auto wide) {
    constexpr int count = decltype(wide)::count;
    body(Lanes<(count < crf_group ? count : crf_group)>{}, wide);
  });
}

template <class L>
float greatest_lane(const typename L::Float& values) {
  float lanes[L::count];
  store(lanes, values);
  for (int half = L::count / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) {
      lanes[i] = maximum(lanes[i], lanes[i + half]);
    }
  }
  return lanes[0];
}

// Rows are fetched into the cache so many ahead of the one that is read.
constexpr int rows_ahead = 12, floats_of_line = 16;

// Vectors of a row that are summed together.
template <class V, int count>
struct Several {
  static constexpr int floats = count * lanes_of<V>;
  V of[count]{};

  static Several read(const float* row) {
    Several made;
    for (int i = 0; i < count; ++i) {
      made.of[i] = load<V>(row + i * lanes_of<V>);
    }
    return made;
  }
  static void fetch(const float* row) {
    for (int i = 0; i < floats; i += floats_of_line) {
      __builtin_prefetch(row + i);
    }
  }
  void write(float* row) const {
    for (int i = 0; i < count; ++i) {
      store(row + i * lanes_of<V>, of[i]);
    }
  }
  friend Several operator+(const Several& a, const Several& b) {
    Several sum;
    for (int i = 0; i < count; ++i) {
      sum.of[i] = a.of[i] + b.of[i];
    }
    return sum;
  }
  friend Several operator+(const Several& a, float added) {
    Several sum;
    for (int i = 0; i < count; ++i) {
      sum.of[i] = a.of[i] + broadcast<V>(added);
    }
    return sum;
  }
  friend Several operator*(const Several& a, float factor) {
    Several made;
    for (int i = 0; i < count; ++i) {
      made.of[i] = a.of[i] * broadcast<V>(factor);
    }
    return made;
  }
};

// Vectors of two widths, the wider ones first: 24 floats are one of 16 and one of 8, where three of 8 would take half
// as many operations again.
template <class First, class Last>
struct Both {
  static constexpr int floats = First::floats + Last::floats;
  First first;
  Last last;

  static void fetch(const float* row) {
    First::fetch(row);
    Last::fetch(row + First::floats);
  }
  static Both read(const float* row) { return {First::read(row), Last::read(row + First::floats)}; }
  void write(float* row) const {
    first.write(row);
    last.write(row + First::floats);
  }
  friend Both operator+(const Both& a, const Both& b) { return {a.first + b.first, a.last + b.last}; }
  friend Both operator+(const Both& a, float added) { return {a.first + added, a.last + added}; }
  friend Both operator*(const Both& a, float factor) { return {a.first * factor, a.last * factor}; }
};

// Calls visit(vectors, at) for the parts of a row, whose types hold the floats from `at` on; narrow lanes divide a row.
// 21 classes are one part.
template <class L, class Wide, class Visit>
void visit_row(int row, const Visit& visit) {
  using Narrow = typename L::Float;
  using V = typename Wide::Float;
  int at = 0;
  if constexpr (Wide::count > L::count) {
    static_assert(Wide::count == 2 * L::count);
    for (; row - at >= 2 * Wide::count; at += 2 * Wide::count) {
      visit(Several<V, 2>{}, at);
    }
    switch ((row - at) / L::count) {
      case 3:
        return visit(Both<Several<V, 1>, Several<Narrow, 1>>{}, at);
      case 2:
        return visit(Several<V, 1>{}, at);
      case 1:
        return visit(Several<Narrow, 1>{}, at);
      default:
        return;
    }
  } else {
    for (; row - at >= 3 * L::count; at += 3 * L::count) {
      visit(Several<V, 3>{}, at);
    }
    switch ((row - at) / L::count) {
      case 2:
        return visit(Several<V, 2>{}, at);
      case 1:
        return visit(Several<V, 1>{}, at);
      default:
        return;
    }
  }
}

// Corners of pixels [left, right) of a row, and their keys. The last vector repeats the last pixel.
template <class L>
void enclose_pixels(const Crf& of, int64_t n, int y, int left, int right, float* weight, uint64_t* key) {
  using Float = typename L::Float;
  int x = left;
  for (int first = left; first < right; first += L::count) {
    float given[crf_features][L::count];
    for (int lane = 0; lane < L::count; ++lane) {
      for (int i = 0; i < crf_features; ++i) {
        given[i][lane] = crf_feature(of, n, y, x, i);
      }
      x = std::min(x + 1, right - 1);
    }
    Float feature[crf_features];
    for (int i = 0; i < crf_features; ++i) {
      feature[i] = load<Float>(given[i]);
    }
    const SimplexOf<Float> simplex = enclose(feature);
    for (int k = 0; k < crf_corners; ++k) {
      int32_t at[crf_features][L::count];
      float share[L::count];
      for (int i = 0; i < crf_features; ++i) {
        store(at[i], simplex.at(k, i));
      }
      store(share, simplex.weight[k]);
      for (int lane = 0; lane < std::min(L::count, right - first); ++lane) {
        const int to = (first - left + lane) * crf_corners + k;
        key[to] = of.keys.key({at[0][lane], at[1][lane], at[2][lane], at[3][lane], at[4][lane]});
        weight[to] = share[lane];
      }
    }
  }
}

// What the pixels of all parts say to vertices [begin, end): the sums of their groups.
template <class L, class Wide>
void add_groups(const Links& links, int64_t begin, int64_t end, int row, const float* groups, float* to) {
  visit_row<L, Wide>(row, [&](auto part, int at) {
    using Sum = decltype(part);
    for (int64_t v = begin; v < end; ++v) {
      Sum sum{};
      for (int32_t i = links.first[v - 1]; i < links.first[v]; ++i) {
        sum = sum + Sum::read(groups + int64_t(links.group[i]) * row + at);
      }
      sum.write(to + v * row + at);
    }
  });
}

template <class L, class Wide>
void blur_vertices(const Links& links, int axis, int64_t begin, int64_t end, int row, const float* from, float* to) {
  visit_row<L, Wide>(row, [&](auto part, int at) {
    using Part = decltype(part);
    for (int64_t v = begin; v < end; ++v) {
      const int32_t* const beside = links.of(axis, v);
      const int32_t* const later = links.of(axis, std::min(v + rows_ahead, end - 1));
      Part::fetch(from + int64_t(later[0]) * row + at);
      Part::fetch(from + int64_t(later[1]) * row + at);
      const auto values = [&](int64_t of) { return Part::read(from + of * row + at); };
      (values(v) + (values(beside[0]) + values(beside[1])) * 0.5f).write(to + v * row + at);
    }
  });
}

}  // namespace deeperlab::cpu
