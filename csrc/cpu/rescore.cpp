// SPDX-License-Identifier: Apache-2.0
#include "deeperlab/rescore.h"

#include "parallel.h"

namespace deeperlab::cpu {

void rescore(const Point* keypoints, const int32_t* count, const int64_t* votes, const View& heatmap,
             const Shape& shape, int keypoint_count, const Params& params, float* keypoint_score, float* score,
             const Parallel& parallel) {
  const VoteGrid grid = vote_grid(shape, params);
  const int64_t room = params.max_candidates;
  with_float_type(heatmap.type, [&](auto element) {
    using T = decltype(element);
    parallel_for(parallel, shape.images * room, 16, [&](int64_t i) {
      const int64_t n = i / room;
      const bool used = i % room < count[n];
      const Point* own = keypoints + i * keypoint_count;
      const float area = used ? box_of(own, keypoint_count).area() : 0.0f;
      float sum = 0.0f;
      for (int k = 0; k < keypoint_count; ++k) {
        float s = 0.0f;
        if (used) {
          const int64_t* map = votes + (n * keypoint_count + k) * grid.size();
          s = probability(heatmap.plane<T>(n, k), shape, own[k]) *
              expected_oks(map, grid, own[k], area, params.kappa[k], params);
        }
        keypoint_score[i * keypoint_count + k] = s;
        sum += s;
      }
      score[i] = sum / float(keypoint_count);
    });
  });
}

}  // namespace deeperlab::cpu
