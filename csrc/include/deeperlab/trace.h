// SPDX-License-Identifier: Apache-2.0
// trace: from one seed to all keypoints of its would-be instance, along the graph (section 3.4).
#pragma once

#include "deeperlab/graph.h"
#include "deeperlab/instance.h"
#include "deeperlab/refine.h"

namespace deeperlab {

struct TraceParams {
  int middle_steps;
};

// keypoints[0 .. P − 1] in px from the seed keypoints[kind]. It depends on no other candidate, so all are traced in
// parallel. Positions are clamped to the image once, at the end: in a crop, a center outside must still read its
// own offsets.
template <class T>
DEEPERLAB_HD inline void trace_seed(const Heads& heads, int64_t n, int kind, const Graph& graph, const Paths& paths,
                                    const Shape& shape, const TraceParams& params, Point* keypoints) {
  for (int i = 0; i + 1 < graph.keypoints; ++i) {
    const int e = paths.edge[kind][i];
    const int source = graph.source[e], target = graph.target[e];
    const Point moved = follow<T>(heads.middle_range, n, e, shape, 1, keypoints[source]);
    keypoints[target] = follow<T>(heads.short_range, n, target, shape, params.middle_steps, moved);
  }
  for (int k = 0; k < graph.keypoints; ++k) {
    keypoints[k].x = clamp(keypoints[k].x, 0.0f, float(shape.width - 1));
    keypoints[k].y = clamp(keypoints[k].y, 0.0f, float(shape.height - 1));
  }
}

namespace cpu {

// seeds, heads.middle_range, heads.short_range -> keypoints [N, K, P] (px); rows past the seeds' count are 0.
void trace(const Heads& heads, const Problem& problem, const Seeds& seeds, Point* keypoints, const Parallel& parallel);

}  // namespace cpu

namespace cuda {

// The same; rows past the seeds' count are left alone.
void trace(const Heads& heads, const Problem& problem, const Seeds& seeds, Point* keypoints, Stream stream);

}  // namespace cuda
}  // namespace deeperlab
