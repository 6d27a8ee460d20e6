// SPDX-License-Identifier: Apache-2.0
// The loops of crf over pixels: their scores, the spatial kernel along rows and columns, and Q.
#pragma once

#include "crf_lattice_fast.h"

namespace deeperlab::cpu {

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
      V said[1];
      filter_line(values.weight, half_width, [&](int64_t r) { return load<V>(here + r * row); }, said);
      store(to + i, said[0]);
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

// Rows of pixels that are filtered along y together: they share most of what they read.
constexpr int rows_of_tile = 4;

// What the corners of a pixel say to it, added to its scores, from which the greatest is taken.
template <class L>
void hear_vertices(const CrfMemory& memory, int64_t pixel, const float* vertices, int64_t row, float* scores) {
  using V = typename L::Float;
  const int32_t* const vertex = memory.lattice.vertex + pixel * crf_corners;
  const float* const weight = memory.lattice.slice + pixel * crf_corners;
  visit_vectors<L>(int(row), [&](auto count, int at) {
    using Sum = Several<V, decltype(count)::value>;
    Sum own, said;
    own.load_from(scores + at);
    for (int k = 0; k < crf_corners; ++k) {
      said.add(weight[k], vertices + vertex[k] * row + at);
    }
    (own + said).store_to(scores + at);
  });
}

// Scores of a pixel, less the greatest.
template <class L>
void lower_row(float* scores, int64_t row) {
  using V = typename L::Float;
  V most = load<V>(scores);
  for (int64_t i = L::count; i < row; i += L::count) {
    most = maximum(most, load<V>(scores + i));
  }
  const V top = broadcast<V>(greatest_lane<L>(most));
  for (int64_t i = 0; i < row; i += L::count) {
    store(scores + i, load<V>(scores + i) - top);
  }
}

// Shares of a pixel over their sum.
template <class L>
void normalize_row(float* share, int64_t row) {
  using V = typename L::Float;
  constexpr int parts = crf_group / L::count;
  V sum[parts]{};
  for (int64_t i = 0; i < row; i += crf_group) {
    for (int k = 0; k < parts; ++k) {
      sum[k] = sum[k] + load<V>(share + i + k * L::count);
    }
  }
  float sums[crf_group];
  for (int k = 0; k < parts; ++k) {
    store(sums + k * L::count, sum[k]);
  }
  const V factor = broadcast<V>(1.0f / sum_of_group(sums));
  for (int64_t i = 0; i < row; i += L::count) {
    store(share + i, load<V>(share + i) * factor);
  }
}

// Floats [begin, end) of `count` rows of pixels from y on: what is said to them along y, added to those of `unary`.
template <class L, int count>
void filter_down(const Crf& of, const CrfMemory& memory, int y, int64_t begin, int64_t end, const float* unary,
                 float* to) {
  using V = typename L::Float;
  const int half_width = of.reach(of.shape.height);
  const int64_t floats = int64_t(of.shape.width) * of.row();
  const CrfValues& values = memory.values;
  visit_blocks(end - begin, L::count, [&](int64_t at) {
    const int64_t first = y * floats + begin + at;
    V said[count];
    filter_line(values.weight, half_width, [&](int r) { return load<V>(values.across + first + r * floats); }, said);
    for (int k = 0; k < count; ++k) {
      const V own = unary == nullptr ? V{} : load<V>(unary + first + k * floats);
      store(to + first + k * floats, own + said[k] * broadcast<V>(values.lines[y + k].out * of.w2));
    }
  });
}

// Q of the pixels of a band of rows; without `unary` what is said to them alone.
template <class L, class Wide>
void update_band(const Crf& of, const CrfMemory& memory, const Messages& messages, int band, const float* unary) {
  using V = typename Wide::Float;
  const int64_t row = of.row(), floats = of.shape.width * row;
  const int64_t step = std::max<int64_t>(floats_of_tile / row, 2) * row;
  const int top = band * rows_of_crf_band, bottom = std::min(top + rows_of_crf_band, of.shape.height);
  float* const share = memory.values.share;
  const auto begin_rows = [&](auto lanes, auto count, int y, int64_t left, int64_t right) {
    if (messages.across != nullptr) {
      filter_down<decltype(lanes), decltype(count)::value>(of, memory, y, left, right, unary, share);
      return;
    }
    for (float* line = share + y * floats; line < share + (y + count) * floats; line += floats) {
      if (unary != nullptr) {
        std::copy(unary + (line - share) + left, unary + (line - share) + right, line + left);
      } else {
        std::fill(line + left, line + right, 0.0f);
      }
    }
  };
  const auto visit_tile = [&](auto lanes, auto count, int y, int64_t left, int64_t right) {
    begin_rows(lanes, count, y, left, right);
    for (int64_t line = y * floats; line < (y + count) * floats; line += floats) {
      for (int64_t at = line + left; at < line + right; at += row) {
        if (messages.vertices != nullptr) {
          hear_vertices<L>(memory, at / row, messages.vertices, row, share + at);
        }
        if (unary != nullptr) {
          lower_row<L>(share + at, row);
        }
      }
      if (unary != nullptr) {
        float *at = share + line + left, *const end = share + line + right;
        for (; end - at >= Wide::count; at += Wide::count) {
          store(at, crf_share(load<V>(at)));
        }
        for (; at < end; at += L::count) {
          store(at, crf_share(load<typename L::Float>(at)));
        }
        for (int64_t at = line + left; at < line + right; at += row) {
          normalize_row<L>(share + at, row);
        }
      }
    }
  };
  for (int64_t left = 0; left < floats; left += step) {
    const int64_t right = std::min(left + step, floats);
    const auto visit_rows = [&](auto lanes) {
      int y = top;
      for (; y + rows_of_tile <= bottom; y += rows_of_tile) {
        visit_tile(lanes, std::integral_constant<int, rows_of_tile>{}, y, left, right);
      }
      for (; y < bottom; ++y) {
        visit_tile(lanes, std::integral_constant<int, 1>{}, y, left, right);
      }
    };
    right - left >= Wide::count ? visit_rows(Wide{}) : visit_rows(L{});
  }
}

}  // namespace deeperlab::cpu
