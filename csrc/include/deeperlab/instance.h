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

struct Box {
  float x0, y0, x1, y1;  // px

  DEEPERLAB_HD float area() const { return (x1 - x0) * (y1 - y0); }
};

// The tight box of `count` keypoints.
DEEPERLAB_HD inline Box box_of(const Point* keypoints, int count) {
  Box box{keypoints[0].x, keypoints[0].y, keypoints[0].x, keypoints[0].y};
  for (int k = 1; k < count; ++k) {
    const Point p = keypoints[k];
    box.x0 = p.x < box.x0 ? p.x : box.x0;
    box.y0 = p.y < box.y0 ? p.y : box.y0;
    box.x1 = p.x > box.x1 ? p.x : box.x1;
    box.y1 = p.y > box.y1 ? p.y : box.y1;
  }
  return box;
}

DEEPERLAB_HD inline float intersection(const Box& a, const Box& b) {
  const float x0 = a.x0 > b.x0 ? a.x0 : b.x0;
  const float y0 = a.y0 > b.y0 ? a.y0 : b.y0;
  const float x1 = a.x1 < b.x1 ? a.x1 : b.x1;
  const float y1 = a.y1 < b.y1 ? a.y1 : b.y1;
  return x1 > x0 && y1 > y0 ? (x1 - x0) * (y1 - y0) : 0.0f;
}

}  // namespace deeperlab
