// SPDX-License-Identifier: Apache-2.0
// deeperlab._C: the operators of torch, their schemas and their CPU implementations, through the stable ABI.
#include "common/fuse.h"
#include "common/stages.h"
#include "tensors.h"

namespace deeperlab::binding {

// N images, C classes, P keypoints, E edges, h x w nodes, H x W image, K = max_candidates, M = max_instances.
// docs/definition.md says what each stage computes; python/deeperlab/params.py what each parameter means.
STABLE_TORCH_LIBRARY(deeperlab, m) {
  // The whole of section 3.4 of the paper -> semantic, instance [N, H, W] int32; keypoints [N, M, P, 2] float32 (x, y
  // in px); score [N, M] float32; category, area [N, M], class_area [N, C], count [N] int32; truncated [N] bool.
  m.def(
      "fuse(Tensor semantic, Tensor heatmap, Tensor short_range, Tensor middle_range, Tensor long_range, int[] things, "
      "int num_classes, int[] edges, int stride, SymInt height, SymInt width, int long_steps, int long_short_steps, "
      "bool all_voters, int vote_cell, float short_weight, float long_weight, float radius, float peak_threshold, "
      "int max_candidates, int middle_steps, float[] kappa, bool oks_cell, float instance_threshold, "
      "float nms_radius, float nms_radius_min, float nms_relative, float box_iou, int max_instances, "
      "float max_distance, bool majority_all, float fit_area) "
      "-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)");
  // -> node_label [N, h, w], label [N, H, W] int32
  m.def("argmax(Tensor semantic, *, int num_classes, int stride, SymInt[] nodes, SymInt[] size) -> (Tensor, Tensor)");
  // -> target [N, P, h, w, 2] float32, (x, y) in px
  m.def("refine(Tensor long_range, Tensor short_range, *, int stride, int long_steps, int long_short_steps) -> Tensor");
  // -> votes [N, P, rows, columns] int64, in 1/256 of the fixed-point unit
  m.def(
      "vote(Tensor heatmap, Tensor short_range, Tensor target, Tensor node_label, *, int[] things, int stride, "
      "SymInt[] size, int vote_cell, float short_weight, float long_weight, bool all_voters) -> Tensor");
  // -> candidate [N, K, 3] int32 (kind, y, x), position [N, K, 2] float32 (px), count [N] int32, truncated [N] bool
  m.def(
      "peaks(Tensor votes, *, int stride, SymInt[] nodes, int vote_cell, float radius, float threshold, "
      "int max_candidates) -> (Tensor, Tensor, Tensor, Tensor)");
  // -> keypoints [N, K, P, 2] float32 (px)
  m.def(
      "trace(Tensor position, Tensor candidate, Tensor count, Tensor middle_range, Tensor short_range, *, "
      "int[] edges, int stride, SymInt[] size, int middle_steps) -> Tensor");
  // -> keypoint_score [N, K, P], score [N, K] float32
  m.def(
      "rescore(Tensor keypoints, Tensor count, Tensor votes, Tensor heatmap, *, int stride, int vote_cell, "
      "float radius, float[] kappa, bool oks_cell) -> (Tensor, Tensor)");
  // -> keypoints [N, M, P, 2], score [N, M] float32, count [N] int32, truncated [N] bool
  m.def(
      "select(Tensor candidate, Tensor count, Tensor keypoints, Tensor keypoint_score, Tensor score, *, "
      "float instance_threshold, float nms_radius, float nms_radius_min, float nms_relative, float box_iou, "
      "int max_instances) -> (Tensor, Tensor, Tensor, Tensor)");
  // -> node_instance [N, h, w] int32, node_distance [N, h, w] float32 (px^2), instance [N, H, W] int32
  m.def(
      "assign(Tensor target, Tensor node_label, Tensor label, Tensor keypoints, Tensor count, *, int[] things, "
      "int stride, float max_distance) -> (Tensor, Tensor, Tensor)");
  // -> semantic [N, H, W], category, area [N, M], class_area [N, C] int32
  m.def(
      "merge(Tensor label, Tensor instance, Tensor node_label, Tensor node_instance, Tensor node_distance, "
      "Tensor keypoints, Tensor count, *, int[] things, int num_classes, float radius, float fit_area, "
      "bool majority_all) -> (Tensor, Tensor, Tensor, Tensor)");
}

STABLE_TORCH_LIBRARY_IMPL(deeperlab, CPU, m) {
  m.impl("fuse", TORCH_BOX(&Operator<&binding::fuse<TensorFace>>::call));
  m.impl("argmax", TORCH_BOX(&Operator<&binding::argmax<TensorFace>>::call));
  m.impl("refine", TORCH_BOX(&Operator<&binding::refine<TensorFace>>::call));
  m.impl("vote", TORCH_BOX(&Operator<&binding::vote<TensorFace>>::call));
  m.impl("peaks", TORCH_BOX(&Operator<&binding::peaks<TensorFace>>::call));
  m.impl("trace", TORCH_BOX(&Operator<&binding::trace<TensorFace>>::call));
  m.impl("rescore", TORCH_BOX(&Operator<&binding::rescore<TensorFace>>::call));
  m.impl("select", TORCH_BOX(&Operator<&binding::select<TensorFace>>::call));
  m.impl("assign", TORCH_BOX(&Operator<&binding::assign<TensorFace>>::call));
  m.impl("merge", TORCH_BOX(&Operator<&binding::merge<TensorFace>>::call));
}

}  // namespace deeperlab::binding
