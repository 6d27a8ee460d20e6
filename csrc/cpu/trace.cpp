// SPDX-License-Identifier: Apache-2.0
#include "deeperlab/trace.h"

#include <algorithm>

#include "simd/parallel.h"

namespace deeperlab::cpu {

void trace(const Candidate* candidate, const Point* position, const int32_t* count, const View& middle_range,
           const View& short_range, const Graph& graph, const Shape& shape, const Params& params, Point* keypoints,
           const Parallel& parallel) {
  Paths paths;
  breadth_first_paths(graph, paths);
  const int64_t room = params.max_candidates;
  with_float_type(middle_range.type, [&](auto element) {
    using T = decltype(element);
    parallel_for(parallel, shape.images * room, 64, [&](int64_t i) {
      const int64_t n = i / room;
      Point* own = keypoints + i * graph.keypoints;
      if (i % room < count[n]) {
        trace_seed<T>(candidate[i], position[i], middle_range, short_range, n, graph, paths, shape, params, own);
      } else {
        std::fill(own, own + graph.keypoints, Point{0.0f, 0.0f});
      }
    });
  });
}

}  // namespace deeperlab::cpu
