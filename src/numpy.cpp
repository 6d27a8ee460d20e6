// SPDX-License-Identifier: Apache-2.0
// deeperlab._numpy: the fusion for NumPy arrays, without torch.
#include <pybind11/stl.h>

#include "arrays.h"

namespace deeperlab::binding {
namespace {

py::tuple fuse(const py::array& semantic, const py::array& heatmap, const py::array& short_range,
               const py::array& middle_range, const py::array& long_range, const Ints& things, int64_t num_classes,
               const Ints& edges, int64_t stride, int64_t height, int64_t width, int64_t long_steps,
               int64_t long_short_steps, bool all_voters, int64_t vote_cell, double short_weight, double long_weight,
               double radius, double peak_threshold, int64_t max_candidates, int64_t middle_steps, const Reals& kappa,
               bool oks_cell, double instance_threshold, double nms_radius, double nms_radius_min, double nms_relative,
               double box_iou, int64_t max_instances, double max_distance, bool majority_all, double fit_area,
               int num_threads) {
  require(heatmap.ndim() == 4, "heatmap: expected 4 dimensions [N, P, h, w], got ", heatmap.ndim());
  require_range("num_threads", num_threads, 1, 1024);
  const int64_t n = heatmap.shape(0), p = heatmap.shape(1), h = heatmap.shape(2), w = heatmap.shape(3);
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
  const Things thing_classes = make_things(things, num_classes);

  const int64_t m = max_instances;
  auto out_semantic = make_array<int32_t>({n, height, width}), out_instance = make_array<int32_t>({n, height, width});
  auto out_keypoints = make_array<float>({n, m, p, 2}), out_score = make_array<float>({n, m});
  auto out_category = make_array<int32_t>({n, m}), out_area = make_array<int32_t>({n, m});
  auto out_class_area = make_array<int32_t>({n, num_classes}), out_count = make_array<int32_t>({n});
  auto out_truncated = make_array<bool>({n});
  if (n > 0) {
    const Panoptic panoptic{out_semantic.mutable_data(),
                            out_instance.mutable_data(),
                            reinterpret_cast<Point*>(out_keypoints.mutable_data()),
                            out_score.mutable_data(),
                            out_category.mutable_data(),
                            out_area.mutable_data(),
                            out_class_area.mutable_data(),
                            out_count.mutable_data(),
                            out_truncated.mutable_data()};
    const Block scratch = allocate(cpu::fuse_scratch_bytes(shape, graph, params));
    const py::gil_scoped_release released;
    cpu::fuse(heads, graph, thing_classes, shape, params, panoptic, scratch.get(), own_threads(num_threads));
  }
  return py::make_tuple(out_semantic, out_instance, out_keypoints, out_score, out_category, out_area, out_class_area,
                        out_count, out_truncated);
}

PYBIND11_MODULE(_numpy, m) {
  m.doc() = "The fusion for NumPy arrays; deeperlab.fuse is its public face.";
  m.def("fuse", &fuse, "All arguments as torch.ops.deeperlab.fuse, then num_threads.");
}

}  // namespace
}  // namespace deeperlab::binding
