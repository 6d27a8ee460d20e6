// SPDX-License-Identifier: Apache-2.0
// merge: semantic and instance maps become one panoptic map, by majority vote (section 3.4).
#pragma once

#include "deeperlab/instance.h"
#include "deeperlab/values.h"

namespace deeperlab {

struct MergeParams {
  bool majority_all;  // the majority of all pixels, not of the nodes that fit
  float fit_area;
};

// Whether a thing node fits its instance well enough to vote on the class: nodes of crowds and of missed instances
// join the nearest instance too, and would out-vote small ones. distance and box_area in px², radius in px.
DEEPERLAB_HD inline bool fits(float distance, float box_area, int keypoint_count, double radius,
                              const MergeParams& params) {
  const float radius2 = float(radius) * float(radius);
  const float share = params.fit_area * box_area;
  return distance <= float(keypoint_count) * (share > radius2 ? share : radius2);
}

namespace cpu {

int64_t merge_scratch_bytes(const Problem& problem);

// `nodes` of targets, node maps, pixels, found -> out.semantic (may be pixels.label itself), out.category, out.area,
// out.class_area. Each fitting thing node among `nodes` has a vote; where none fits, each thing pixel; ties go to the
// smaller class. An instance without pixels keeps its number and is no segment.
void merge(const PixelMaps& pixels, const NodeMaps& maps, const Nodes& nodes, const Problem& problem,
           const Panoptic& out, void* scratch, const Parallel& parallel);

}  // namespace cpu

namespace cuda {

int64_t merge_scratch_bytes(const Problem& problem);

// The same, with the pixels of assign: out.semantic holds their labels and takes their classes, out.instance is
// written.
void merge(const NodeMaps& maps, const Problem& problem, const Panoptic& out, void* scratch, Stream stream);

}  // namespace cuda
}  // namespace deeperlab
