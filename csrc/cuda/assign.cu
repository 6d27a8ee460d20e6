// SPDX-License-Identifier: Apache-2.0
// assign for nodes. Pixels take their instance in merge.cu, where they are written.
#include "deeperlab/assign.h"

#include "deeperlab/refine.h"
#include "launch.cuh"

namespace deeperlab::cuda {
namespace {

constexpr int tile_width = 8, tile_height = warp / tile_width;  // nodes of a warp: the nearer, the tighter their box

// Where the nodes of a warp see each keypoint: a box, of those that are asked for.
struct Boxes {
  Box box[max_keypoints];
};

// A node a lane. Its nearest instance is looked for among those that the box of the warp's predictions does not rule
// out: of 500 instances a handful.
template <class T>
__global__ void assign_nodes(const Point* target, View long_range, View short_range, const int32_t* node_label,
                             const uint8_t* spoken_for, const int32_t* far, bool all_nodes, const Point* keypoints,
                             const int32_t* count, const Things* things, Shape shape, int keypoint_count, Params params,
                             int32_t* node_instance, float* node_distance) {
  __shared__ Boxes shared[warps_of_block];
  const int across = (shape.w + tile_width - 1) / tile_width, down = (shape.h + tile_height - 1) / tile_height;
  const int64_t task = thread_index() / warp;
  if (task >= int64_t(shape.images) * across * down) {
    return;  // the whole warp
  }
  const int lane = lane_index();
  const int64_t n = task / (across * down);
  const int index = int(task % (across * down));
  const int y = index / across * tile_height + lane / tile_width, x = index % across * tile_width + lane % tile_width;
  const bool inside = y < shape.h && x < shape.w;
  const int64_t plane = int64_t(shape.h) * shape.w, node = int64_t(y) * shape.w + x;
  const bool thing = inside && things->has(node_label[n * plane + node]);
  const bool asked = inside && (thing || all_nodes || *far != 0 || spoken_for[n * plane + node] != 0);
  const bool refined = thing || params.all_voters;
  const Point* found = keypoints + n * params.max_instances * keypoint_count;
  const int32_t total = count[n];
  const float none = infinity;

  const auto predicted = [&](int k) {
    return refined ? target[(n * keypoint_count + k) * plane + node]
                   : refine_node<T>(long_range, short_range, n, k, y, x, shape, params);
  };
  Point own[max_keypoints];
  Boxes& boxes = shared[threadIdx.x / warp];
  const unsigned askers = __ballot_sync(all_lanes, asked);
  if (askers != 0) {
    const int first = __ffs(int(askers)) - 1;
    bool finite = true;
    for (int k = 0; k < keypoint_count; ++k) {
      own[k] = asked ? predicted(k) : Point{0.0f, 0.0f};
      finite = finite && own[k].x - own[k].x == 0.0f && own[k].y - own[k].y == 0.0f;
      const float fx = __shfl_sync(all_lanes, own[k].x, first), fy = __shfl_sync(all_lanes, own[k].y, first);
      const Point mine{asked ? own[k].x : fx, asked ? own[k].y : fy};
      const auto least = [](float a, float b) { return a < b ? a : b; };
      const auto most = [](float a, float b) { return a > b ? a : b; };
      const Box box{reduce_warp(mine.x, least), reduce_warp(mine.y, least), reduce_warp(mine.x, most),
                    reduce_warp(mine.y, most)};
      if (lane == 0) {
        boxes.box[k] = box;
      }
    }
    const bool bounded = __all_sync(all_lanes, finite);
    __syncwarp();

    float limit = none;  // no node is farther from its nearest instance
    for (int32_t first_of = 0; bounded && first_of < total; first_of += warp) {
      const int32_t j = first_of + lane;
      float sum = j < total ? 0.0f : none;
      for (int k = 0; j < total && k < keypoint_count; ++k) {
        sum = add_greatest_distance(sum, boxes.box[k], found[int64_t(j) * keypoint_count + k]);
      }
      limit = sum < limit ? sum : limit;  // not NaN
    }
    limit = reduce_warp(limit, [](float a, float b) { return a < b ? a : b; });

    int32_t instance = 0;
    float distance = none;
    for (int32_t first_of = 0; first_of < total; first_of += warp) {
      const int32_t j = first_of + lane;
      float sum = 0.0f;
      for (int k = 0; bounded && j < total && k < keypoint_count; ++k) {
        sum = add_least_distance(sum, boxes.box[k], found[int64_t(j) * keypoint_count + k]);
      }
      for (unsigned left = __ballot_sync(all_lanes, j < total && !(sum > limit)); left != 0; left &= left - 1) {
        const int32_t next = first_of + __ffs(int(left)) - 1;
        float own_distance = 0.0f;
        for (int k = 0; k < keypoint_count; ++k) {
          own_distance = add_distance(own_distance, own[k], found[int64_t(next) * keypoint_count + k]);
        }
        if (own_distance < distance) {  // the first of equals; false for NaN
          distance = own_distance;
          instance = next + 1;
        }
      }
    }
    const bool near = asked && distance <= params.max_distance2;
    if (inside) {
      node_instance[n * plane + node] = near ? instance : 0;
      node_distance[n * plane + node] = near ? distance : none;
    }
  } else if (inside) {
    node_instance[n * plane + node] = 0;
    node_distance[n * plane + node] = none;
  }
}

}  // namespace

void assign(const Point* target, const View& long_range, const View& short_range, const int32_t* node_label,
            const uint8_t* spoken_for, const int32_t* far, bool all_nodes, const Point* keypoints, const int32_t* count,
            const Things* things, const Shape& shape, int keypoint_count, const Params& params, int32_t* node_instance,
            float* node_distance, Stream stream) {
  const int64_t warps = int64_t(shape.images) * blocks_for(shape.w, tile_width) * blocks_for(shape.h, tile_height);
  with_float_type(long_range.type, [&](auto element) {
    launch(assign_nodes<decltype(element)>, blocks_for(warps, warps_of_block), stream, target, long_range, short_range,
           node_label, spoken_for, far, all_nodes, keypoints, count, things, shape, keypoint_count, params,
           node_instance, node_distance);
  });
}

}  // namespace deeperlab::cuda
