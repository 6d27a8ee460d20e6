// SPDX-License-Identifier: Apache-2.0
// deeperlab::fuse for torch: the schemas of all ops, and the CPU implementation of the whole pipeline.
#include "tensors.h"

namespace deeperlab::binding {
namespace {

using Nine = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

Nine fuse(const Tensor& semantic, const Tensor& heatmap, const Tensor& short_range, const Tensor& middle_range,
          const Tensor& long_range, const Ints& things, int64_t num_classes, const Ints& edges, int64_t stride,
          int64_t height, int64_t width, int64_t long_steps, int64_t long_short_steps, bool all_voters,
          int64_t vote_cell, double short_weight, double long_weight, double radius, double peak_threshold,
          int64_t max_candidates, int64_t middle_steps, const Reals& kappa, bool oks_cell, double instance_threshold,
          double nms_radius, double nms_radius_min, double nms_relative, double box_iou, int64_t max_instances,
          double max_distance, bool majority_all, double fit_area) {
  require(heatmap.dim() == 4, "heatmap: expected 4 dimensions [N, P, h, w], got ", heatmap.dim());
  const int64_t n = heatmap.size(0), p = heatmap.size(1), h = heatmap.size(2), w = heatmap.size(3);
  const Shape shape = make_shape(n, num_classes, h, w, stride, height, width);
  const Graph graph = make_graph(p, edges);
  const Params params =
      make_params(shape, graph, long_steps, long_short_steps, all_voters, vote_cell, short_weight, long_weight, radius,
                  peak_threshold, max_candidates, middle_steps, kappa, oks_cell, instance_threshold, nms_radius,
                  nms_radius_min, nms_relative, box_iou, max_instances, max_distance, majority_all, fit_area);
  const Heads heads{semantic_view(semantic, heatmap, shape), head(heatmap, "heatmap", heatmap, {n, p, h, w}),
                    head(short_range, "short_range", heatmap, {n, 2 * p, h, w}),
                    head(middle_range, "middle_range", heatmap, {n, 2 * int64_t(graph.edges), h, w}),
                    head(long_range, "long_range", heatmap, {n, 2 * p, h, w})};

  const int64_t m = max_instances;
  const Nine result{allocate({n, height, width}, ScalarType::Int),
                    allocate({n, height, width}, ScalarType::Int),
                    allocate({n, m, p, 2}, ScalarType::Float),
                    allocate({n, m}, ScalarType::Float),
                    allocate({n, m}, ScalarType::Int),
                    allocate({n, m}, ScalarType::Int),
                    allocate({n, num_classes}, ScalarType::Int),
                    allocate({n}, ScalarType::Int),
                    allocate({n}, ScalarType::Bool)};
  if (n == 0) {
    return result;
  }
  const Panoptic panoptic{
      out<int32_t>(std::get<0>(result)), out<int32_t>(std::get<1>(result)), out<Point>(std::get<2>(result)),
      out<float>(std::get<3>(result)),   out<int32_t>(std::get<4>(result)), out<int32_t>(std::get<5>(result)),
      out<int32_t>(std::get<6>(result)), out<int32_t>(std::get<7>(result)), out<bool>(std::get<8>(result))};
  const Tensor scratch = allocate({cpu::fuse_scratch_bytes(shape, graph, params)}, ScalarType::Byte);
  cpu::fuse(heads, graph, make_things(things, num_classes), shape, params, panoptic, out<char>(scratch),
            torch_threads());
  return result;
}

}  // namespace

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

STABLE_TORCH_LIBRARY_IMPL(deeperlab, CPU, m) { m.impl("fuse", TORCH_BOX(&fuse)); }

}  // namespace deeperlab::binding
