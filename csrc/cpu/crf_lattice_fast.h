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

// Corners of pixels [begin, end), and their keys. The last vector repeats the last pixel.
template <class L>
void enclose_pixels(const Crf& of, int64_t n, int64_t begin, int64_t end, float* weight, uint64_t* key) {
  using Float = typename L::Float;
  const int width = of.shape.width;
  int y = int(begin / width), x = int(begin % width);
  for (int64_t first = begin; first < end; first += L::count) {
    float given[crf_features][L::count];
    for (int lane = 0; lane < L::count; ++lane) {
      for (int i = 0; i < crf_features; ++i) {
        given[i][lane] = crf_feature(of, n, y, x, i);
      }
      if (first + lane + 1 < end && ++x == width) {
        x = 0;
        ++y;
      }
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
      for (int64_t lane = 0; lane < std::min<int64_t>(L::count, end - first); ++lane) {
        const int64_t to = (first - begin + lane) * crf_corners + k;
        key[to] = of.keys.key({at[0][lane], at[1][lane], at[2][lane], at[3][lane], at[4][lane]});
        weight[to] = share[lane];
      }
    }
  }
}

// Σ over the entries of a vertex, in pieces; add(piece, i) adds entry i.
template <class Sum, class Add>
Sum sum_pieces(const Lattice& lattice, int64_t vertex, const Add& add) {
  const int32_t end = lattice.first[vertex];
  Sum sum{};
  for (int32_t from = lattice.first[vertex - 1]; from < end; from += crf_piece) {
    Sum piece{};
    for (int32_t i = from; i < std::min(end, from + crf_piece); ++i) {
      add(piece, i);
    }
    sum = sum + piece;
  }
  return sum;
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

// What pixels say to vertices [begin, end).
template <class L>
void splat_rows(const Lattice& lattice, int64_t begin, int64_t end, int row, const float* rows, float* to) {
  using V = typename L::Float;
  visit_vectors<L>(row, [&](auto count, int at) {
    using Sum = Several<V, decltype(count)::value>;
    for (int64_t v = begin; v < end; ++v) {
      const Sum sum = sum_pieces<Sum>(lattice, v, [&](Sum& piece, int32_t i) {
        piece.add(lattice.splat[i], rows + int64_t(lattice.pixel[i]) * row + at);
      });
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

// What the corners of a pixel say to it: V floats of a row.
template <class V>
V slice_row(const int32_t* vertex, const float* weight, const float* rows, int64_t row) {
  V sum{};
  for (int k = 0; k < crf_corners; ++k) {
    sum = sum + broadcast<V>(weight[k]) * load<V>(rows + vertex[k] * row);
  }
  return sum;
}

}  // namespace deeperlab::cpu
