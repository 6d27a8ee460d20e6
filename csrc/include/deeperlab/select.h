// SPDX-License-Identifier: Apache-2.0
// select: greedy grouping by a priority queue, then box non-maximum suppression (section 3.4).
#pragma once

#include "deeperlab/instance.h"
#include "deeperlab/params.h"

namespace deeperlab {

// A hypothesis is taken for an accepted one when the keypoint it was seeded from lies this near to that instance's:
// 10 px (PersonLab), less for small instances, of which several fit into 10 px. A function of the pair alone.
template <class V>
DEEPERLAB_HD inline MaskOf<V> conflicts(Point seed, float area, const PointOf<V>& accepted, const V& accepted_area,
                                        const Params& params) {
  const V relative = params.nms_relative2 * minimum(broadcast<V>(area), accepted_area);
  const V at_least = maximum(relative, broadcast<V>(params.nms_radius_min2));
  const V limit = minimum(at_least, broadcast<V>(params.nms_radius2));
  return less_equal(squared_distance(seed, accepted), limit);
}

// Boxes overlap too much to be two instances: strictly, and never where the union is empty.
template <class V>
DEEPERLAB_HD inline MaskOf<V> suppresses(const BoxOf<V>& kept, const BoxOf<V>& box, const Params& params) {
  const V inter = intersection(kept, box);
  return less(params.box_iou * (kept.area() + box.area() - inter), inter);
}

namespace cpu {

// Gives the instance score of a candidate of an image; called only for those that conflict with no accepted one.
struct InstanceScore {
  float (*get)(const void* closure, int64_t n, int32_t i);
  const void* closure;
};

int64_t select_scratch_bytes(const Shape& shape, int keypoint_count, const Params& params);

// candidate [N, K], count [N], keypoints [N, K, P] (px), keypoint_score [N, K, P] (K candidates; of each only that of
// its own kind is looked at) -> out_keypoints [N, M, P], out_score [N, M], out_count [N]; the best instance first, rows
// past the count 0. Queue order: the seed's own score, ties by candidate; NMS order: instance score, ties in order of
// acceptance. truncated[n] is set where more than M instances were found, and left alone otherwise.
void select(const Candidate* candidate, const int32_t* count, const Point* keypoints, const float* keypoint_score,
            const InstanceScore& score, const Shape& shape, int keypoint_count, const Params& params,
            Point* out_keypoints, float* out_score, int32_t* out_count, bool* truncated, void* scratch,
            const Parallel& parallel);

}  // namespace cpu

namespace cuda {

int64_t select_scratch_bytes(const Shape& shape, const Params& params);

// The same, of scores [N, K] that are computed already.
void select(const Candidate* candidate, const int32_t* count, const Point* keypoints, const float* keypoint_score,
            const float* score, const Shape& shape, int keypoint_count, const Params& params, Point* out_keypoints,
            float* out_score, int32_t* out_count, bool* truncated, void* scratch, Stream stream);

}  // namespace cuda
}  // namespace deeperlab
