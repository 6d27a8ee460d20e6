// SPDX-License-Identifier: Apache-2.0
// refine: recursive refinement of the long-range offsets (section 3.4, "recursive offset refinement").
#pragma once

#include "deeperlab/values.h"
#include "deeperlab/view.h"

namespace deeperlab {

struct RefineParams {
  int long_steps, long_short_steps;
};

// `target` moved `steps` times by the offset predicted where it lies (px): path following on the original field, so no
// order of evaluation can change it.
template <class V, class Offset>
DEEPERLAB_HD inline PointOf<V> follow(int steps, PointOf<V> target, const Offset& offset_at) {
  for (int step = 0; step < steps; ++step) {
    target = target + offset_at(target);
  }
  return target;
}

template <class T>
DEEPERLAB_HD inline Point follow(const View& head, int64_t n, int k, const Shape& shape, int steps, Point target) {
  return follow(steps, target,
                [&](Point at) { return sample_offset<T>(head, n, k, shape.grid_h, shape.grid_w, shape.stride, at); });
}

// Where node (y, x) sees keypoint k of its instance, in px; not clamped, may be NaN or Inf.
template <class T>
DEEPERLAB_HD inline Point refine_node(const Heads& heads, int64_t n, int k, int y, int x, const Shape& shape,
                                      const RefineParams& params) {
  const Point node{float(x * int64_t(shape.stride)), float(y * int64_t(shape.stride))};
  const Point offset{heads.long_range.plane<T>(n, 2 * k)(y, x), heads.long_range.plane<T>(n, 2 * k + 1)(y, x)};
  Point target = node + offset;
  target = follow<T>(heads.long_range, n, k, shape, params.long_steps, target);
  return follow<T>(heads.short_range, n, k, shape, params.long_short_steps, target);
}

// Whether a target lies within 10^9 px, so that no squared distance to an image is infinite or NaN. False for NaN.
DEEPERLAB_HD inline bool is_near(Point target) {
  return target.x >= -1e9f && target.x <= 1e9f && target.y >= -1e9f && target.y <= 1e9f;
}

namespace cpu {

// heads.long_range, heads.short_range -> targets.at (px) of targets.nodes. Returns whether all are near.
bool refine(const Heads& heads, const Problem& problem, const Targets& targets, const Parallel& parallel);

}  // namespace cpu

namespace cuda {

// The same of the nodes that cast long votes, not packed: target [N, P, h, w] (px). far: 1 if one of them is not near,
// else 0.
void refine(const Heads& heads, const Problem& problem, const int32_t* node_label, Point* target, int32_t* far,
            Stream stream);

}  // namespace cuda
}  // namespace deeperlab
