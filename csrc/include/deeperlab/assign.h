// SPDX-License-Identifier: Apache-2.0
// assign: every node, then every thing pixel, takes its instance (section 3.4).
#pragma once

#include "deeperlab/instance.h"
#include "deeperlab/values.h"

namespace deeperlab {

struct AssignParams {
  float max_distance2;  // greatest sum of P squared distances, px²; +inf: no cut-off
};

// Adds what one keypoint contributes to the distance between a node's predicted keypoints and an instance's (px²).
template <class V, class A, class B>
DEEPERLAB_HD inline V add_distance(const V& distance, const PointOf<A>& predicted, const PointOf<B>& keypoint) {
  return distance + squared_distance(predicted, keypoint);
}

// The least and the greatest that add_distance adds for predictions anywhere in a box, by the same operations: rounding
// is monotonic, so these bound the floats themselves.
template <class V>
DEEPERLAB_HD inline V add_least_distance(const V& distance, const Box& predicted, const PointOf<V>& keypoint) {
  const V dx = maximum(maximum(predicted.x0 - keypoint.x, keypoint.x - predicted.x1), V{});
  const V dy = maximum(maximum(predicted.y0 - keypoint.y, keypoint.y - predicted.y1), V{});
  return distance + (dx * dx + dy * dy);
}

template <class V>
DEEPERLAB_HD inline V add_greatest_distance(const V& distance, const Box& predicted, const PointOf<V>& keypoint) {
  const V dx = maximum(keypoint.x - predicted.x0, predicted.x1 - keypoint.x);
  const V dy = maximum(keypoint.y - predicted.y0, predicted.y1 - keypoint.y);
  return distance + (dx * dx + dy * dy);
}

// What the nodes at the corners of a cell say: top left, top right, bottom left, bottom right.
struct CellCorners {
  int32_t label[4], instance[4];  // instance 0: none
  float distance[4];              // px²
  bool thing[4];
};

DEEPERLAB_HD inline CellCorners cell_corners(const NodeMaps& nodes, const Things& things, const int64_t (&node)[4]) {
  CellCorners corners;
  for (int i = 0; i < 4; ++i) {
    corners.label[i] = nodes.label[node[i]];
    corners.instance[i] = nodes.instance[node[i]];
    corners.distance[i] = nodes.distance[node[i]];
    corners.thing[i] = things.has(corners.label[i]);
  }
  return corners;
}

// Bilinear weights of the corners for a pixel, in 1 / stride².
struct CornerWeights {
  int64_t of[4];
};

DEEPERLAB_HD inline CornerWeights corner_weights(int past_y, int past_x, int stride) {
  const int64_t below = past_y, above = stride - below, right = past_x, left = stride - right;
  return {{above * left, above * right, below * left, below * right}};
}

// The instance of a pixel with a thing's label, or of many pixels of one cell. Eligible are the corners of the pixel's
// class (rank 2); if there are none, the thing nodes (1); if none, all (0); never a node without an instance or of
// weight 0. The instance with the largest summed weight wins, in integers; ties go to the one with the nearer eligible
// corner, then to the smaller number. 0: none is eligible, the pixel is an orphan. Interpolating the embedding instead
// would mix in meaningless offsets at every border.
template <class Int, class Weight>
DEEPERLAB_HD inline Int choose_instance(const CellCorners& corners, const Int& label, const Weight (&weight)[4]) {
  using Real = RealOf<Int>;
  Int rank[4], best_rank{};
  for (int i = 0; i < 4; ++i) {
    const bool eligible = corners.instance[i] != 0;
    const Int alike = broadcast<Int>(eligible ? 2 : -1), other = broadcast<Int>(eligible ? corners.thing[i] : -1);
    const Int by_label = select(equal(label, broadcast<Int>(corners.label[i])), alike, other);
    rank[i] = select(equal(weight[i], Weight{}), broadcast<Int>(-1), by_label);
    best_rank = maximum(rank[i], best_rank);
  }
  Weight counted[4];
  for (int i = 0; i < 4; ++i) {
    counted[i] = select(equal(rank[i], best_rank), weight[i], Weight{});
  }
  Int winner{};
  Weight most{};
  Real least{};
  for (int i = 0; i < 4; ++i) {  // an instance is summed up at each of its corners
    Weight total{};
    Real distance = broadcast<Real>(infinity);
    for (int j = 0; j < 4; ++j) {
      if (corners.instance[j] == corners.instance[i]) {
        total = total + counted[j];
        const Real nearer = minimum(broadcast<Real>(corners.distance[j]), distance);
        distance = select(less(Weight{}, counted[j]), nearer, distance);
      }
    }
    const Int instance = broadcast<Int>(corners.instance[i]);
    const MaskOf<Int> nearer = less(distance, least) | (equal(distance, least) & less(instance, winner));
    const MaskOf<Int> better = less(most, total) | (equal(most, total) & nearer);
    winner = select(better, instance, winner);
    most = select(better, total, most);
    least = select(better, distance, least);
  }
  return winner;
}

DEEPERLAB_HD inline int32_t assign_pixel(const NodeMaps& nodes, const Things& things, int32_t label, Cell cell,
                                         int stride, int w) {
  const int64_t node = int64_t(cell.y) * w + cell.x, right = cell.past_x > 0, below = cell.past_y > 0 ? w : 0;
  const CellCorners corners = cell_corners(nodes, things, {node, node + right, node + below, node + below + right});
  return choose_instance(corners, label, corner_weights(cell.past_y, cell.past_x, stride).of);
}

namespace cpu {

int64_t assign_scratch_bytes(const Problem& problem);

// targets, nodes.label, pixels.label, found -> nodes.instance, nodes.distance, pixels.instance. A node takes the
// instance of least distance, keypoints in index order; the first minimum wins, NaN never.
void assign(const Targets& targets, const Instances& found, const Problem& problem, const NodeMaps& nodes,
            const PixelMaps& pixels, void* scratch, const Parallel& parallel);

}  // namespace cpu

namespace cuda {

// Which nodes have a target, and which are asked for an instance; the others have none.
struct Asked {
  const Point* target;    // [N, P, h, w] of thing nodes (of all, if all cast long votes)
  const uint8_t* speaks;  // [N, h, w] 1: asked though it may be no thing, argmax.h
  const int32_t* far;     // 1: all are asked, refine.h
  bool all;               // all are asked
};

// For nodes; pixels follow in merge.
void assign(const Heads& heads, const Problem& problem, const Asked& asked, const Instances& found,
            const NodeMaps& nodes, Stream stream);

}  // namespace cuda
}  // namespace deeperlab
