// SPDX-License-Identifier: Apache-2.0
#include "deeperlab/argmax.h"

#include <algorithm>

#include "cells.h"
#include "deeperlab/problem.h"
#include "deeperlab/scratch.h"
#include "argmax_fast.h"

namespace deeperlab::cpu {
namespace {

// The plain form.

template <class T>
int32_t label_of_node(const View& logits, const Shape& shape, int64_t n, int y, int x) {
  Best best;
  for (int c = 0; c < shape.classes; ++c) {
    best.offer(logits.plane<T>(n, c)(y, x), c);
  }
  return best.label;
}

// A run of pixels with the same corners (cells.h).
template <class T>
void label_run(const View& logits, const Shape& shape, int64_t n, const int32_t* nodes, Cell first, int length,
               int32_t* run) {
  if (corners_agree(nodes, shape.grid_w, first)) {  // then their label is the pixel's, by definition
    std::fill(run, run + length, nodes[int64_t(first.y) * shape.grid_w + first.x]);
    return;
  }
  for (int i = 0; i < length; ++i) {
    const Between at = between_corners(pixel_of_run(first, i), shape.stride);
    Best best;
    for (int c = 0; c < shape.classes; ++c) {
      best.offer(sample(logits.plane<T>(n, c), at), c);
    }
    run[i] = best.label;
  }
}

template <class T>
void argmax_plain(const View& logits, const Shape& shape, int32_t* node_label, int32_t* label,
                  const Parallel& parallel) {
  parallel_rows(parallel, shape.images, shape.grid_h, shape.grid_w, [&](int64_t n, int y) {
    for (int x = 0; x < shape.grid_w; ++x) {
      node_label[(n * shape.grid_h + y) * shape.grid_w + x] = label_of_node<T>(logits, shape, n, y, x);
    }
  });
  parallel_rows(parallel, shape.images, shape.height, shape.width, [&](int64_t n, int y) {
    const int32_t* nodes = node_label + n * shape.grid_h * shape.grid_w;
    int32_t* row = label + (n * shape.height + y) * shape.width;
    visit_cells(y, shape.width, shape.stride, shape.grid_h, shape.grid_w,
                [&](Cell first, int x, int length) { label_run<T>(logits, shape, n, nodes, first, length, row + x); });
  });
}

// The fast form. Bands of node rows, each followed at once by the pixels below it. A cell whose corners agree is
// filled. In a mixed cell the classes of its corners are evaluated, at all its pixels together; another class can win
// only if its score at some corner reaches the least that these have at any pixel. Every node's second and third best
// scores nearly always tell that none does, so that no logit is read twice but those of the corners' own classes.

constexpr int band_rows = 32;

// One image; T elements in rows and columns of any stride.
template <class L, class T, bool dense>
struct Labeler {
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

  // Labels and rivals of the nodes of a row, `wide` vectors at a time; the row below is called for meanwhile: 66
  // classes are more streams than the hardware follows by itself.
  template <int wide>
  void label_nodes(int y, int64_t x, const Rivals& rivals) const {
    NodeRanks<L> ranks[wide];
    const int64_t column = logits.column;
    for (int c = 0; c < shape.classes; ++c) {
      const T* from = row(c, y) + x * column;
      for (int i = 0; i < wide; ++i) {
        __builtin_prefetch(from + logits.row + i * L::count * column, 0, 3);
        ranks[i].offer(load_floats<Float, dense>(from + i * L::count * column, column), c);
      }
    }
    for (int i = 0; i < wide; ++i) {
      ranks[i].store_to(nodes + int64_t(y) * shape.grid_w, rivals, x + i * L::count);
    }
  }

  // Where channels are last a node's logits lie side by side, and are searched node by node: no rivals are kept, as
  // those of the few mixed cells are soon read anew.
  bool by_rows() const { return !dense && logits.channel == 1 && shape.classes >= L::count && shape.grid_w > L::count; }

  void label_nodes_by_rows(int y, int64_t x) const {
    const T* const from = row(0, y) + x * logits.column;
    Float most[L::count];
    for (int i = 0; i < L::count; ++i) {
      most[i] = greatest_of_row<L>(from + i * logits.column, shape.classes, 4 * L::count * logits.column);
    }
    transpose(most);
    for (int i = 1; i < L::count; ++i) {
      most[0] = maximum(most[0], most[i]);
    }
    float best[L::count];
    store(best, most[0]);
    int32_t* const to = nodes + int64_t(y) * shape.grid_w + x;
    for (int i = 0; i < L::count; ++i) {
      to[i] = first_of_row<L>(from + i * logits.column, shape.classes, best[i]);
    }
  }

  // Whether no class but those of the corners reaches `least` at any of them.
  bool others_stay_below(float least, int y, int x, const int32_t (&known)[4]) const {
    const T* const top = row(0, y) + x * logits.column;
    const T* const corner[4] = {top, top + logits.column, top + logits.row, top + logits.row + logits.column};
    Float most = broadcast<Float>(-infinity);
    for (const T* from : corner) {
      most = maximum(greatest_of_others<L>(from, shape.classes, known), most);
    }
    return all(less(most, broadcast<Float>(least)));
  }

  void label_nodes(int y, const Rivals& rivals) const {
    if (by_rows()) {
      return visit_blocks(shape.grid_w, L::count, [&](int64_t x) { label_nodes_by_rows(y, x); });
    }
    constexpr int wide = L::count == 16 ? 4 : 2;  // as many as there are registers for
    if (shape.grid_w >= wide * L::count) {
      visit_blocks(shape.grid_w, wide * L::count, [&](int64_t x) { label_nodes<wide>(y, x, rivals); });
    } else {
      visit_blocks(shape.grid_w, L::count, [&](int64_t x) { label_nodes<1>(y, x, rivals); });
    }
  }

  CornersOf<float> corners(int c, int y, int x) const {
    const T* top = row(c, y) + x * logits.column;
    const T* bottom = top + logits.row;
    return {to_float(top[0]), to_float(top[logits.column]), to_float(bottom[0]), to_float(bottom[logits.column])};
  }

  // The pixels of cells (y, x) … (y, x + lanes − 1) where their corners differ; the others are filled already.
  void label_cells(int y, int64_t x, const Rivals& rivals, const Rivals& rivals_below) const {
    const int32_t* above = nodes + int64_t(y) * shape.grid_w + x;
    const int32_t* below = above + shape.grid_w;
    const Int labels[4] = {load<Int>(above), load<Int>(above + 1), load<Int>(below), load<Int>(below + 1)};
    const uint32_t mixed = all_bits<Int> & ~bits_of(equal(labels[0], labels[1]) & equal(labels[0], labels[2]) &
                                                    equal(labels[0], labels[3]));
    if (mixed == 0) {
      return;
    }
    MixedCell cells[L::count];
    float least[L::count];  // scores that every pixel of a cell reaches
    std::fill(least, least + L::count, infinity);
    visit_bits(mixed, [&](int i) {
      least[i] = out_of_reach(begin({above[i], above[i + 1], below[i], below[i + 1]}, y, int(x) + i, cells[i]));
    });
    uint32_t open = mixed;
    if (by_rows()) {
      visit_bits(mixed, [&](int i) {
        const int32_t known[4] = {above[i], above[i + 1], below[i], below[i + 1]};
        open ^= others_stay_below(least[i], y, int(x) + i, known) ? 1u << i : 0u;
      });
    } else {
      open &= ~bits_of(less(most_of_others<L>(labels, rivals, rivals_below, x), load<Float>(least)));
    }
    visit_bits(open, [&](int i) {
      for (int candidate = 0; candidate < shape.classes; ++candidate) {
        const CornersOf<float> at = corners(candidate, y, int(x) + i);
        if (may_reach(at, least[i])) {
          offer_cell<L>(pixels, at, candidate, cells[i]);
        }
      }
    });
    visit_bits(mixed, [&](int i) { write(y, int(x) + i, cells[i]); });
  }

  // Offers a cell the classes of its corners; the least score reached.
  float begin(const int32_t (&known)[4], int y, int x, MixedCell& cell) const {
    int32_t classes[4];
    CornersOf<float> scores[4];
    int count = 0;
    for (int k = 0; k < 4; ++k) {
      if (std::find(known, known + k, known[k]) == known + k) {
        classes[count] = known[k];
        scores[count++] = corners(known[k], y, x);
      }
    }
    return begin_cell<L>(pixels, scores, classes, count, cell);
  }

  // Sides of a cell whose two corners agree keep their label, by definition.
  void write(int y, int x, MixedCell& cell) const {
    const int s = shape.stride;
    const int32_t* corner = nodes + int64_t(y) * shape.grid_w + x;
    for (int i = 1; i < s && corner[0] == corner[1]; ++i) {
      cell.label[i] = corner[0];
    }
    for (int i = 1; i < s && corner[0] == corner[shape.grid_w]; ++i) {
      cell.label[i * s] = corner[0];
    }
    write_cell(shape, y, x, cell.label, label);
  }

  // All pixel rows from node row y to the next, which is labeled.
  void label_pixels(int y, const Rivals& rivals, const Rivals& rivals_below) const {
    const int32_t* labels = nodes + int64_t(y) * shape.grid_w;
    fill_cells(
        shape, y, label, [&](int x) { return labels[x]; },
        [&](Cell first, int length, int32_t* to) { label_run<T>(logits, shape, n, nodes, first, length, to); });
    if (y < shape.grid_h - 1 && int64_t(y) * shape.stride < shape.height) {
      visit_blocks(shape.grid_w - 1, L::count, [&](int64_t x) { label_cells(y, x, rivals, rivals_below); });
    }
  }
};

// Each band has room for the rivals of three rows: its first, and two by turns for the others.
struct Layout {
  int32_t* runner;        // [N, bands, 3, w]
  float *second, *third;  // [N, bands, 3, w]
  int64_t bands;
  int64_t bytes;

  // Of row y of band `band`, counted over all images.
  Rivals rivals(const Shape& shape, int64_t band, int y) const {
    const int64_t at = (3 * band + (y == 0 ? 0 : 1 + y % 2)) * shape.grid_w;
    return {runner + at, second + at, third + at};
  }
};

Layout lay_out(const Shape& shape, void* block) {
  Scratch scratch(block);
  const int64_t bands = (shape.grid_h + band_rows - 1) / band_rows, all = shape.images * bands * 3 * shape.grid_w;
  int32_t* runner = scratch.take<int32_t>(all);
  float* second = scratch.take<float>(all);
  float* third = scratch.take<float>(all);
  return {runner, second, third, bands, scratch.bytes()};
}

template <class T>
void argmax_fast(const View& logits, const Shape& shape, int32_t* node_label, int32_t* label, void* scratch,
                 const Parallel& parallel) {
  const CellPixels pixels(shape.stride);
  const Layout layout = lay_out(shape, scratch);
  const int64_t nodes = int64_t(shape.grid_h) * shape.grid_w, pixel_count = int64_t(shape.height) * shape.width;
  const auto begin_of = [&](int64_t band) { return int(shape.grid_h * band / layout.bands); };
  const auto run = [&](int64_t n, const auto& task) {
    with_density(logits.column == 1, [&](auto dense) {
      with_simd(parallel.simd, [&](auto lanes) {
        using L = decltype(lanes);
        task(Labeler<L, T, dense.value>{logits, shape, pixels, n, node_label + n * nodes, label + n * pixel_count});
      });
    });
  };
  // A band ends at the first row of nodes of the next one, so these come first.
  parallel_for(parallel, shape.images * layout.bands, 1, [&](int64_t i) {
    run(i / layout.bands,
        [&](const auto& labeler) { labeler.label_nodes(begin_of(i % layout.bands), layout.rivals(shape, i, 0)); });
  });
  parallel_for(parallel, shape.images * layout.bands, 1, [&](int64_t i) {
    run(i / layout.bands, [&](const auto& labeler) {
      const int begin = begin_of(i % layout.bands), rows = begin_of(i % layout.bands + 1) - begin;
      for (int y = 0; y < rows && !parallel.stopped(parallel); ++y) {
        const bool last = y + 1 == rows, end = begin + rows == shape.grid_h;
        const Rivals below = !last ? layout.rivals(shape, i, y + 1) : end ? Rivals{} : layout.rivals(shape, i + 1, 0);
        if (!last) {
          labeler.label_nodes(begin + y + 1, below);
        }
        labeler.label_pixels(begin + y, layout.rivals(shape, i, y), below);
      }
    });
  });
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
  parallel_rows(parallel, shape.images, shape.grid_h, shape.grid_w, [&](int64_t n, int i) {
    const int64_t y = std::min<int64_t>(int64_t(shape.stride) * i, shape.height - 1);
    const int32_t* from = label + (n * shape.height + y) * shape.width;
    int32_t* row = node_label + (n * shape.grid_h + i) * shape.grid_w;
    for (int j = 0; j < shape.grid_w; ++j) {
      row[j] = from[std::min<int64_t>(int64_t(shape.stride) * j, shape.width - 1)];
    }
  });
}

}  // namespace

int64_t argmax_scratch_bytes(const Problem& problem) { return lay_out(problem.shape, nullptr).bytes; }

void argmax(const View& semantic, const Problem& problem, const NodeMaps& nodes, int32_t* label, void* scratch,
            const Parallel& parallel) {
  const Shape& shape = problem.shape;
  int32_t* const node_label = nodes.label;
  if (is_floating(semantic.type)) {
    with_float_type(semantic.type, [&](auto element) {
      if (parallel.simd != Simd::plain && has_fast_cells(shape)) {
        argmax_fast<decltype(element)>(semantic, shape, node_label, label, scratch, parallel);
      } else {
        argmax_plain<decltype(element)>(semantic, shape, node_label, label, parallel);
      }
    });
  } else {
    with_integer_type(semantic.type, [&](auto element) {
      copy_labels<decltype(element)>(semantic, shape, node_label, label, parallel);
    });
  }
}

}  // namespace deeperlab::cpu
