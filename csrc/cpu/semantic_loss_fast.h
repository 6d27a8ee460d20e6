// SPDX-License-Identifier: Apache-2.0
// The fast form of semantic_loss: a lane is a cell, and the pixels at the same place of neighboring cells are computed
// together, up to four rows of them, so that corners are blended along the row once for all. Pixel maps are kept in
// that order for a row of cells, and nodes as floats, whatever they are given as.
#pragma once

#include "cells.h"
#include "deeperlab/scratch.h"
#include "deeperlab/semantic_loss.h"

namespace deeperlab::cpu {

constexpr int rows_together = 4;

// Room for one task. Rows are padded for whole vectors, one more for right neighbors, to an odd number of cache lines:
// so rows of one column do not share a place in the cache.
struct LossRoom {
  int64_t row;            // floats
  float *upper, *lower;   // [C, row] two rows of nodes
  int32_t* label;         // [s, s, row]: by row and column within the cell; no_label: nothing to compute
  float *loss, *log_sum;  // [s, s, row]
  float* factor;          // [s, s, row], of the gradient
  float* corners;         // [C, 4, widest_lanes] sums of a block of cells
  float* carried;         // [C, 2] what the last cell of a block says to the node right of it: above, below
  float* edge;            // [C, w] what the last row of cells says to the nodes below

  LossRoom(const Shape& shape, Scratch& scratch)
      : row(((shape.grid_w + widest_lanes - 1) / widest_lanes + 1) / 2 * 2 * widest_lanes + widest_lanes) {
    const int64_t planes = int64_t(shape.stride) * shape.stride * row;
    upper = scratch.take<float>(shape.classes * row);
    lower = scratch.take<float>(shape.classes * row);
    label = scratch.take<int32_t>(planes);
    loss = scratch.take<float>(planes);
    log_sum = scratch.take<float>(planes);
    factor = scratch.take<float>(planes);
    corners = scratch.take<float>(int64_t(shape.classes) * 4 * widest_lanes);
    carried = scratch.take<float>(int64_t(shape.classes) * 2);
    edge = scratch.take<float>(int64_t(shape.classes) * shape.grid_w);
  }
};

// A row of nodes of all classes; what lies past the last node repeats it.
template <class L, class T, bool dense>
void read_nodes(const SemanticLoss& of, int64_t n, int y, int64_t row, float* out) {
  using Float = typename L::Float;
  const int64_t w = of.shape.grid_w;
  for (int c = 0; c < of.shape.classes; ++c, out += row) {
    const Plane<T> plane = of.logits.plane<T>(n, c);
    const T* from = plane.data + y * plane.row;
    int64_t x = 0;
    for (; x + L::count <= w; x += L::count) {
      store(out + x, load_floats<Float, dense>(from + x * plane.column, plane.column));
    }
    for (; x < w; ++x) {
      out[x] = to_float(from[x * plane.column]);
    }
    std::fill(out + w, out + row, out[w - 1]);
  }
}

// A block of cells and one column of pixels in each of them.
template <class L>
struct CellColumn {
  using Float = typename L::Float;
  using Int = typename L::Int;

  const SemanticLoss& of;
  const LossRoom& room;
  int64_t x;  // the first cell
  int column;
  float fy[max_fast_stride];       // of the rows that there is something to compute in
  int64_t plane[max_fast_stride];  // where they lie in the maps
  int rows = 0;
  Float fx;

  CellColumn(const SemanticLoss& of_all, const LossRoom& all_room, const CellRow& cells, int y, int64_t first, int at)
      : of(of_all), room(all_room), x(first), column(at) {
    const Shape& shape = of.shape;
    float parts[L::count];
    for (int i = 0; i < L::count; ++i) {
      const Cell cell{y, int(x) + i, 0, x + i < shape.grid_w - 1 ? column : 0};
      parts[i] = between_corners(cell, shape.stride).fx;
    }
    fx = load<Float>(parts);
    for (int i = 0; i < cells.end - cells.begin; ++i) {
      const int64_t begin = (int64_t(i) * shape.stride + column) * room.row + x;
      if (bits_of(equal(load<Int>(room.label + begin), broadcast<Int>(no_label))) != all_bits<Int>) {
        plane[rows] = begin;
        fy[rows++] = between_corners({y, 0, y < shape.grid_h - 1 ? i : 0, 0}, shape.stride).fy;
      }
    }
  }

  // Calls visit(i, score) for rows first … first + count − 1.
  template <int count, class Visit>
  void visit_scores(int c, int first, const Visit& visit) const {
    const float *upper = room.upper + c * room.row + x, *lower = room.lower + c * room.row + x;
    const Float top = blend(load<Float>(upper), load<Float>(upper + 1), fx);
    const Float bottom = blend(load<Float>(lower), load<Float>(lower + 1), fx);
    for (int i = 0; i < count; ++i) {
      visit(i, blend_alike(top, bottom, fy[first + i]));
    }
  }

  template <int count>
  void find_losses(int first) const {
    ScoreSum<Float> all[count], chosen[count];
    Int wanted[count];
    bool has_stuff = false;
    for (int i = 0; i < count; ++i) {
      wanted[i] = load<Int>(room.label + plane[first + i]);
      has_stuff = has_stuff || any(equal(wanted[i], broadcast<Int>(some_stuff)));
      chosen[i] = {broadcast<Float>(not_a_number), broadcast<Float>(1.0f)};
    }
    for (int c = 0; c < of.shape.classes; ++c) {
      visit_scores<count>(c, first, [&](int i, const Float& score) {
        all[i].raise(score);
        chosen[i].most = select(equal(wanted[i], broadcast<Int>(c)), score, chosen[i].most);
      });
    }
    for (int c = 0; c < of.shape.classes; ++c) {
      visit_scores<count>(c, first, [&](int i, const Float& score) { all[i].add(score); });
    }
    if (has_stuff) {
      choose_stuff<count>(first, wanted, chosen);
    }
    for (int i = 0; i < count; ++i) {
      const auto none = equal(wanted[i], broadcast<Int>(no_label));
      store(room.loss + plane[first + i], select(none, broadcast<Float>(-1.0f), loss_of_share(all[i], chosen[i])));
      store(room.log_sum + plane[first + i], select(none, Float{}, all[i].log_sum()));
    }
  }

  template <int count>
  void choose_stuff(int first, const Int (&wanted)[count], ScoreSum<Float> (&chosen)[count]) const {
    ScoreSum<Float> stuff[count];
    const auto visit = [&](const auto& visit_one) {
      for (int c = 0; c < of.shape.classes; ++c) {
        if (of.stuff->has(c)) {
          visit_scores<count>(c, first, visit_one);
        }
      }
    };
    visit([&](int i, const Float& score) { stuff[i].raise(score); });
    visit([&](int i, const Float& score) { stuff[i].add(score); });
    for (int i = 0; i < count; ++i) {
      const auto is_stuff = equal(wanted[i], broadcast<Int>(some_stuff));
      chosen[i].most = select(is_stuff, stuff[i].most, chosen[i].most);
      chosen[i].sum = select(is_stuff, stuff[i].sum, chosen[i].sum);
    }
  }

  // Adds to the corners' sums.
  template <int count>
  void add_gradients(int c, int first, ColumnGradient<Float>& sum) const {
    const bool is_stuff = of.has_stuff && of.stuff->has(c);
    visit_scores<count>(c, first, [&](int i, const Float& score) {
      const int64_t at = plane[first + i];
      const Int label = load<Int>(room.label + at);
      const Float log_sum = load<Float>(room.log_sum + at);
      Float wanted = select(equal(label, broadcast<Int>(c)), broadcast<Float>(1.0f), Float{});
      if (is_stuff) {
        wanted = select(equal(label, broadcast<Int>(some_stuff)),
                        share_of_stuff(score, log_sum, load<Float>(room.loss + at)), wanted);
      }
      const Float gradient = score_gradient(load<Float>(room.factor + at), share_of(score, log_sum), wanted);
      sum.add(select(equal(label, broadcast<Int>(no_label)), Float{}, gradient), fy[first + i]);
    });
  }
};

// Calls task(count, first), the count as a type, for rows of pixels taken together.
template <class Task>
void visit_row_groups(int rows, const Task& task) {
  int first = 0;
  for (; first + rows_together <= rows; first += rows_together) {
    task(std::integral_constant<int, rows_together>{}, first);
  }
  switch (rows - first) {
    case 3:
      return task(std::integral_constant<int, 3>{}, first);
    case 2:
      return task(std::integral_constant<int, 2>{}, first);
    case 1:
      return task(std::integral_constant<int, 1>{}, first);
    default:
      return;
  }
}

// Losses and sums of a row of cells.
template <class L>
void find_losses(const SemanticLoss& of, const LossRoom& room, int y) {
  const CellRow cells(of.shape, y);
  for (int64_t x = 0; x < of.shape.grid_w; x += L::count) {
    for (int column = 0; column < of.shape.stride; ++column) {
      const CellColumn<L> block(of, room, cells, y, x, column);
      visit_row_groups(block.rows,
                       [&](auto count, int first) { block.template find_losses<decltype(count)::value>(first); });
    }
  }
}

// Calls tell(i, sum) for nodes along one side of a block of cells, as node_gradient adds; left and right corners' sums
// lie `lanes` apart.
template <class Tell>
void tell_nodes(const float* left, int lanes, int nodes, float& carried, const Tell& tell) {
  const float* const right = left + lanes;
  tell(0, carried + left[0]);
  for (int i = 1; i < nodes; ++i) {
    tell(i, right[i - 1] + left[i]);
  }
  carried = right[lanes - 1];
}

// The nodes above and below a row of cells: [C] rows of w, so many floats apart.
struct GradientRows {
  float *upper, *lower;
  int64_t upper_plane, lower_plane;
  bool first;  // nobody has told those above anything yet
};

// What a row of cells says to them.
template <class L>
void add_gradients(const SemanticLoss& of, const LossRoom& room, int y, const GradientRows& rows) {
  using Float = typename L::Float;
  const Shape& shape = of.shape;
  const CellRow cells(shape, y);
  std::fill(room.carried, room.carried + 2 * shape.classes, 0.0f);
  for (int64_t x = 0; x < shape.grid_w; x += L::count) {
    std::fill(room.corners, room.corners + int64_t(shape.classes) * 4 * L::count, 0.0f);
    for (int column = 0; column < shape.stride; ++column) {
      const CellColumn<L> block(of, room, cells, y, x, column);
      if (block.rows == 0) {
        continue;
      }
      for (int c = 0; c < shape.classes; ++c) {
        ColumnGradient<Float> sum;
        visit_row_groups(block.rows, [&](auto count, int from) {
          block.template add_gradients<decltype(count)::value>(c, from, sum);
        });
        float* const at = room.corners + int64_t(c) * 4 * L::count;
        CornersOf<Float> corners{load<Float>(at), load<Float>(at + L::count), load<Float>(at + 2 * L::count),
                                 load<Float>(at + 3 * L::count)};
        add_column(sum, block.fx, corners);
        store(at, corners.top_left);
        store(at + L::count, corners.top_right);
        store(at + 2 * L::count, corners.bottom_left);
        store(at + 3 * L::count, corners.bottom_right);
      }
    }
    const int nodes = int(std::min<int64_t>(L::count, shape.grid_w - x));
    for (int c = 0; c < shape.classes; ++c) {
      const float* const at = room.corners + int64_t(c) * 4 * L::count;
      float* const carried = room.carried + int64_t(c) * 2;
      float* const upper = rows.upper + c * rows.upper_plane + x;
      float* const lower = rows.lower + c * rows.lower_plane + x;
      tell_nodes(at, L::count, nodes, carried[0],
                 [&](int i, float told) { upper[i] = (rows.first ? 0.0f : upper[i]) + told; });
      tell_nodes(at + 2 * L::count, L::count, nodes, carried[1], [&](int i, float told) { lower[i] = told; });
    }
  }
}

}  // namespace deeperlab::cpu
