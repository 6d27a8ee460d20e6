// SPDX-License-Identifier: Apache-2.0
#include "deeperlab/assign.h"

#include <limits>

#include "parallel.h"

namespace deeperlab::cpu {

void assign(const Point* target, const int32_t* node_label, const int32_t* label, const Point* keypoints,
            const int32_t* count, const Things& things, const Shape& shape, int keypoint_count, const Params& params,
            int32_t* node_instance, float* node_distance, int32_t* instance, const Parallel& parallel) {
  const int64_t nodes = int64_t(shape.h) * shape.w;
  const float infinity = std::numeric_limits<float>::infinity();

  parallel_rows(parallel, shape.images, shape.h, shape.w, [&](int n, int y) {
    const Point* found = keypoints + int64_t(n) * params.max_instances * keypoint_count;
    for (int64_t node = int64_t(y) * shape.w; node < int64_t(y + 1) * shape.w; ++node) {
      int32_t nearest = 0;
      float least = infinity;
      for (int32_t j = 0; j < count[n]; ++j) {
        float distance = 0.0f;
        for (int k = 0; k < keypoint_count; ++k) {
          const Point predicted = target[(int64_t(n) * keypoint_count + k) * nodes + node];
          distance = add_distance(distance, predicted, found[int64_t(j) * keypoint_count + k]);
        }
        if (distance < least) {  // false for NaN
          least = distance;
          nearest = j + 1;
        }
      }
      const bool near = least <= params.max_distance2;
      node_instance[n * nodes + node] = near ? nearest : 0;
      node_distance[n * nodes + node] = near && nearest > 0 ? least : infinity;
    }
  });

  parallel_rows(parallel, shape.images, shape.height, shape.width, [&](int n, int y) {
    const int64_t row = (int64_t(n) * shape.height + y) * shape.width;
    for (int x = 0; x < shape.width; ++x) {
      const int32_t own = label[row + x];
      instance[row + x] =
          !things.has(own)
              ? 0
              : assign_pixel(node_label + n * nodes, node_instance + n * nodes, node_distance + n * nodes, things, own,
                             cell_of_pixel(y, x, shape.stride, shape.h, shape.w), shape.stride, shape.w);
    }
  });
}

}  // namespace deeperlab::cpu
