// SPDX-License-Identifier: Apache-2.0
// rescore: Expected-OKS of a hypothesis, keypoint by keypoint (section 3.4; PersonLab section 3.1.2).
#pragma once

#include "deeperlab/instance.h"
#include "deeperlab/vote.h"

namespace deeperlab {

struct RescoreParams {
  float kappa[max_keypoints];
  bool oks_cell;
};

// The OKS kernel around one keypoint: exp(−d² / falloff), falloff = 2 λ² κ² + c², λ² = max(box area, c²), over the
// cells with d² <= radius² (px²). c², the width of a vote cell, keeps instances of few cells from scoring 0.
struct OksKernel {
  float falloff, radius, radius2;
  int first_row, last_row, first_column, last_column;  // the disk lies within
};

DEEPERLAB_HD inline OksKernel oks_kernel(const VoteGrid& grid, Point at, float area, int k, double disk_radius,
                                         const RescoreParams& params) {
  const float cell2 = float(grid.cell) * float(grid.cell);
  const float lambda2 = area > cell2 ? area : cell2;
  const float falloff = (2.0f * lambda2) * (params.kappa[k] * params.kappa[k]);
  const float radius = float(disk_radius);
  // One cell of slack on each side: the disk itself is decided by distance alone.
  const int reach = int(radius) / grid.cell + 2;
  const int cy = int(at.y) / grid.cell, cx = int(at.x) / grid.cell;
  return {params.oks_cell ? falloff + cell2 : falloff,
          radius,
          radius * radius,
          cy > reach ? cy - reach : 0,
          cy + reach < grid.rows ? cy + reach : grid.rows - 1,
          cx > reach ? cx - reach : 0,
          cx + reach < grid.columns ? cx + reach : grid.columns - 1};
}

// The kernel at squared distance d2 (px²), in 15-bit fixed point, where what is no normal number is 0 in any case.
template <class V>
DEEPERLAB_HD inline IntOf<V> oks_weight(const V& d2, const OksKernel& kernel) {
  return round_to_int(exp_below_zero(-(d2 / kernel.falloff)) * 32768.0f);
}

// The votes of the disk, and the same weighed by the kernel. The sums are exact.
struct OksSums {
  int64_t votes, expected;

  DEEPERLAB_HD void add_cell(const int64_t* map, const VoteGrid& grid, Point at, const OksKernel& kernel, int y,
                             int x) {
    const Point center{float(int64_t(grid.cell) * x), float(int64_t(grid.cell) * y)};
    const float d2 = squared_distance(center, at);
    if (d2 <= kernel.radius2) {
      const int64_t here = map[int64_t(y) * grid.columns + x];
      votes += here;
      expected += here * oks_weight(d2, kernel);
    }
  }

  DEEPERLAB_HD float mean() const { return votes == 0 ? 0.0f : float(double(expected) / double(votes) / 32768.0); }
};

// The score map's opinion of a keypoint at `at` (px): the mean of the OKS kernel over the votes, in [0, 1].
DEEPERLAB_HD inline float expected_oks(const int64_t* votes, const VoteGrid& grid, Point at, const OksKernel& kernel) {
  OksSums sums{0, 0};
  for (int y = kernel.first_row; y <= kernel.last_row; ++y) {
    for (int x = kernel.first_column; x <= kernel.last_column; ++x) {
      sums.add_cell(votes, grid, at, kernel, y, x);
    }
  }
  return sums.mean();
}

// Probability at `at` (px): a bilinear sample of probabilities, not the sigmoid of sampled logits.
template <class T>
DEEPERLAB_HD inline float probability(const Plane<T>& logit, const Shape& shape, Point at) {
  const auto read = [&](int y, int x) { return sigmoid(logit(y, x)); };
  return sample(read, between_nodes(divide(at, shape.stride), shape.grid_h, shape.grid_w));
}

// The score of an instance: the mean of those of its keypoints, which add up to `sum`; 0 where it has none.
DEEPERLAB_HD inline float mean_of_keypoints(float sum, int keypoint_count) {
  return sum / float(keypoint_count > 1 ? keypoint_count : 1);
}

namespace cpu {

// hypotheses.keypoints, count [N], votes [N, P, rows, columns], heatmap [N, P, h, w] -> hypotheses.keypoint_score and
// its mean, hypotheses.score; rows past count[n] are 0.
void rescore(const View& heatmap, const Problem& problem, const int64_t* votes, const int32_t* count,
             const Hypotheses& hypotheses, const Parallel& parallel);

// Scores of single hypotheses, for a queue that rejects nine of ten without asking for their scores.
struct Rescorer {
  const View& heatmap;
  const Problem& problem;
  const int64_t* votes;
  const Point* keypoints;  // [N, K, P]
  const Parallel& parallel;

  float keypoint_score(int64_t n, int32_t i, int k) const;  // candidate i of image n
  float score(int64_t n, int32_t i) const;                  // the mean of all
};

// Gives the instance score of candidate i of image n.
struct InstanceScore {
  float (*get)(const void* closure, int64_t n, int32_t i);
  const void* closure;
};

inline InstanceScore score_when_asked(const Rescorer& rescorer) {
  return {[](const void* closure, int64_t n, int32_t i) { return static_cast<const Rescorer*>(closure)->score(n, i); },
          &rescorer};
}

// Scores [N, K] that are computed already.
struct GivenScores {
  const float* score;
  int64_t room;  // K
};

inline InstanceScore score_as_given(const GivenScores& given) {
  return {[](const void* closure, int64_t n, int32_t i) {
            const auto& scores = *static_cast<const GivenScores*>(closure);
            return scores.score[n * scores.room + i];
          },
          &given};
}

// hypotheses.keypoint_score of each seed's own kind alone.
void rescore_seeds(const Rescorer& rescorer, const Seeds& seeds, const Hypotheses& hypotheses);

}  // namespace cpu

namespace cuda {

// The same as cpu::rescore; rows past count[n] are left alone.
void rescore(const View& heatmap, const Problem& problem, const int64_t* votes, const int32_t* count,
             const Hypotheses& hypotheses, Stream stream);

}  // namespace cuda
}  // namespace deeperlab
