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

// Calls visit(count, first), the count as a type, for the vectors of a row, up to four at a time.
template <class L, class Visit>
void visit_vectors(int row, const Visit& visit) {
  int first = 0;
  for (; row - first >= 4 * L::count; first += 4 * L::count) {
    visit(std::integral_constant<int, 4>{}, first);
  }
  switch ((row - first) / L::count) {
    case 3:
      return visit(std::integral_constant<int, 3>{}, first);
    case 2:
      return visit(std::integral_constant<int, 2>{}, first);
    case 1:
      return visit(std::integral_constant<int, 1>{}, first);
    default:
      return;
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

// Vectors of a row that are summed together.
template <class V, int count>
struct Several {
  V of[count]{};

  void add(float weight, const float* row) {
    for (int i = 0; i < count; ++i) {
      of[i] = of[i] + broadcast<V>(weight) * load<V>(row + i * lanes_of<V>);
    }
  }
  friend Several operator+(const Several& a, const Several& b) {
    Several sum;
    for (int i = 0; i < count; ++i) {
      sum.of[i] = a.of[i] + b.of[i];
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
  // The greatest of each lane.
  V most() const {
    V found = of[0];
    for (int i = 1; i < count; ++i) {
      found = maximum(found, of[i]);
    }
    return found;
  }
  void load_from(const float* row) {
    for (int i = 0; i < count; ++i) {
      of[i] = load<V>(row + i * lanes_of<V>);
    }
  }
  void store_to(float* row) const {
    for (int i = 0; i < count; ++i) {
      store(row + i * lanes_of<V>, of[i]);
    }
  }
};

// What the pixels of all parts say to vertices [begin, end): the sums of their groups.
template <class L>
void add_groups(const Links& links, int64_t begin, int64_t end, int row, const float* groups, float* to) {
  using V = typename L::Float;
  visit_vectors<L>(row, [&](auto count, int at) {
    using Sum = Several<V, decltype(count)::value>;
    for (int64_t v = begin; v < end; ++v) {
      Sum sum;
      for (int32_t i = links.first[v - 1]; i < links.first[v]; ++i) {
        Sum group;
        group.load_from(groups + int64_t(links.group[i]) * row + at);
        sum = sum + group;
      }
      sum.store_to(to + v * row + at);
    }
  });
}

template <class L>
void blur_vertices(const Links& links, int axis, int64_t begin, int64_t end, int row, const float* from, float* to) {
  using V = typename L::Float;
  for (int64_t v = begin; v < end; ++v) {
    const int32_t* const beside = links.of(axis, v);
    const float *const own = from + v * row, *const before = from + int64_t(beside[0]) * row,
                       *const after = from + int64_t(beside[1]) * row;
    for (int i = 0; i < row; i += L::count) {
      store(to + v * row + i, blur(load<V>(own + i), load<V>(before + i), load<V>(after + i)));
    }
  }
}

}  // namespace deeperlab::cpu
