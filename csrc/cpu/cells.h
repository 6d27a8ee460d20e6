// SPDX-License-Identifier: Apache-2.0
// Rows of pixels, cell by cell: what a pixel finds around it changes only from node to node.
#pragma once

#include <algorithm>

#include "deeperlab/argmax.h"
#include "deeperlab/assign.h"
#include "simd/dispatch.h"
#include "simd/number.h"

namespace deeperlab::cpu {

// The i-th pixel of a run that begins at `first`. At and past the last node all are alike.
inline Cell pixel_of_run(Cell first, int i) {
  first.past_x = first.past_x > 0 ? first.past_x + i : 0;
  return first;
}

// Calls visit(first, x, length) for runs of pixels [x, x + length) of row y: the pixel on each node, then those between
// it and the next. All pixels of a run have the same corners of non-zero weight. The last node has one run, to the end.
template <class Visit>
void visit_cells(int y, int width, int stride, int grid_h, int grid_w, const Visit& visit) {
  Cell cell = cell_of_pixel(y, 0, stride, grid_h, grid_w);
  int x = 0;
  for (; cell.x < grid_w - 1 && x < width; ++cell.x) {
    cell.past_x = 0;
    visit(cell, x, 1);
    cell.past_x = 1;
    const int between = std::min(stride, width - x) - 1;
    if (between > 0) {
      visit(cell, x + 1, between);
    }
    x += std::min(stride, width - x);
  }
  if (x < width) {
    cell.past_x = 0;
    visit(cell, x, width - x);
  }
}

// The fast forms go through a map by rows of cells: most cells have one value, that of their node; the others are
// looked at again, all pixels of a cell at a time.

constexpr int max_fast_stride = 16;
constexpr int max_cell_pixels = max_fast_stride * max_fast_stride;

// Whether the fast forms serve: cells small enough, and rows of more nodes than the widest vector has lanes.
inline bool has_fast_cells(const Shape& shape) {
  return shape.stride <= max_fast_stride && shape.grid_w > widest_lanes;
}

// The pixels of a cell, row by row, for every cell alike.
struct CellPixels {
  int count, padded;  // padded: to whole vectors
  float fx[max_cell_pixels], fy[max_cell_pixels];
  int32_t weight[4][max_cell_pixels];  // of the corners, as corner_weights

  explicit CellPixels(int stride) : count(stride * stride), padded(int(whole_vectors(count))) {
    for (int i = 0; i < padded; ++i) {  // what lies past `count` repeats the first pixel
      const int y = i < count ? i / stride : 0, x = i < count ? i % stride : 0;
      const Between at = between_corners({0, 0, y, x}, stride);
      const CornerWeights weights = corner_weights(y, x, stride);
      fx[i] = at.fx;
      fy[i] = at.fy;
      for (int corner = 0; corner < 4; ++corner) {
        weight[corner][i] = int32_t(weights.of[corner]);
      }
    }
  }
};

// The pixel rows [begin, end) that belong to node row y, and the part of a cell that lies in the image.
struct CellRow {
  int begin, end;
  int past;  // pixels of a row from here on lie at or past the last node

  CellRow(const Shape& shape, int y)
      : begin(int(std::min<int64_t>(int64_t(y) * shape.stride, shape.height))),
        end(y == shape.grid_h - 1 ? shape.height : std::min(begin + shape.stride, shape.height)),
        past(int(std::min<int64_t>(int64_t(shape.grid_w - 1) * shape.stride, shape.width))) {}

  int width_of(const Shape& shape, int x) const { return std::min(shape.stride, shape.width - x * shape.stride); }
};

// Fills the pixels of node row y of a map [H, W]: cells with value(x); where a neighbor is missing, at and past the
// last nodes, run(first, length, to) writes a run of pixels, which all rows past the last node repeat.
template <class Value, class Run>
void fill_cells(const Shape& shape, int y, int32_t* map, const Value& value, const Run& run) {
  const CellRow rows(shape, y);
  if (rows.begin >= rows.end) {
    return;
  }
  const int s = shape.stride, width = shape.width;
  int32_t* const top = map + int64_t(rows.begin) * width;
  if (y == shape.grid_h - 1) {
    visit_cells(rows.begin, width, s, shape.grid_h, shape.grid_w,
                [&](Cell first, int x, int length) { run(first, length, top + x); });
  } else {
    int x = 0, i = 0;
    if (s == 4) {  // the paper's stride: four pixels are one store
      for (; x + 4 <= rows.past; x += 4, ++i) {
        std::fill_n(top + x, 4, value(i));
      }
    }
    for (; x < rows.past; x += s, ++i) {
      std::fill(top + x, top + std::min(x + s, rows.past), value(i));
    }
  }
  for (int i = rows.begin + 1; i < rows.end; ++i) {
    std::copy(top, top + (y == shape.grid_h - 1 ? width : rows.past), map + int64_t(i) * width);
  }
  for (int i = rows.begin; i < rows.end && rows.past < width && y < shape.grid_h - 1; ++i) {
    int32_t* const last = map + int64_t(i) * width + rows.past;
    run({y, shape.grid_w - 1, i - rows.begin, 0}, width - rows.past, last);
  }
}

// Bit i is set where the four corners of the cell at map + i carry one value; w is the length of a row of nodes.
template <class L>
uint32_t alike_cells(const int32_t* map, int w) {
  using Int = typename L::Int;
  const Int here = load<Int>(map);
  return bits_of(equal(here, load<Int>(map + 1)) & equal(here, load<Int>(map + w)) &
                 equal(here, load<Int>(map + w + 1)));
}

// As many rows of four pixels as there are lanes for, `width` apart: a cell of the paper's stride without a detour
// through memory, where a wide load would wait for the narrow stores before it.
inline void load_rows(const int32_t* from, int64_t, Vector<int32_t, 4>& out) { out = load<Vector<int32_t, 4>>(from); }

#if defined(DEEPERLAB_AVX)
[[gnu::target("avx2")]] inline void load_rows(const int32_t* from, int64_t width, Vector<int32_t, 8>& out) {
  const auto row = [&](int i) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i * width)); };
  out = reinterpret_cast<Vector<int32_t, 8>>(_mm256_inserti128_si256(_mm256_castsi128_si256(row(0)), row(1), 1));
}

[[gnu::target("avx512f,avx512dq")]] inline void load_rows(const int32_t* from, int64_t width,
                                                          Vector<int32_t, 16>& out) {
  const auto row = [&](int i) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i * width)); };
  __m512i rows = _mm512_zextsi128_si512(row(0));
  rows = _mm512_inserti32x4(rows, row(1), 1);
  rows = _mm512_inserti32x4(rows, row(2), 2);
  rows = _mm512_inserti32x4(rows, row(3), 3);
  out = reinterpret_cast<Vector<int32_t, 16>>(rows);
}
#endif

// The row of a cell. Four pixels, the paper's stride, are one load and one store.
inline void copy_pixels(const int32_t* from, int count, int32_t* to) {
  if (count == 4) {
    std::copy_n(from, 4, to);
  } else {
    std::copy_n(from, count, to);
  }
}

// Copies the pixels of a cell between `cell` (rows of `stride`) and its place in a map [H, W].
inline void write_cell(const Shape& shape, int y, int x, const int32_t* cell, int32_t* map) {
  const CellRow rows(shape, y);
  const int columns = rows.width_of(shape, x);
  for (int i = 0; i < rows.end - rows.begin && columns > 0; ++i) {
    int32_t* to = map + int64_t(rows.begin + i) * shape.width + int64_t(x) * shape.stride;
    copy_pixels(cell + i * shape.stride, columns, to);
  }
}

inline void read_cell(const Shape& shape, int y, int x, const int32_t* map, int32_t* cell) {
  const CellRow rows(shape, y);
  const int columns = rows.width_of(shape, x);
  for (int i = 0; i < rows.end - rows.begin && columns > 0; ++i) {
    const int32_t* from = map + int64_t(rows.begin + i) * shape.width + int64_t(x) * shape.stride;
    copy_pixels(from, columns, cell + i * shape.stride);
  }
}

}  // namespace deeperlab::cpu
