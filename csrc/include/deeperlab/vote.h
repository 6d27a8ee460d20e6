// SPDX-License-Identifier: Apache-2.0
// vote: Hough voting for the keypoints (section 3.4), in fixed point, so that the order of votes is of no account.
#pragma once

#include "deeperlab/exp.h"
#include "deeperlab/values.h"
#include "deeperlab/view.h"

namespace deeperlab {

struct VoteParams {
  bool all_voters;                // long votes of all nodes, not of thing nodes only
  int vote_cell;                  // px, least width
  int short_weight, long_weight;  // in 1/256
};

// The score map: rows × columns square vote cells of `cell` px; cell (y, x) is centered on pixel (cell·y, cell·x).
// A weight of 1 is 2^fraction_bits, 4 … 16: h · w votes of 1 in one cell are 2^30 at most, as h · w is 2^26 at most.
// Short and long votes are weighed in 1/256, so the unit of a score is 2^-(fraction_bits + 8) votes.
struct VoteGrid {
  int cell, rows, columns, fraction_bits;

  DEEPERLAB_HD int64_t size() const { return int64_t(rows) * columns; }
};

// px
DEEPERLAB_HD inline int cell_width(int stride, const VoteParams& params) {
  return stride > params.vote_cell ? stride : params.vote_cell;
}

// The last row and column catch votes between the last node and the end of an image that is not 4n + 1 px.
DEEPERLAB_HD inline VoteGrid vote_grid(const Shape& shape, const VoteParams& params) {
  VoteGrid grid;
  grid.cell = cell_width(shape.stride, params);
  grid.rows = (shape.height - 1) / grid.cell + 2;
  grid.columns = (shape.width - 1) / grid.cell + 2;
  int log2_nodes = 0;
  while ((int64_t(1) << log2_nodes) < int64_t(shape.grid_h) * shape.grid_w) {
    ++log2_nodes;
  }
  const int bits = 30 - log2_nodes;
  grid.fraction_bits = bits < 4 ? 4 : bits > 16 ? 16 : bits;
  return grid;
}

DEEPERLAB_HD inline bool casts_long_votes(int label, const Things& things, const VoteParams& params) {
  return params.all_voters || things.has(label);
}

// A vote counts only if its target is finite and lies in the image, bounds included. False for NaN.
template <class V>
DEEPERLAB_HD inline MaskOf<V> in_image(const PointOf<V>& target, const Shape& shape) {
  const V width = broadcast<V>(float(shape.width - 1)), height = broadcast<V>(float(shape.height - 1));
  return less_equal(V{}, target.x) & less_equal(target.x, width) & less_equal(V{}, target.y) &
         less_equal(target.y, height);
}

// One vote: the upper left cell it falls into, and its fixed-point shares there and in the three next cells.
template <class V>
struct SplatOf {
  IntOf<V> y, x;
  IntOf<V> share[2][2];  // [below][right]
};
using Splat = SplatOf<float>;

// `weight` · (1 − fy) · (1 − fx) and so on, rounded to multiples of 2^-fraction_bits, ties to even. The weight is
// scaled first: a power of two changes no rounding, but that of subnormal products, which are too small to count either
// way.
template <class V>
DEEPERLAB_HD inline SplatOf<V> splat(const PointOf<V>& target, const V& weight, const VoteGrid& grid) {
  const PointOf<V> at = divide(target, grid.cell);
  const IntOf<V> x = to_int(at.x), y = to_int(at.y);
  const V fx = at.x - to_real(x), fy = at.y - to_real(y);
  const V scaled = weight * power_of_two(grid.fraction_bits);
  const V upper = scaled * (1.0f - fy), lower = scaled * fy;
  return {y,
          x,
          {{round_to_int(upper * (1.0f - fx)), round_to_int(upper * fx)},
           {round_to_int(lower * (1.0f - fx)), round_to_int(lower * fx)}}};
}

namespace cpu {

int64_t vote_scratch_bytes(const Problem& problem);

// heads.heatmap, heads.short_range, targets, node_label [N, h, w] -> votes [N, P, rows, columns]. Short votes weigh
// sigmoid(heatmap) and are cast by every node; long votes weigh 1 and are cast by the thing nodes among targets.nodes,
// or by all of them.
void vote(const Heads& heads, const Problem& problem, const Targets& targets, const int32_t* node_label, int64_t* votes,
          void* scratch, const Parallel& parallel);

}  // namespace cpu

namespace cuda {

// The same, with target [N, P, h, w] (px) as cuda::refine gives it.
void vote(const Heads& heads, const Problem& problem, const Point* target, const int32_t* node_label, int64_t* votes,
          Stream stream);

}  // namespace cuda
}  // namespace deeperlab
