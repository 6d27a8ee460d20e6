// SPDX-License-Identifier: Apache-2.0
#include "deeperlab/rescore.h"

#include "deeperlab/problem.h"
#include "launch.cuh"

namespace deeperlab::cuda {
namespace {

// expected_oks with the cells of the disk shared out among the lanes: sums of integers, so their order is of no
// account.
__device__ float expected_oks_of_warp(const int64_t* votes, const VoteGrid& grid, Point at, const OksKernel& kernel) {
  const int columns = kernel.last_column - kernel.first_column + 1, rows = kernel.last_row - kernel.first_row + 1;
  OksSums sums{0, 0};
  for (int64_t i = lane_index(); i < int64_t(rows) * columns; i += warp) {
    sums.add_cell(votes, grid, at, kernel, kernel.first_row + int(i / columns), kernel.first_column + int(i % columns));
  }
  return OksSums{sum_warp(sums.votes), sum_warp(sums.expected)}.mean();
}

// One candidate a warp.
template <class T>
__global__ void rescore_candidates(int64_t images, View heatmap, Problem problem, const int64_t* votes,
                                   const int32_t* count, Hypotheses hypotheses) {
  const ListShare share = list_share(images);
  const Params& params = problem.params;
  const int keypoints = problem.keypoints();
  const int64_t n = share.image, room = params.max_candidates;
  const VoteGrid grid = vote_grid(problem.shape, params);
  for (int64_t i = n * room + share.first; i < n * room + count[n]; i += share.step) {
    const Point* points = hypotheses.keypoints + i * keypoints;
    const float area = box_of(points, keypoints).area();
    float sum = 0.0f;
    for (int k = 0; k < keypoints; ++k) {
      const OksKernel kernel = oks_kernel(grid, points[k], area, k, params.radius, params);
      const float expected = expected_oks_of_warp(votes + (n * keypoints + k) * grid.size(), grid, points[k], kernel);
      const float score = probability(heatmap.plane<T>(n, k), problem.shape, points[k]) * expected;
      sum += score;
      if (lane_index() == 0) {
        hypotheses.keypoint_score[i * keypoints + k] = score;
      }
    }
    if (lane_index() == 0) {
      hypotheses.score[i] = mean_of_keypoints(sum, keypoints);
    }
  }
}

}  // namespace

void rescore(const View& heatmap, const Problem& problem, const int64_t* votes, const int32_t* count,
             const Hypotheses& hypotheses, Stream stream) {
  with_float_type(heatmap.type, [&](auto element) {
    launch_lists(rescore_candidates<decltype(element)>, problem.shape.images, stream, heatmap, problem, votes, count,
                 hypotheses);
  });
}

}  // namespace deeperlab::cuda
