// SPDX-License-Identifier: Apache-2.0
// rescore: Expected-OKS of a hypothesis, keypoint by keypoint (section 3.4; PersonLab section 3.1.2).
#pragma once

#include "deeperlab/instance.h"
#include "deeperlab/vote.h"

namespace deeperlab {

// The score map's opinion of keypoint `at` (px) of an instance with box area `area` (px²): the mean of the OKS
// kernel over the votes within `radius`, in [0, 1]. The kernel is exp(−d² / (2 λ² κ² + c²)), λ² = max(area, c²), in
// 15-bit fixed point; c², the width of a vote cell, keeps instances of few cells from scoring 0.
DEEPERLAB_HD inline float expected_oks(const int64_t* votes, const VoteGrid& grid, Point at, float area, float kappa,
                                       const Params& params) {
  const float cell2 = float(grid.cell) * float(grid.cell);
  const float lambda2 = area > cell2 ? area : cell2;
  float falloff = (2.0f * lambda2) * (kappa * kappa);
  falloff = params.oks_cell ? falloff + cell2 : falloff;
  const float radius = float(params.radius);
  const float radius2 = radius * radius;
  // One cell of slack on each side: the disk itself is decided by distance alone.
  const int reach = int(radius) / grid.cell + 2;
  const int cy = int(at.y) / grid.cell, cx = int(at.x) / grid.cell;
  const int y0 = cy > reach ? cy - reach : 0, y1 = cy + reach < grid.rows ? cy + reach : grid.rows - 1;
  const int x0 = cx > reach ? cx - reach : 0, x1 = cx + reach < grid.columns ? cx + reach : grid.columns - 1;
  int64_t sum = 0, expected = 0;
  for (int y = y0; y <= y1; ++y) {
    for (int x = x0; x <= x1; ++x) {
      const Point centre{float(int64_t(grid.cell) * x), float(int64_t(grid.cell) * y)};
      const float d2 = squared_distance(centre, at);
      if (d2 <= radius2) {
        const int64_t here = votes[int64_t(y) * grid.columns + x];
        sum += here;
        expected += here * int64_t(rintf(32768.0f * exp(-(d2 / falloff))));
      }
    }
  }
  return sum == 0 ? 0.0f : float(double(expected) / double(sum) / 32768.0);
}

// Probability at `at` (px): a bilinear sample of probabilities, not the sigmoid of sampled logits.
template <class T>
DEEPERLAB_HD inline float probability(const Plane<T>& logit, const Shape& shape, Point at) {
  const auto read = [&](int y, int x) { return sigmoid(logit(y, x)); };
  return sample(read, between_nodes(at / float(shape.stride), shape.h, shape.w));
}

namespace cpu {

// keypoints [N, max_candidates, P] (px), count [N], votes [N, P, rows, columns], heatmap [N, P, h, w]
// -> keypoint_score [N, max_candidates, P] and its mean, score [N, max_candidates]; rows past count[n] are 0.
void rescore(const Point* keypoints, const int32_t* count, const int64_t* votes, const View& heatmap,
             const Shape& shape, int keypoint_count, const Params& params, float* keypoint_score, float* score,
             const Parallel& parallel);

}  // namespace cpu
}  // namespace deeperlab
