// SPDX-License-Identifier: Apache-2.0
#include "deeperlab/trace.h"

#include "launch.cuh"

namespace deeperlab::cuda {
namespace {

// One candidate a thread: the hops of a path depend on each other, the candidates do not.
template <class T>
__global__ void trace_seeds(const Candidate* candidate, const Point* position, const int32_t* count, View middle_range,
                            View short_range, Graph graph, Paths paths, Shape shape, Params params, Point* keypoints) {
  const int64_t i = thread_index(), room = params.max_candidates, n = i / room;
  if (n < shape.images && i % room < count[n]) {
    trace_seed<T>(candidate[i], position[i], middle_range, short_range, n, graph, paths, shape, params,
                  keypoints + i * graph.keypoints);
  }
}

}  // namespace

void trace(const Candidate* candidate, const Point* position, const int32_t* count, const View& middle_range,
           const View& short_range, const Graph& graph, const Shape& shape, const Params& params, Point* keypoints,
           Stream stream) {
  Paths paths;
  breadth_first_paths(graph, paths);
  with_float_type(middle_range.type, [&](auto element) {
    launch(trace_seeds<decltype(element)>, blocks_for(int64_t(shape.images) * params.max_candidates, block), stream,
           candidate, position, count, middle_range, short_range, graph, paths, shape, params, keypoints);
  });
}

}  // namespace deeperlab::cuda
