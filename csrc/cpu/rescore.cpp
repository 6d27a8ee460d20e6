// SPDX-License-Identifier: Apache-2.0
#include "deeperlab/rescore.h"

#include <algorithm>
#include <cmath>

#include "deeperlab/problem.h"
#include "simd/dispatch.h"
#include "simd/number.h"

namespace deeperlab::cpu {
namespace {

// The fast form of expected_oks: a row of vote cells at a time. Integer sums, so their order is of no account.
template <class L>
float expected_oks_fast(const int64_t* votes, const VoteGrid& grid, Point at, const OksKernel& kernel) {
  using Float = typename L::Float;
  using Int = typename L::Int;
  using HalfInt = Vector<int32_t, L::count / 2>;
  using Sums = Vector<int64_t, L::count / 2>;
  const float cell = float(grid.cell);
  // A quarter of a cell of slack on each side: the disk itself is decided by distance alone.
  const int first = std::max(int(std::floor((at.x - kernel.radius) / cell - 0.25f)), kernel.first_column);
  const int end = std::min(int((at.x + kernel.radius) / cell + 0.25f), kernel.last_column) + 1;
  Float lane;
  for (int i = 0; i < L::count; ++i) {
    lane[i] = float(i);
  }
  Sums sum{}, expected{};
  for (int y = kernel.first_row; y <= kernel.last_row; ++y) {
    const float dy = float(int64_t(grid.cell) * y) - at.y;
    for (int x = first; x < end && dy * dy <= kernel.radius2; x += L::count) {
      const int from = std::min(x, grid.columns - L::count);  // within the row; what comes before x is done
      const PointOf<Float> center{(lane + float(from)) * cell, broadcast<Float>(float(int64_t(grid.cell) * y))};
      const Float d2 = squared_distance(center, at);
      const auto inside =
          less_equal(d2, broadcast<Float>(kernel.radius2)) & less_equal(broadcast<Float>(float(x - from)), lane);
      const Int counted = select(inside, broadcast<Int>(-1), Int{}), weight = oks_weight(d2, kernel) & counted;
      HalfInt masks[2], weights[2];
      memcpy(masks, &counted, sizeof masks);
      memcpy(weights, &weight, sizeof weights);
      for (int half = 0; half < 2; ++half) {
        const Sums here = load<Sums>(votes + int64_t(y) * grid.columns + from + half * L::count / 2);
        sum += here & __builtin_convertvector(masks[half], Sums);
        expected += here * __builtin_convertvector(weights[half], Sums);
      }
    }
  }
  int64_t total = 0, weighed = 0;
  for (int i = 0; i < L::count / 2; ++i) {
    total += sum[i];
    weighed += expected[i];
  }
  return OksSums{total, weighed}.mean();
}

}  // namespace

float Rescorer::keypoint_score(int64_t n, int32_t i, int k) const {
  if (parallel.stopped(parallel)) {  // a disk may have millions of cells
    return 0.0f;
  }
  const Shape& shape = problem.shape;
  const Params& params = problem.params;
  const VoteGrid grid = vote_grid(shape, params);
  const Point* points = keypoints + (n * params.max_candidates + i) * problem.keypoints();
  const int64_t* map = votes + (n * problem.keypoints() + k) * grid.size();
  const float area = box_of(points, problem.keypoints()).area();
  const OksKernel kernel = oks_kernel(grid, points[k], area, k, params.radius, params);
  float probable = 0.0f, expected = 0.0f;
  with_float_type(heatmap.type, [&](auto element) {
    probable = probability(heatmap.plane<decltype(element)>(n, k), shape, points[k]);
  });
  if (parallel.simd == Simd::plain || grid.columns < widest_lanes) {
    expected = expected_oks(map, grid, points[k], kernel);
  } else {
    with_simd(parallel.simd,
              [&](auto lanes) { expected = expected_oks_fast<decltype(lanes)>(map, grid, points[k], kernel); });
  }
  return probable * expected;
}

float Rescorer::score(int64_t n, int32_t i) const {
  float sum = 0.0f;
  for (int k = 0; k < problem.keypoints(); ++k) {
    sum += keypoint_score(n, i, k);
  }
  return mean_of_keypoints(sum, problem.keypoints());
}

void rescore_seeds(const Rescorer& rescorer, const Seeds& seeds, const Hypotheses& hypotheses) {
  const Problem& problem = rescorer.problem;
  const int64_t room = problem.params.max_candidates;
  parallel_for(rescorer.parallel, problem.shape.images * room, 16, [&](int64_t i) {
    const int32_t candidate = int32_t(i % room);
    if (candidate < seeds.count[i / room]) {
      const int kind = seeds.candidate[i].kind;
      hypotheses.keypoint_score[i * problem.keypoints() + kind] = rescorer.keypoint_score(i / room, candidate, kind);
    }
  });
}

void rescore(const View& heatmap, const Problem& problem, const int64_t* votes, const int32_t* count,
             const Hypotheses& hypotheses, const Parallel& parallel) {
  const Rescorer rescorer{heatmap, problem, votes, hypotheses.keypoints, parallel};
  const int64_t room = problem.params.max_candidates;
  parallel_for(parallel, problem.shape.images * room, 16, [&](int64_t i) {
    const int64_t n = i / room;
    float sum = 0.0f;
    for (int k = 0; k < problem.keypoints(); ++k) {
      float& score = hypotheses.keypoint_score[i * problem.keypoints() + k];
      score = i % room < count[n] ? rescorer.keypoint_score(n, int32_t(i % room), k) : 0.0f;
      sum += score;
    }
    hypotheses.score[i] = mean_of_keypoints(sum, problem.keypoints());
  });
}

}  // namespace deeperlab::cpu
