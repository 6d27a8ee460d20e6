// SPDX-License-Identifier: Apache-2.0
// merge: semantic and instance maps become one panoptic map, by majority vote (section 3.4).
#pragma once

#include "deeperlab/instance.h"
#include "deeperlab/params.h"

namespace deeperlab {

// Whether a thing node fits its instance well enough to vote on the class: nodes of crowds and of missed instances
// join the nearest instance too, and would out-vote small ones. box_area and radius2 in px².
DEEPERLAB_HD inline bool fits(float distance, float box_area, int keypoint_count, const Params& params) {
  const float radius2 = float(params.radius) * float(params.radius);
  const float share = params.fit_area * box_area;
  return distance <= float(keypoint_count) * (share > radius2 ? share : radius2);
}

namespace cpu {

int64_t merge_scratch_bytes(const Shape& shape, const Params& params);

// label, instance [N, H, W], node_label, node_instance, node_distance [N, h, w], keypoints [N, M, P] (px), count [N]
// -> semantic [N, H, W] (the final class; may be `label` itself), category [N, M] (-1: no segment), area [N, M]
// (pixels), class_area [N, C] (pixels of no instance). Each fitting thing node among `nodes` has a vote; where none
// fits, each thing pixel; ties go to the smaller class. An instance without pixels keeps its number and is no segment.
// label_of_nodes: see assign.h.
void merge(const int32_t* label, const int32_t* instance, const int32_t* node_label, const int32_t* node_instance,
           const float* node_distance, const Nodes& nodes, bool label_of_nodes, const Point* keypoints,
           const int32_t* count, const Things& things, const Shape& shape, int keypoint_count, const Params& params,
           int32_t* semantic, int32_t* category, int32_t* area, int32_t* class_area, void* scratch,
           const Parallel& parallel);

}  // namespace cpu

namespace cuda {

int64_t merge_scratch_bytes(const Shape& shape, const Params& params);

// The same, with the pixels of assign: `semantic` holds their labels and takes their classes, `instance` is written.
void merge(const int32_t* node_label, const int32_t* node_instance, const float* node_distance, const Point* keypoints,
           const int32_t* count, const Things* things, const Shape& shape, int keypoint_count, const Params& params,
           int32_t* semantic, int32_t* instance, int32_t* category, int32_t* area, int32_t* class_area, void* scratch,
           Stream stream);

}  // namespace cuda
}  // namespace deeperlab
