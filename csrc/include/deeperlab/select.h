// SPDX-License-Identifier: Apache-2.0
// select: greedy grouping by a priority queue, then box non-maximum suppression (section 3.4).
#pragma once

#include "deeperlab/instance.h"
#include "deeperlab/values.h"

namespace deeperlab {

struct SelectParams {
  float instance_threshold;
  float nms_radius2, nms_radius_min2, nms_relative2;  // squares, computed in double
  float box_iou;
  int max_instances;  // M
};

// A hypothesis is taken for an accepted one when the keypoint it was seeded from lies this near to that instance's:
// 10 px (PersonLab), less for small instances, of which several fit into 10 px. A function of the pair alone.
template <class V>
DEEPERLAB_HD inline MaskOf<V> conflicts(Point seed, float area, const PointOf<V>& accepted, const V& accepted_area,
                                        const SelectParams& params) {
  const V relative = params.nms_relative2 * minimum(broadcast<V>(area), accepted_area);
  const V at_least = maximum(relative, broadcast<V>(params.nms_radius_min2));
  const V limit = minimum(at_least, broadcast<V>(params.nms_radius2));
  return less_equal(squared_distance(seed, accepted), limit);
}

// Boxes overlap too much to be two instances: strictly, and never where the union is empty.
template <class V>
DEEPERLAB_HD inline MaskOf<V> suppresses(const BoxOf<V>& kept, const BoxOf<V>& box, const SelectParams& params) {
  const V inter = intersection(kept, box);
  return less(params.box_iou * (kept.area() + box.area() - inter), inter);
}

namespace cpu {

// Called only for candidates that conflict with no accepted one.
struct InstanceScore;

int64_t select_scratch_bytes(const Problem& problem);

// seeds.candidate, seeds.count, hypotheses (of the keypoint scores only those of each seed's own kind, of the scores
// none: `score` gives them) -> found, the best instance first. Queue order: the seed's own score, ties by candidate;
// NMS order: instance score, ties in order of acceptance. found.truncated[n] is set where more than M instances were
// found, and left alone otherwise.
void select(const Seeds& seeds, const Hypotheses& hypotheses, const InstanceScore& score, const Problem& problem,
            const Instances& found, void* scratch, const Parallel& parallel);

}  // namespace cpu

namespace cuda {

int64_t select_scratch_bytes(const Problem& problem);

// The same, of hypotheses.score that is computed already.
void select(const Seeds& seeds, const Hypotheses& hypotheses, const Problem& problem, const Instances& found,
            void* scratch, Stream stream);

}  // namespace cuda
}  // namespace deeperlab
