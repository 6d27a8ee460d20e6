// SPDX-License-Identifier: Apache-2.0
#include "deeperlab/refine.h"

#include "deeperlab/problem.h"
#include "launch.cuh"

namespace deeperlab::cuda {
namespace {

// One node and keypoint a thread.
template <class T>
__global__ void refine_nodes(Heads heads, Problem problem, const int32_t* node_label, Point* target, int32_t* far) {
  const Shape& shape = problem.shape;
  const int64_t i = thread_index(), plane = i / shape.nodes(), node = i % shape.nodes();
  const int64_t n = plane / problem.keypoints();
  if (n < shape.images && casts_long_votes(node_label[n * shape.nodes() + node], *problem.things, problem.params)) {
    const int k = int(plane % problem.keypoints()), y = int(node / shape.grid_w), x = int(node % shape.grid_w);
    const Point at = refine_node<T>(heads, n, k, y, x, shape, problem.params);
    target[i] = at;
    if (!is_near(at)) {
      *far = 1;
    }
  }
}

}  // namespace

void refine(const Heads& heads, const Problem& problem, const int32_t* node_label, Point* target, int32_t* far,
            Stream stream) {
  const int64_t targets = problem.shape.images * problem.keypoints() * problem.shape.nodes();
  fill_with_zeros(far, 1, stream);
  with_float_type(heads.long_range.type, [&](auto element) {
    launch(refine_nodes<decltype(element)>, blocks_for(targets, block), stream, heads, problem, node_label, target,
           far);
  });
}

}  // namespace deeperlab::cuda
