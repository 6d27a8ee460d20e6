// SPDX-License-Identifier: Apache-2.0
// A candidate seed, and the box of an instance's keypoints.
#pragma once

#include "deeperlab/view.h"

namespace deeperlab {

// A peak of the score map of keypoint `kind` at vote cell (y, x). (kind, y, x) is its rank where scores tie.
struct Candidate {
  int32_t kind, y, x;
};

DEEPERLAB_HD inline bool before(Candidate a, Candidate b) {
  if (a.kind != b.kind) {
    return a.kind < b.kind;
  }
  return a.y != b.y ? a.y < b.y : a.x < b.x;
}

template <class V>
struct BoxOf {
  V x0, y0, x1, y1;  // px

  DEEPERLAB_HD V area() const { return (x1 - x0) * (y1 - y0); }
};
using Box = BoxOf<float>;

// The tight box of `count` keypoints.
DEEPERLAB_HD inline Box box_of(const Point* keypoints, int count) {
  Box box{keypoints[0].x, keypoints[0].y, keypoints[0].x, keypoints[0].y};
  for (int k = 1; k < count; ++k) {
    const Point p = keypoints[k];
    box = {minimum(p.x, box.x0), minimum(p.y, box.y0), maximum(p.x, box.x1), maximum(p.y, box.y1)};
  }
  return box;
}

// Area that two boxes share.
template <class V>
DEEPERLAB_HD inline V intersection(const BoxOf<V>& a, const BoxOf<V>& b) {
  const BoxOf<V> both{maximum(a.x0, b.x0), maximum(a.y0, b.y0), minimum(a.x1, b.x1), minimum(a.y1, b.y1)};
  return select(less(both.x0, both.x1) & less(both.y0, both.y1), both.area(), V{});
}

}  // namespace deeperlab
