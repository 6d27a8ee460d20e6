// SPDX-License-Identifier: Apache-2.0
#include "deeperlab/rescore.h"

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
__global__ void rescore_candidates(int64_t images, const Point* keypoints, const int32_t* count, const int64_t* votes,
                                   View heatmap, Shape shape, int keypoint_count, Params params, float* keypoint_score,
                                   float* score) {
  const ListShare share = list_share(images);
  const int64_t n = share.image, room = params.max_candidates;
  const VoteGrid grid = vote_grid(shape, params);
  for (int64_t i = n * room + share.first; i < n * room + count[n]; i += share.step) {
    const Point* own = keypoints + i * keypoint_count;
    const float area = box_of(own, keypoint_count).area();
    float sum = 0.0f;
    for (int k = 0; k < keypoint_count; ++k) {
      const OksKernel kernel = oks_kernel(grid, own[k], area, params.kappa[k], params);
      const float expected = expected_oks_of_warp(votes + (n * keypoint_count + k) * grid.size(), grid, own[k], kernel);
      const float value = probability(heatmap.plane<T>(n, k), shape, own[k]) * expected;
      sum += value;
      if (lane_index() == 0) {
        keypoint_score[i * keypoint_count + k] = value;
      }
    }
    if (lane_index() == 0) {
      score[i] = sum / float(keypoint_count);
    }
  }
}

}  // namespace

void rescore(const Point* keypoints, const int32_t* count, const int64_t* votes, const View& heatmap,
             const Shape& shape, int keypoint_count, const Params& params, float* keypoint_score, float* score,
             Stream stream) {
  with_float_type(heatmap.type, [&](auto element) {
    launch_lists(rescore_candidates<decltype(element)>, shape.images, stream, keypoints, count, votes, heatmap, shape,
                 keypoint_count, params, keypoint_score, score);
  });
}

}  // namespace deeperlab::cuda
