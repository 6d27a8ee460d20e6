// SPDX-License-Identifier: Apache-2.0
// The loops of crf over rows of values: a vector is a few classes of one pixel or vertex, up to eight, so a row is read
// where it lies and sums stay in registers. The plain form is the same text with vectors of one.
#pragma once

#include <utility>

#include "deeperlab/crf.h"
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
  return *std::max_element(lanes, lanes + L::count);
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

// The scores of a pixel, from two rows of nodes. Those of no class lie far below all others.
template <class L>
void read_pixel(const Crf& of, const Cell& cell, const float* upper, const float* lower, float* scores) {
  using V = typename L::Float;
  const int row = of.row();
  const Between at = between_corners(cell, of.shape.stride);
  const int64_t left = int64_t(at.x) * row, right = at.fx == 0.0f ? left : left + row;
  V most = broadcast<V>(-infinity);
  for (int i = 0; i < row; i += L::count) {
    const V top = blend_alike(load<V>(upper + left + i), load<V>(upper + right + i), at.fx);
    V value = top;
    if (at.fy != 0.0f) {
      const V bottom = blend_alike(load<V>(lower + left + i), load<V>(lower + right + i), at.fx);
      value = blend_alike(top, bottom, at.fy);
    }
    store(scores + i, crf_score(value, of.probable));
  }
  std::fill(scores + of.shape.classes, scores + row, -infinity);
  for (int i = 0; i < row; i += L::count) {
    most = maximum(most, load<V>(scores + i));
  }
  const V top = broadcast<V>(greatest_lane<L>(most));
  for (int i = 0; i < row; i += L::count) {
    store(scores + i, maximum(load<V>(scores + i) - top, broadcast<V>(4.0f * least_crf_score)));
  }
}

// Corners of the pixels of a row, and their keys. The last vector overlaps the one before, or repeats the last pixel.
template <class L>
void enclose_row(const Crf& of, int64_t n, int y, float* weight, uint64_t* key, int32_t* entry) {
  using Float = typename L::Float;
  const int width = of.shape.width;
  for (int first = 0; first < width; first += L::count) {
    float given[crf_features][L::count];
    for (int i = 0; i < crf_features; ++i) {
      for (int lane = 0; lane < L::count; ++lane) {
        given[i][lane] = crf_feature(of, n, y, std::min(first + lane, width - 1), i);
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
      for (int lane = 0; lane < std::min(L::count, width - first); ++lane) {
        const int64_t to = (int64_t(y) * width + first + lane) * crf_corners + k;
        key[to] = of.keys.key({at[0][lane], at[1][lane], at[2][lane], at[3][lane], at[4][lane]});
        entry[to] = int32_t(to);
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

// Rows of pixels of a band, filtered along x. A line of pixels is one of floats, with nothing beyond its ends, so that
// a vector may hold parts of two pixels.
template <class L>
void filter_across(const Crf& of, const CrfValues& values, int band) {
  using V = typename L::Float;
  const int row = of.row(), width = of.shape.width, half_width = of.reach(width);
  const int64_t floats = int64_t(width) * row, begin = int64_t(half_width) * row;
  float* const line = values.room + band * values.room_floats;
  std::fill(line, line + begin, 0.0f);
  std::fill(line + begin + floats, line + begin + floats + begin, 0.0f);
  const int end = std::min((band + 1) * rows_of_crf_band, of.shape.height);
  for (int y = band * rows_of_crf_band; y < end; ++y) {
    const float* const from = values.share + y * floats;
    for (int x = 0; x < width; ++x) {
      const float factor = values.columns[x].in;
      for (int64_t i = int64_t(x) * row; i < int64_t(x + 1) * row; ++i) {
        line[begin + i] = from[i] * factor;
      }
    }
    float* const to = values.across + y * floats;
    visit_blocks(floats, L::count, [&](int64_t i) {
      const float* const here = line + begin + i;
      store(to + i, filter_line<V>(values.weight, half_width, [&](int64_t r) { return load<V>(here + r * row); }));
    });
    for (int x = 0; x < width; ++x) {
      const float factor = values.columns[x].out * values.lines[y].in;
      for (int64_t i = int64_t(x) * row; i < int64_t(x + 1) * row; ++i) {
        to[i] = to[i] * factor;
      }
    }
  }
}

// What is said to the pixels; null: nothing.
struct Messages {
  const float* vertices;  // [M + 1] rows
  const float* across;    // [P] rows, filtered along x
};

// Floats of a tile of pixels: with the rows above and below that it hears from, they stay in the cache.
constexpr int64_t floats_of_tile = 256;

// q = softmax of a row of scores.
template <class L>
void normalize_row(float* q, int row) {
  using V = typename L::Float;
  V most = load<V>(q);
  for (int i = L::count; i < row; i += L::count) {
    most = maximum(most, load<V>(q + i));
  }
  const V top = broadcast<V>(greatest_lane<L>(most));
  float sums[crf_group] = {};
  for (int i = 0; i < row; i += L::count) {
    const V share = crf_share(load<V>(q + i), top);
    store(q + i, share);
    float* const sum = sums + i % crf_group;
    store(sum, load<V>(sum) + share);
  }
  const float sum = sum_of_group(sums);
  for (int i = 0; i < row; i += L::count) {
    store(q + i, load<V>(q + i) / sum);
  }
}

// What is said to pixels of row y along y: floats [begin, end) of the row, added to those of `unary`.
template <class L>
void filter_down(const Crf& of, const CrfMemory& memory, int y, int64_t begin, int64_t end, const float* unary,
                 float* to) {
  using V = typename L::Float;
  const int height = of.shape.height, half_width = of.reach(height);
  const int64_t floats = int64_t(of.shape.width) * of.row();
  const float factor = memory.values.lines[y].out * of.w2;
  static constexpr float nothing[widest_lanes] = {};
  visit_blocks(end - begin, L::count, [&](int64_t at) {
    const float* const here = memory.values.across + y * floats + begin + at;
    const V said = filter_line<V>(memory.values.weight, half_width, [&](int r) {
      return load<V>(y + r < 0 || y + r >= height ? nothing : here + r * floats);
    });
    const V own = unary == nullptr ? V{} : load<V>(unary + y * floats + begin + at);
    store(to + y * floats + begin + at, own + said * broadcast<V>(factor));
  });
}

// Q of the pixels of a band of rows; without `unary` what is said to them alone.
template <class L, class Wide>
void update_band(const Crf& of, const CrfMemory& memory, const Messages& messages, int band, const float* unary) {
  using V = typename L::Float;
  const int64_t row = of.row(), floats = of.shape.width * row;
  const int64_t step = std::max<int64_t>(floats_of_tile / row, 2) * row;
  const int top = band * rows_of_crf_band, bottom = std::min(top + rows_of_crf_band, of.shape.height);
  float* const share = memory.values.share;
  for (int64_t left = 0; left < floats; left += step) {
    const int64_t right = std::min(left + step, floats);
    for (int y = top; y < bottom; ++y) {
      float* const line = share + y * floats;
      if (messages.across != nullptr) {
        if (right - left >= Wide::count) {
          filter_down<Wide>(of, memory, y, left, right, unary, share);
        } else {
          filter_down<L>(of, memory, y, left, right, unary, share);
        }
      } else if (unary != nullptr) {
        std::copy(unary + y * floats + left, unary + y * floats + right, line + left);
      } else {
        std::fill(line + left, line + right, 0.0f);
      }
      for (int64_t i = left; i < right; i += row) {
        const int64_t corner = (y * int64_t(of.shape.width) + i / row) * crf_corners;
        float* const q = line + i;
        if (messages.vertices != nullptr) {
          visit_vectors<L>(int(row), [&](auto count, int at) {
            using Sum = Several<V, decltype(count)::value>;
            Sum own, said;
            own.load_from(q + at);
            for (int k = 0; k < crf_corners; ++k) {
              said.add(memory.lattice.slice[corner + k],
                       messages.vertices + memory.lattice.vertex[corner + k] * row + at);
            }
            (own + said).store_to(q + at);
          });
        }
        if (unary != nullptr) {
          normalize_row<L>(q, int(row));
        }
      }
    }
  }
}

}  // namespace deeperlab::cpu
