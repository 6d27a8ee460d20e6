// SPDX-License-Identifier: Apache-2.0
// fuse for both bindings: checks, allocation, one call of the engine.
#pragma once

#include "call.h"

namespace deeperlab::binding {

template <class Traits>
Results<Traits> fuse(const Call<Traits>& call) {
  const auto& heatmap = call.array("heatmap", 4, "[N, P, h, w]");
  const int64_t n = Traits::extent(heatmap, 0), p = Traits::extent(heatmap, 1);
  const int64_t h = Traits::extent(heatmap, 2), w = Traits::extent(heatmap, 3);
  const int64_t classes = call.integer("num_classes");
  const Ints& size = call.integers("size");
  const Shape shape = make_shape(n, classes, "heatmap", {h, w}, call.integer("stride"), "size", size);
  const int keypoint_count = require_keypoints("heatmap", p);
  typename Call<Traits>::Problem problem(shape, keypoint_count, call.params(keypoint_count));
  call.read_edges(problem);
  call.read_things(problem, classes);
  const int64_t m = problem.params.max_instances;
  call.require_places("max_instances", m, shape);
  const Heads heads{semantic_view<Traits>(call.array("semantic"), heatmap, shape),
                    call.head("heatmap", "heatmap", {n, p, h, w}),
                    call.head("short_range", "heatmap", {n, 2 * p, h, w}),
                    call.head("middle_range", "heatmap", {n, 2 * int64_t(problem.graph.edges), h, w}),
                    call.head("long_range", "heatmap", {n, 2 * p, h, w})};

  const auto semantic = call.template make<int32_t>({n, size[0], size[1]});
  const auto instance = call.template make<int32_t>({n, size[0], size[1]});
  const auto keypoints = call.template make<float>({n, m, p, 2});
  const auto score = call.template make<float>({n, m});
  const auto category = call.template make<int32_t>({n, m});
  const auto area = call.template make<int32_t>({n, m});
  const auto class_area = call.template make<int32_t>({n, classes});
  const auto count = call.template make<int32_t>({n});
  const auto truncated = call.template make<bool>({n});
  const Panoptic panoptic{out<int32_t, Traits>(semantic),
                          out<int32_t, Traits>(instance),
                          {out<Point, Traits>(keypoints), out<float, Traits>(score), out<int32_t, Traits>(count),
                           out<bool, Traits>(truncated)},
                          out<int32_t, Traits>(category),
                          out<int32_t, Traits>(area),
                          out<int32_t, Traits>(class_area)};
  if (n > 0) {
    const auto engine = call.traits.engine();
    const auto scratch = call.template make<uint8_t>({engine.scratch_bytes(problem)});
    void* const block = out<void, Traits>(scratch);
    call.run([&] { engine.fuse(heads, problem, panoptic, block); });
  }
  return {semantic, instance, keypoints, score, category, area, class_area, count, truncated};
}

}  // namespace deeperlab::binding
