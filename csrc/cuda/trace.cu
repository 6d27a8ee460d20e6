// SPDX-License-Identifier: Apache-2.0
#include "deeperlab/trace.h"

#include "deeperlab/problem.h"
#include "launch.cuh"

namespace deeperlab::cuda {
namespace {

// One candidate a thread: the hops of a path depend on each other, the candidates do not.
template <class T>
__global__ void trace_seeds(Heads heads, Problem problem, Paths paths, Seeds seeds, Point* keypoints) {
  const int64_t i = thread_index(), room = problem.params.max_candidates, n = i / room;
  if (n < problem.shape.images && i % room < seeds.count[n]) {
    const int kind = seeds.candidate[i].kind;
    Point* const traced = keypoints + i * problem.keypoints();
    traced[kind] = seeds.position[i];
    trace_seed<T>(heads, n, kind, problem.graph, paths, problem.shape, problem.params, traced);
  }
}

}  // namespace

void trace(const Heads& heads, const Problem& problem, const Seeds& seeds, Point* keypoints, Stream stream) {
  Paths paths;
  breadth_first_paths(problem.graph, paths);
  const int64_t candidates = int64_t(problem.shape.images) * problem.params.max_candidates;
  with_float_type(heads.middle_range.type, [&](auto element) {
    launch(trace_seeds<decltype(element)>, blocks_for(candidates, block), stream, heads, problem, paths, seeds,
           keypoints);
  });
}

}  // namespace deeperlab::cuda
