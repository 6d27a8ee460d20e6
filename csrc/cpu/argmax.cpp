// SPDX-License-Identifier: Apache-2.0
#include "deeperlab/argmax.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "cells.h"
#include "lanes.h"

namespace deeperlab::cpu {
namespace {

// The plain form.

template <class T>
int32_t label_of_node(const View& logits, const Shape& shape, int64_t n, int y, int x) {
  Best best = no_class();
  for (int c = 0; c < shape.classes; ++c) {
    best.offer(logits.plane<T>(n, c)(y, x), c);
  }
  return best.label;
}

// A run of pixels with the same corners (cells.h).
template <class T>
void label_run(const View& logits, const Shape& shape, int64_t n, const int32_t* nodes, Cell first, int length,
               int32_t* run) {
  if (corners_agree(nodes, shape.w, first)) {  // then their label is the pixel's, by definition
    std::fill(run, run + length, nodes[int64_t(first.y) * shape.w + first.x]);
    return;
  }
  for (int i = 0; i < length; ++i) {
    const Between at = between_corners(pixel_of_run(first, i), shape.stride);
    Best best = no_class();
    for (int c = 0; c < shape.classes; ++c) {
      best.offer(sample(logits.plane<T>(n, c), at), c);
    }
    run[i] = best.label;
  }
}

template <class T>
void argmax_plain(const View& logits, const Shape& shape, int32_t* node_label, int32_t* label,
                  const Parallel& parallel) {
  parallel_rows(parallel, shape.images, shape.h, shape.w, [&](int64_t n, int y) {
    for (int x = 0; x < shape.w; ++x) {
      node_label[(n * shape.h + y) * shape.w + x] = label_of_node<T>(logits, shape, n, y, x);
    }
  });
  parallel_rows(parallel, shape.images, shape.height, shape.width, [&](int64_t n, int y) {
    const int32_t* nodes = node_label + n * shape.h * shape.w;
    int32_t* row = label + (n * shape.height + y) * shape.width;
    visit_cells(y, shape.width, shape.stride, shape.h, shape.w,
                [&](Cell first, int x, int length) { label_run<T>(logits, shape, n, nodes, first, length, row + x); });
  });
}

// The fast form. Bands of node rows, each followed at once by the pixels below it, while its logits are in the cache.
// A cell whose corners agree is filled. In a mixed cell the classes of its corners are evaluated first, at all its
// pixels; of the others only those can win whose largest corner reaches the least score found so.

constexpr int band_rows = 32;

// The best class so far at each pixel of a mixed cell. Classes come in any order, so ties must look at the class.
struct MixedCell {
  float score[max_cell_pixels];
  int32_t label[max_cell_pixels];
};

struct Corners {
  float a, b, c, d;  // top left, top right, bottom left, bottom right
};

template <class L>
void offer(const CellPixels& pixels, const Corners& at, int32_t candidate, MixedCell& cell) {
  using Float = typename L::Float;
  using Int = typename L::Int;
  for (int i = 0; i < pixels.padded; i += L::count) {
    const Float fx = load<Float>(pixels.fx + i), fy = load<Float>(pixels.fy + i);
    const Float gx = 1.0f - fx, gy = 1.0f - fy;
    const auto on_column = equal(fx, Float{}), on_row = equal(fy, Float{});
    const Float top = choose(on_column, at.a + Float{}, at.a * gx + at.b * fx);
    const Float bottom = choose(on_column, at.c + Float{}, at.c * gx + at.d * fx);
    const Float value = choose(on_row, top, top * gy + bottom * fy);
    const Float score = load<Float>(cell.score + i);
    const Int label = load<Int>(cell.label + i), own = candidate + Int{};
    const Int earlier = choose(less(own, label), own, label);
    store(cell.score + i, choose(less(score, value), value, score));
    store(cell.label + i, choose(equal(value, score), earlier, choose(less(score, value), own, label)));
  }
}

// Interpolated scores of a class whose corners all lie below this cannot reach `score`: rounding is monotonic, so they
// exceed their largest corner by the rounding of the weights at most, 6 · 2^-24 of it (subnormals: 2^-147).
inline float out_of_reach(float score) { return score - (std::fabs(score) * 0x1p-20f + 0x1p-120f); }

// One image; T elements in rows and columns of any stride.
template <class L, class T>
struct Labeller {
  using Float = typename L::Float;
  using Int = typename L::Int;

  const View& logits;
  const Shape& shape;
  const CellPixels& pixels;
  int64_t n;
  int32_t* nodes;  // [h, w]
  int32_t* label;  // [H, W]

  const T* row(int c, int y) const {
    const Plane<T> plane = logits.plane<T>(n, c);
    return plane.data + y * plane.row;
  }

  // Labels of the nodes of a row, `wide` vectors at a time; the row below is called for meanwhile: 66 classes are more
  // streams than the hardware follows by itself.
  template <int wide>
  void label_nodes(int y, int64_t x) const {
    Float best[wide];
    Int chosen[wide];
    for (int i = 0; i < wide; ++i) {
      best[i] = Float{} - std::numeric_limits<float>::infinity();
      chosen[i] = Int{};
    }
    const int64_t column = logits.column;
    for (int c = 0; c < shape.classes; ++c) {
      const T* from = row(c, y) + x * column;
      for (int i = 0; i < wide; ++i) {
        __builtin_prefetch(from + logits.row + i * L::count * column, 0, 2);
        const Float value = load_floats<Float>(from + i * L::count * column, column);
        const auto better = less(best[i], value);
        best[i] = choose(better, value, best[i]);
        chosen[i] = choose(better, c + Int{}, chosen[i]);
      }
    }
    for (int i = 0; i < wide; ++i) {
      store(nodes + int64_t(y) * shape.w + x + i * L::count, chosen[i]);
    }
  }

  void label_nodes(int y) const {
    constexpr int wide = 4;
    if (shape.w >= wide * L::count) {
      visit_blocks(shape.w, wide * L::count, [&](int64_t x) { label_nodes<wide>(y, x); });
    } else {
      visit_blocks(shape.w, L::count, [&](int64_t x) { label_nodes<1>(y, x); });
    }
  }

  Corners corners(int c, int y, int x) const {
    const T* top = row(c, y) + x * logits.column;
    const T* bottom = top + logits.row;
    return {to_float(top[0]), to_float(top[logits.column]), to_float(bottom[0]), to_float(bottom[logits.column])};
  }

  // The pixels of cells (y, x) … (y, x + lanes − 1) where their corners differ; the others are filled already.
  void label_cells(int y, int64_t x) const {
    const int32_t* own = nodes + int64_t(y) * shape.w + x;
    const int32_t* below = own + shape.w;
    const Int a = load<Int>(own), b = load<Int>(own + 1), c = load<Int>(below), d = load<Int>(below + 1);
    const uint32_t mixed = all_bits<Int> & ~bits_of(equal(a, b) & equal(a, c) & equal(a, d));
    if (mixed == 0) {
      return;
    }
    MixedCell cells[L::count];
    Float least = Float{} + std::numeric_limits<float>::infinity();
    visit_bits(mixed, [&](int i) {
      MixedCell& cell = cells[i];
      std::fill(cell.score, cell.score + pixels.padded, -std::numeric_limits<float>::infinity());
      std::fill(cell.label, cell.label + pixels.padded, 0);
      const int32_t known[4] = {a[i], b[i], c[i], d[i]};
      for (int k = 0; k < 4; ++k) {
        if (std::find(known, known + k, known[k]) == known + k) {
          offer<L>(pixels, corners(known[k], y, int(x) + i), known[k], cell);
        }
      }
      least[i] = out_of_reach(*std::min_element(cell.score, cell.score + pixels.count));
    });
    const int64_t column = logits.column;
    for (int candidate = 0; candidate < shape.classes; ++candidate) {
      const T* top = row(candidate, y) + x * column;
      const T* bottom = top + logits.row;
      const uint32_t loses = bits_of(
          less(load_floats<Float>(top, column), least) & less(load_floats<Float>(top + column, column), least) &
          less(load_floats<Float>(bottom, column), least) & less(load_floats<Float>(bottom + column, column), least));
      visit_bits(mixed & ~loses,
                 [&](int i) { offer<L>(pixels, corners(candidate, y, int(x) + i), candidate, cells[i]); });
    }
    visit_bits(mixed, [&](int i) { write(y, int(x) + i, cells[i]); });
  }

  // Sides of a cell whose two corners agree keep their label, by definition.
  void write(int y, int x, MixedCell& cell) const {
    const int s = shape.stride;
    const int32_t* own = nodes + int64_t(y) * shape.w + x;
    for (int i = 1; i < s && own[0] == own[1]; ++i) {
      cell.label[i] = own[0];
    }
    for (int i = 1; i < s && own[0] == own[shape.w]; ++i) {
      cell.label[i * s] = own[0];
    }
    write_cell(shape, y, x, cell.label, label);
  }

  // All pixel rows from node row y to the next; node row y + 1 is labelled.
  void label_pixels(int y) const {
    const int32_t* own = nodes + int64_t(y) * shape.w;
    fill_cells(
        shape, y, label, [&](int x) { return own[x]; },
        [&](Cell first, int length, int32_t* to) { label_run<T>(logits, shape, n, nodes, first, length, to); });
    if (y < shape.h - 1 && int64_t(y) * shape.stride < shape.height) {
      visit_blocks(shape.w - 1, L::count, [&](int64_t x) { label_cells(y, x); });
    }
  }
};

template <class T>
void argmax_fast(const View& logits, const Shape& shape, int32_t* node_label, int32_t* label,
                 const Parallel& parallel) {
  const CellPixels pixels(shape.stride);
  const int64_t nodes = int64_t(shape.h) * shape.w, pixel_count = int64_t(shape.height) * shape.width;
  const int64_t bands = (shape.h + band_rows - 1) / band_rows;
  const auto begin_of = [&](int64_t band) { return int(shape.h * band / bands); };
  const auto run = [&](int64_t n, const auto& task) {
    with_simd(parallel.simd, [&](auto lanes) {
      using L = decltype(lanes);
      task(Labeller<L, T>{logits, shape, pixels, n, node_label + n * nodes, label + n * pixel_count});
    });
  };
  // A band ends at the first row of nodes of the next one, so these come first.
  parallel_for(parallel, shape.images * bands, 1, [&](int64_t i) {
    run(i / bands, [&](const auto& labeller) { labeller.label_nodes(begin_of(i % bands)); });
  });
  parallel_for(parallel, shape.images * bands, 1, [&](int64_t i) {
    run(i / bands, [&](const auto& labeller) {
      const int end = begin_of(i % bands + 1);
      for (int y = begin_of(i % bands); y < end; ++y) {
        if (y + 1 < end) {
          labeller.label_nodes(y + 1);
        }
        labeller.label_pixels(y);
      }
    });
  });
}

template <class T>
void argmax_logits(const View& logits, const Shape& shape, int32_t* node_label, int32_t* label,
                   const Parallel& parallel) {
  if (parallel.simd != Simd::plain && has_fast_cells(shape)) {
    argmax_fast<T>(logits, shape, node_label, label, parallel);
  } else {
    argmax_plain<T>(logits, shape, node_label, label, parallel);
  }
}

template <class I>
void copy_labels(const View& labels, const Shape& shape, int32_t* node_label, int32_t* label,
                 const Parallel& parallel) {
  parallel_rows(parallel, shape.images, shape.height, shape.width, [&](int64_t n, int y) {
    const I* from = static_cast<const I*>(labels.data) + n * labels.image + y * labels.row;
    int32_t* row = label + (n * shape.height + y) * shape.width;
    for (int x = 0; x < shape.width; ++x) {
      row[x] = valid_label(int64_t(from[x * labels.column]), shape.classes);
    }
  });
  parallel_rows(parallel, shape.images, shape.h, shape.w, [&](int64_t n, int i) {
    const int64_t y = std::min<int64_t>(int64_t(shape.stride) * i, shape.height - 1);
    const int32_t* from = label + (n * shape.height + y) * shape.width;
    int32_t* row = node_label + (n * shape.h + i) * shape.w;
    for (int j = 0; j < shape.w; ++j) {
      row[j] = from[std::min<int64_t>(int64_t(shape.stride) * j, shape.width - 1)];
    }
  });
}

}  // namespace

void argmax(const View& semantic, const Shape& shape, int32_t* node_label, int32_t* label, const Parallel& parallel) {
  if (is_floating(semantic.type)) {
    with_float_type(semantic.type, [&](auto element) {
      argmax_logits<decltype(element)>(semantic, shape, node_label, label, parallel);
    });
  } else {
    with_integer_type(semantic.type, [&](auto element) {
      copy_labels<decltype(element)>(semantic, shape, node_label, label, parallel);
    });
  }
}

}  // namespace deeperlab::cpu
