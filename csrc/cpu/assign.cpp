// SPDX-License-Identifier: Apache-2.0
#include "deeperlab/assign.h"

#include <algorithm>
#include <limits>

#include "cells.h"
#include "parallel.h"

namespace deeperlab::cpu {
namespace {

// Nodes are assigned so many at a time: their predictions stay at hand while all instances pass by, and the
// compiler gives each node a lane of a vector.
constexpr int lanes = 16;

struct Block {
  float x[max_keypoints][lanes], y[max_keypoints][lanes];  // px; lanes past the end of a row hold zeros
};

// The nearest of `count` instances for each node of a block; 0 and +inf where none is.
void find_nearest(const Block& predicted, const Point* keypoints, int32_t count, int keypoint_count,
                  int32_t (&nearest)[lanes], float (&least)[lanes]) {
  std::fill(nearest, nearest + lanes, 0);
  std::fill(least, least + lanes, std::numeric_limits<float>::infinity());
  for (int32_t j = 0; j < count; ++j) {
    float distance[lanes] = {};
    for (int k = 0; k < keypoint_count; ++k) {
      const Point keypoint = keypoints[int64_t(j) * keypoint_count + k];
      for (int i = 0; i < lanes; ++i) {
        distance[i] = add_distance(distance[i], {predicted.x[k][i], predicted.y[k][i]}, keypoint);
      }
    }
    for (int i = 0; i < lanes; ++i) {
      const bool nearer = distance[i] < least[i];  // false for NaN
      nearest[i] = nearer ? j + 1 : nearest[i];
      least[i] = nearer ? distance[i] : least[i];
    }
  }
}

}  // namespace

void assign(const Point* target, const int32_t* node_label, const int32_t* label, const Point* keypoints,
            const int32_t* count, const Things& things, const Shape& shape, int keypoint_count, const Params& params,
            int32_t* node_instance, float* node_distance, int32_t* instance, const Parallel& parallel) {
  const int64_t nodes = int64_t(shape.h) * shape.w;

  parallel_rows(parallel, shape.images, shape.h, shape.w, [&](int64_t n, int y) {
    const Point* found = keypoints + n * params.max_instances * keypoint_count;
    for (int x = 0; x < shape.w; x += lanes) {
      const int used = std::min(lanes, shape.w - x);
      const int64_t first = int64_t(y) * shape.w + x;
      Block predicted;
      for (int k = 0; k < keypoint_count; ++k) {
        const Point* own = target + (n * keypoint_count + k) * nodes + first;
        for (int i = 0; i < lanes; ++i) {
          const Point point = i < used ? own[i] : Point{0.0f, 0.0f};
          predicted.x[k][i] = point.x;
          predicted.y[k][i] = point.y;
        }
      }
      int32_t nearest[lanes];
      float least[lanes];
      find_nearest(predicted, found, count[n], keypoint_count, nearest, least);
      for (int i = 0; i < used; ++i) {
        const bool near = least[i] <= params.max_distance2;
        node_instance[n * nodes + first + i] = near ? nearest[i] : 0;
        node_distance[n * nodes + first + i] = near ? least[i] : std::numeric_limits<float>::infinity();
      }
    }
  });

  parallel_rows(parallel, shape.images, shape.height, shape.width, [&](int64_t n, int y) {
    const int64_t row = (n * shape.height + y) * shape.width;
    const int32_t* labels = node_label + n * nodes;
    const int32_t* instances = node_instance + n * nodes;
    const float* distances = node_distance + n * nodes;
    visit_cells(y, shape.width, shape.stride, shape.h, shape.w, [&](Cell first, int x, int length) {
      // Where all corners have one instance, whichever of them are eligible have it too.
      const bool agree = corners_agree(instances, shape.w, first);
      const int32_t common = instances[int64_t(first.y) * shape.w + first.x];
      for (int i = 0; i < length; ++i) {
        const int32_t own = label[row + x + i];
        instance[row + x + i] = !things.has(own) ? 0
                                : agree          ? common
                                                 : assign_pixel(labels, instances, distances, things, own,
                                                                pixel_of_run(first, i), shape.stride, shape.w);
      }
    });
  });
}

}  // namespace deeperlab::cpu
