// SPDX-License-Identifier: Apache-2.0
// The loops of crf over pixels: their scores, and an update, which hears what is said to the pixels, finds their Q, and
// at once says what they have to say, so that Q itself is never written to memory.
#pragma once

#include "crf_lattice_fast.h"
#include "simd/stream.h"

namespace deeperlab::cpu {

template <class L>
typename L::Float greatest_of_row(const float* scores, int64_t row) {
  using V = typename L::Float;
  V most = load<V>(scores);
  for (int64_t i = L::count; i < row; i += L::count) {
    most = maximum(most, load<V>(scores + i));
  }
  return most;
}

// What a pixel says to its corners, added to the groups of its part.
template <class L>
void say_to_groups(const CrfMemory& memory, int64_t pixel, float* groups, int64_t row, const float* share) {
  using V = typename L::Float;
  const uint16_t* const group = memory.lattice.group + pixel * crf_corners;
  const float* const weight = memory.lattice.splat + pixel * crf_corners;
  visit_vectors<L>(int(row), [&](auto count, int at) {
    for (int k = 0; k < crf_corners; ++k) {
      using Sum = Several<V, decltype(count)::value>;
      float* const to = groups + group[k] * row + at;
      Sum sum;
      sum.load_from(to);
      sum.add(weight[k], share + at);
      sum.store_to(to);
    }
  });
}

// The scores of a pixel, from two rows of nodes. Those of no class lie far below all others.
template <class L>
void read_pixel(const Crf& of, const Cell& cell, const float* upper, const float* lower, float* scores) {
  using V = typename L::Float;
  const int row = of.row();
  const Between at = between_corners(cell, of.shape.stride);
  const int64_t left = int64_t(at.x) * row, right = at.fx == 0.0f ? left : left + row;
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
  const V top = broadcast<V>(greatest_lane<L>(greatest_of_row<L>(scores, row)));
  for (int i = 0; i < row; i += L::count) {
    store(scores + i, maximum(load<V>(scores + i) - top, broadcast<V>(4.0f * least_crf_score)));
  }
}

// What is said to the pixels; null: nothing.
struct Messages {
  const float* vertices;  // [M + 1] rows
  const float* across;    // [P] rows, filtered along x
};

// An update: what the pixels hear, and where it goes.
struct Update {
  Messages heard;
  const float* unary;  // [P] rows that it is added to, or null
  bool is_share;       // Q is the softmax of that, else the sum itself
  float* across;       // [P] rows that are said, filtered along x, or null
  bool splats;         // the same, to groups of the lattice
  float* out;          // [C, H, W] Q, which is said to nobody, or null
};

// Rows of pixels that are in a task's room: columns [left, right) of `count` rows from y on.
struct Rows {
  int y, count, left, right;
  float* floats;

  float* of(int k, int64_t row) const { return floats + int64_t(k) * (right - left) * row; }
};

// Floats of a tile of pixels, which stay in the nearest cache from one step to the next.
constexpr int64_t floats_of_tile = 256;

// What the corners of a pixel say to it, added to its scores. Returns the greatest of each lane.
template <class L>
typename L::Float hear_vertices(const CrfMemory& memory, int64_t pixel, const int32_t* vertex_of, const float* vertices,
                                int64_t row, float* scores) {
  using V = typename L::Float;
  const uint16_t* const group = memory.lattice.group + pixel * crf_corners;
  const float* const weight = memory.lattice.slice + pixel * crf_corners;
  V most = broadcast<V>(-infinity);
  visit_vectors<L>(int(row), [&](auto count, int at) {
    using Sum = Several<V, decltype(count)::value>;
    Sum own, said;
    own.load_from(scores + at);
    for (int k = 0; k < crf_corners; ++k) {
      said.add(weight[k], vertices + vertex_of[group[k]] * row + at);
    }
    const Sum sum = own + said;
    sum.store_to(scores + at);
    most = maximum(most, sum.most());
  });
  return most;
}

// Scores of a pixel, less the greatest.
template <class L>
void lower_row(const typename L::Float& most, float* scores, int64_t row) {
  using V = typename L::Float;
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

// Floats [begin, end) of a row of `rows`, which are pixels [left, right) of the image: what is said to them along y,
// added to those of `unary`.
template <class L, int count>
void filter_down(const Crf& of, const CrfValues& values, const Update& update, const Rows& rows, int64_t begin,
                 int64_t end) {
  using V = typename L::Float;
  const int half_width = of.reach(of.shape.height);
  const int64_t row = of.row(), floats = int64_t(of.shape.width) * row;
  visit_blocks(end - begin, L::count, [&](int64_t at) {
    const int64_t first = rows.y * floats + rows.left * row + begin + at;
    V said[count];
    filter_line(
        values.weight, half_width, [&](int r) { return load<V>(update.heard.across + first + r * floats); }, said);
    for (int k = 0; k < count; ++k) {
      const V own = update.unary == nullptr ? V{} : load<V>(update.unary + first + k * floats);
      store(rows.of(k, row) + begin + at, own + said[k] * broadcast<V>(values.lines[rows.y + k].out * of.w2));
    }
  });
}

// What pixels hear, and Q.
template <class L, class Wide, int count>
void update_rows(const Crf& of, const CrfMemory& memory, const Update& update, const Rows& rows) {
  const int64_t row = of.row(), floats = int64_t(rows.right - rows.left) * row;
  const int64_t step = std::max<int64_t>(floats_of_tile / row, 2) * row;
  const auto visit_tile = [&](auto lanes, int64_t begin, int64_t end) {
    using Tile = decltype(lanes);
    if (update.heard.across != nullptr) {
      filter_down<Tile, count>(of, memory.values, update, rows, begin, end);
    }
    for (int k = 0; k < count; ++k) {
      float* const line = rows.of(k, row);
      const int64_t first = int64_t(rows.y + k) * of.shape.width + rows.left;  // pixel
      if (update.heard.across == nullptr) {
        if (update.unary != nullptr) {
          std::copy(update.unary + first * row + begin, update.unary + first * row + end, line + begin);
        } else {
          std::fill(line + begin, line + end, 0.0f);
        }
      }
      for (int64_t at = begin; at < end; at += row) {
        typename L::Float most;
        if (update.heard.vertices != nullptr) {
          const int x = int(at / row);
          const int64_t part = of.part(rows.y + k, rows.left + x);
          const int32_t* const vertex_of = memory.links.vertex + memory.lattice.before[part];
          most = hear_vertices<L>(memory, first + x, vertex_of, update.heard.vertices, row, line + at);
        } else {
          most = greatest_of_row<L>(line + at, row);
        }
        if (update.is_share) {
          lower_row<L>(most, line + at, row);
        }
      }
      if (update.is_share) {
        float *at = line + begin, *const last = line + end;
        for (; last - at >= Wide::count; at += Wide::count) {
          store(at, crf_share(load<typename Wide::Float>(at)));
        }
        for (; at < last; at += L::count) {
          store(at, crf_share(load<typename L::Float>(at)));
        }
        for (at = line + begin; at < last; at += row) {
          normalize_row<L>(at, row);
        }
      }
    }
  };
  for (int64_t begin = 0; begin < floats; begin += step) {
    const int64_t end = std::min(begin + step, floats);
    end - begin >= Wide::count ? visit_tile(Wide{}, begin, end) : visit_tile(L{}, begin, end);
  }
}

// Columns [left, right) of a row of pixels, filtered along x in their place. `line` has room for as many more on both
// sides as the kernel reaches: a line of pixels is one of floats, so that a vector may hold parts of two pixels.
template <class L, class Wide>
void filter_across(const Crf& of, const CrfValues& values, const Rows& rows, int k, int left, int right, float* line) {
  using V = typename L::Float;
  const int half_width = of.reach(of.shape.width);
  const int64_t row = of.row(), floats = (right - left) * row;
  std::fill(line, line + (rows.left - (left - half_width)) * row, 0.0f);
  float* to = line + (rows.left - (left - half_width)) * row;
  const float* from = rows.of(k, row);
  for (int x = rows.left; x < rows.right; ++x) {
    const V factor = broadcast<V>(values.columns[x].in);
    for (const float* const end = from + row; from < end; from += L::count, to += L::count) {
      store(to, load<V>(from) * factor);
    }
  }
  std::fill(line + (rows.right - (left - half_width)) * row, line + (right - left + 2 * half_width) * row, 0.0f);
  const auto filter = [&](auto lanes, auto vectors) {  // so many at once, since their sums do not wait for each other
    using Part = Several<typename decltype(lanes)::Float, decltype(vectors)::value>;
    float* const said_to = rows.of(k, row) + (left - rows.left) * row;
    visit_blocks(floats, decltype(vectors)::value * decltype(lanes)::count, [&](int64_t i) {
      const float* const here = line + half_width * row + i;
      const auto at = [&](int64_t r) {
        Part part;
        part.load_from(here + r * row);
        return part;
      };
      Part said[1];
      filter_line(values.weight, half_width, at, said);
      said[0].store_to(said_to + i);
    });
  };
  constexpr int together = 4;
  if (floats >= together * Wide::count) {
    filter(Wide{}, std::integral_constant<int, together>{});
  } else {
    filter(L{}, std::integral_constant<int, 1>{});
  }
}

// Writes them to `across`, around the cache: nothing there is read before all of it is written.
template <class L>
void write_across(const Crf& of, const CrfValues& values, const Rows& rows, int k, int left, int right, float* across) {
  const int y = rows.y + k;
  const int64_t row = of.row();
  const float* from = rows.of(k, row) + (left - rows.left) * row;
  float* to = across + (int64_t(y) * of.shape.width + left) * row;
  for (int x = left; x < right; ++x) {
    const float factor = values.columns[x].out * values.lines[y].in;
    for (const float* const end = from + row; from < end; from += L::count, to += L::count) {
      if constexpr (L::count > 1) {
        stream(to, bit_cast<typename L::Int>(load<typename L::Float>(from) * factor));
      } else {
        *to = *from * factor;
      }
    }
  }
}

// Says what the rows of pixels have to say, of columns [left, right).
template <class L, class Wide>
void say_rows(const Crf& of, const CrfMemory& memory, const Update& update, const Rows& rows, int left, int right,
              float* line) {
  const int64_t row = of.row();
  for (int k = 0; k < rows.count; ++k) {
    const int y = rows.y + k;
    const float* const from = rows.of(k, row) + (left - rows.left) * row;
    if (update.out != nullptr) {
      for (int c = 0; c < of.shape.classes; ++c) {
        float* const to = update.out + c * of.shape.pixels() + int64_t(y) * of.shape.width + left;
        for (int64_t x = 0; x < right - left; ++x) {
          to[x] = from[x * row + c];
        }
      }
    }
    for (int x = left; update.splats && x < right; ++x) {
      const int64_t part = of.part(y, x);
      const int32_t* const before = memory.lattice.before + part;
      float* const groups = memory.values.group + before[0] * row;
      if (y % crf_part_rows == 0 && x % crf_part_columns == 0) {
        std::fill(groups, memory.values.group + before[1] * row, 0.0f);
      }
      say_to_groups<L>(memory, int64_t(y) * of.shape.width + x, groups, row, from + (x - left) * row);
    }
    if (update.across != nullptr) {
      filter_across<L, Wide>(of, memory.values, rows, k, left, right, line);
      write_across<L>(of, memory.values, rows, k, left, right, update.across);
    }
  }
}

// Task `task` of an update.
template <class L, class Wide>
void update_task(const Crf& of, const CrfMemory& memory, const Update& update, const Tasks& tasks, int64_t task) {
  const int strip = int(task / tasks.bands), band = int(task % tasks.bands);
  const int left = strip * tasks.columns, right = std::min(left + tasks.columns, of.shape.width);
  const int beside = update.across == nullptr ? 0 : of.reach(of.shape.width);
  float* const room = memory.values.room + task * tasks.room_floats;
  Rows rows{band * Tasks::band_rows, 0, std::max(left - beside, 0), std::min(right + beside, of.shape.width), room};
  float* const line = rows.of(Tasks::together, of.row());
  const int bottom = std::min(rows.y + Tasks::band_rows, of.shape.height);
  for (; rows.y < bottom; rows.y += rows.count) {
    if (rows.y + Tasks::together <= bottom) {
      rows.count = Tasks::together;
      update_rows<L, Wide, Tasks::together>(of, memory, update, rows);
    } else {
      rows.count = 1;
      update_rows<L, Wide, 1>(of, memory, update, rows);
    }
    say_rows<L, Wide>(of, memory, update, rows, left, right, line);
  }
  end_stream();
}

}  // namespace deeperlab::cpu
