// SPDX-License-Identifier: Apache-2.0
#include "deeperlab/trace.h"

#include <algorithm>

#include "deeperlab/problem.h"
#include "simd/parallel.h"

namespace deeperlab::cpu {

void trace(const Heads& heads, const Problem& problem, const Seeds& seeds, Point* keypoints, const Parallel& parallel) {
  const Graph& graph = problem.graph;
  Paths paths;
  breadth_first_paths(graph, paths);
  const int64_t room = problem.params.max_candidates;
  with_float_type(heads.middle_range.type, [&](auto element) {
    using T = decltype(element);
    parallel_for(parallel, problem.shape.images * room, 64, [&](int64_t i) {
      const int64_t n = i / room;
      Point* const traced = keypoints + i * graph.keypoints;
      if (i % room < seeds.count[n]) {
        const int kind = seeds.candidate[i].kind;
        traced[kind] = seeds.position[i];
        trace_seed<T>(heads, n, kind, graph, paths, problem.shape, problem.params, traced);
      } else {
        std::fill(traced, traced + graph.keypoints, Point{0.0f, 0.0f});
      }
    });
  });
}

}  // namespace deeperlab::cpu
