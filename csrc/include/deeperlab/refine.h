// SPDX-License-Identifier: Apache-2.0
// refine: recursive refinement of the long-range offsets (section 3.4, "recursive offset refinement").
#pragma once

#include "deeperlab/params.h"
#include "deeperlab/view.h"

namespace deeperlab {

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
                [&](Point at) { return sample_offset<T>(head, n, k, shape.h, shape.w, shape.stride, at); });
}

// Where node (y, x) sees keypoint k of its instance, in px; not clamped, may be NaN or Inf.
template <class T>
DEEPERLAB_HD inline Point refine_node(const View& long_range, const View& short_range, int64_t n, int k, int y, int x,
                                      const Shape& shape, const Params& params) {
  const Point node{float(x * int64_t(shape.stride)), float(y * int64_t(shape.stride))};
  const Point offset{long_range.plane<T>(n, 2 * k)(y, x), long_range.plane<T>(n, 2 * k + 1)(y, x)};
  Point target = node + offset;
  target = follow<T>(long_range, n, k, shape, params.long_steps, target);
  return follow<T>(short_range, n, k, shape, params.long_short_steps, target);
}

// Whether a target lies within 10^9 px, so that no squared distance to an image is infinite or NaN. False for NaN.
DEEPERLAB_HD inline bool is_near(Point target) {
  return target.x >= -1e9f && target.x <= 1e9f && target.y >= -1e9f && target.y <= 1e9f;
}

namespace cpu {

// long_range, short_range [N, 2P, h, w] -> target [N, P, h, w] (px) of the entries of `nodes`, packed. Returns whether
// all are near.
bool refine(const View& long_range, const View& short_range, const Shape& shape, int keypoints, const Params& params,
            const Nodes& nodes, Point* target, const Parallel& parallel);

}  // namespace cpu
}  // namespace deeperlab
