// SPDX-License-Identifier: Apache-2.0
// trace: from one seed to all keypoints of its would-be instance, along the graph (section 3.4).
#pragma once

#include "deeperlab/graph.h"
#include "deeperlab/instance.h"
#include "deeperlab/refine.h"

namespace deeperlab {

// keypoints[0 .. P − 1] in px from the seed at `position`. It depends on no other candidate, so all are traced in
// parallel. Positions are clamped to the image once, at the end: in a crop, a center outside must still read its
// own offsets.
template <class T>
DEEPERLAB_HD inline void trace_seed(Candidate seed, Point position, const View& middle_range, const View& short_range,
                                    int64_t n, const Graph& graph, const Paths& paths, const Shape& shape,
                                    const Params& params, Point* keypoints) {
  keypoints[seed.kind] = position;
  for (int i = 0; i + 1 < graph.keypoints; ++i) {
    const int e = paths.edge[seed.kind][i];
    const int source = graph.source[e], target = graph.target[e];
    const Point moved = follow<T>(middle_range, n, e, shape, 1, keypoints[source]);
    keypoints[target] = follow<T>(short_range, n, target, shape, params.middle_steps, moved);
  }
  for (int k = 0; k < graph.keypoints; ++k) {
    keypoints[k].x = clamp(keypoints[k].x, 0.0f, float(shape.width - 1));
    keypoints[k].y = clamp(keypoints[k].y, 0.0f, float(shape.height - 1));
  }
}

namespace cpu {

// candidate, position (px) [N, max_candidates], count [N], middle_range [N, 2E, h, w], short_range [N, 2P, h, w]
// -> keypoints [N, max_candidates, P] (px); rows past count[n] are 0.
void trace(const Candidate* candidate, const Point* position, const int32_t* count, const View& middle_range,
           const View& short_range, const Graph& graph, const Shape& shape, const Params& params, Point* keypoints,
           const Parallel& parallel);

}  // namespace cpu

namespace cuda {

// The same; rows past count[n] are left alone.
void trace(const Candidate* candidate, const Point* position, const int32_t* count, const View& middle_range,
           const View& short_range, const Graph& graph, const Shape& shape, const Params& params, Point* keypoints,
           Stream stream);

}  // namespace cuda
}  // namespace deeperlab
