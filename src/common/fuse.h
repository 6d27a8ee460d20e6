// SPDX-License-Identifier: Apache-2.0
// fuse for any face: checks, allocation, one call of the engine.
#pragma once

#include <tuple>

#include "face.h"

namespace deeperlab::binding {

template <class Face, class A = ArrayOf<Face>>
std::tuple<A, A, A, A, A, A, A, A, A> fuse(const Face& face, const A& semantic, const A& heatmap, const A& short_range,
                                           const A& middle_range, const A& long_range, const Ints& things,
                                           int64_t num_classes, const Ints& edges, int64_t stride, int64_t height,
                                           int64_t width, int64_t long_steps, int64_t long_short_steps, bool all_voters,
                                           int64_t vote_cell, double short_weight, double long_weight, double radius,
                                           double peak_threshold, int64_t max_candidates, int64_t middle_steps,
                                           const Reals& kappa, bool oks_cell, double instance_threshold,
                                           double nms_radius, double nms_radius_min, double nms_relative,
                                           double box_iou, int64_t max_instances, double max_distance,
                                           bool majority_all, double fit_area) {
  require_rank<Face>(heatmap, "heatmap", 4, "[N, P, h, w]");
  const int64_t n = Face::extent(heatmap, 0), p = Face::extent(heatmap, 1);
  const int64_t h = Face::extent(heatmap, 2), w = Face::extent(heatmap, 3), m = max_instances;
  const Shape shape = make_shape(n, num_classes, h, w, stride, height, width);
  const Graph graph = make_graph("heatmap", p, edges);
  const Params params =
      make_params(shape, graph, long_steps, long_short_steps, all_voters, vote_cell, short_weight, long_weight, radius,
                  peak_threshold, max_candidates, middle_steps, kappa, oks_cell, instance_threshold, nms_radius,
                  nms_radius_min, nms_relative, box_iou, max_instances, max_distance, majority_all, fit_area);
  const Heads heads{semantic_view<Face>(semantic, heatmap, shape),
                    head<Face>(heatmap, "heatmap", heatmap, {n, p, h, w}),
                    head<Face>(short_range, "short_range", heatmap, {n, 2 * p, h, w}),
                    head<Face>(middle_range, "middle_range", heatmap, {n, 2 * int64_t(graph.edges), h, w}),
                    head<Face>(long_range, "long_range", heatmap, {n, 2 * p, h, w})};
  const Things thing_classes = make_things(things, num_classes);

  const A out_semantic = face.template make<int32_t>({n, height, width});
  const A out_instance = face.template make<int32_t>({n, height, width});
  const A out_keypoints = face.template make<float>({n, m, p, 2});
  const A out_score = face.template make<float>({n, m});
  const A out_category = face.template make<int32_t>({n, m});
  const A out_area = face.template make<int32_t>({n, m});
  const A out_class_area = face.template make<int32_t>({n, num_classes});
  const A out_count = face.template make<int32_t>({n});
  const A out_truncated = face.template make<bool>({n});
  const Panoptic panoptic{
      out<int32_t, Face>(out_semantic),   out<int32_t, Face>(out_instance), out<Point, Face>(out_keypoints),
      out<float, Face>(out_score),        out<int32_t, Face>(out_category), out<int32_t, Face>(out_area),
      out<int32_t, Face>(out_class_area), out<int32_t, Face>(out_count),    out<bool, Face>(out_truncated)};
  if (n > 0) {
    const auto engine = face.engine();
    const A scratch = face.template make<uint8_t>({engine.fuse_scratch_bytes(shape, graph, params)});
    void* block = out<void, Face>(scratch);
    [[maybe_unused]] const typename Face::Release release;
    engine.fuse(heads, graph, thing_classes, shape, params, panoptic, block);
  }
  return {out_semantic, out_instance,   out_keypoints, out_score,    out_category,
          out_area,     out_class_area, out_count,     out_truncated};
}

}  // namespace deeperlab::binding
