// SPDX-License-Identifier: Apache-2.0
// assign for nodes. Pixels take their instance in merge.cu, where they are written.
#include "deeperlab/assign.h"

#include "deeperlab/problem.h"
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
__global__ void assign_nodes(Heads heads, Problem problem, Asked asked, Instances found, NodeMaps nodes) {
  __shared__ Boxes shared[warps_of_block];
  const Shape& shape = problem.shape;
  const Params& params = problem.params;
  const int keypoint_count = problem.keypoints();
  const int across = (shape.grid_w + tile_width - 1) / tile_width,
            down = (shape.grid_h + tile_height - 1) / tile_height;
  const int64_t task = thread_index() / warp;
  if (task >= int64_t(shape.images) * across * down) {
    return;  // the whole warp
  }
  const int lane = lane_index();
  const int64_t n = task / (across * down);
  const int index = int(task % (across * down));
  const int y = index / across * tile_height + lane / tile_width, x = index % across * tile_width + lane % tile_width;
  const bool inside = y < shape.grid_h && x < shape.grid_w;
  const int64_t plane = shape.nodes(), node = int64_t(y) * shape.grid_w + x;
  const int32_t label = inside ? nodes.label[n * plane + node] : -1;
  const bool thing = problem.things->has(label);
  const bool asks = inside && (thing || asked.all || *asked.far != 0 || asked.speaks[n * plane + node] != 0);
  const bool refined = casts_long_votes(label, *problem.things, params);
  const Point* keypoints = found.keypoints + n * params.max_instances * keypoint_count;
  const int32_t total = found.count[n];
  const float none = infinity;

  const auto predicted = [&](int k) {
    return refined ? asked.target[(n * keypoint_count + k) * plane + node]
                   : refine_node<T>(heads, n, k, y, x, shape, params);
  };
  Point seen[max_keypoints];
  Boxes& boxes = shared[threadIdx.x / warp];
  const unsigned askers = __ballot_sync(all_lanes, asks);
  if (askers != 0) {
    const int first = __ffs(int(askers)) - 1;
    bool finite = true;
    for (int k = 0; k < keypoint_count; ++k) {
      seen[k] = asks ? predicted(k) : Point{0.0f, 0.0f};
      finite = finite && seen[k].x - seen[k].x == 0.0f && seen[k].y - seen[k].y == 0.0f;
      const float fx = __shfl_sync(all_lanes, seen[k].x, first), fy = __shfl_sync(all_lanes, seen[k].y, first);
      const Point mine{asks ? seen[k].x : fx, asks ? seen[k].y : fy};
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
        sum = add_greatest_distance(sum, boxes.box[k], keypoints[int64_t(j) * keypoint_count + k]);
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
        sum = add_least_distance(sum, boxes.box[k], keypoints[int64_t(j) * keypoint_count + k]);
      }
      for (unsigned left = __ballot_sync(all_lanes, j < total && !(sum > limit)); left != 0; left &= left - 1) {
        const int32_t next = first_of + __ffs(int(left)) - 1;
        float sum_of_next = 0.0f;
        for (int k = 0; k < keypoint_count; ++k) {
          sum_of_next = add_distance(sum_of_next, seen[k], keypoints[int64_t(next) * keypoint_count + k]);
        }
        if (sum_of_next < distance) {  // the first of equals; false for NaN
          distance = sum_of_next;
          instance = next + 1;
        }
      }
    }
    const bool near = asks && distance <= params.max_distance2;
    if (inside) {
      nodes.instance[n * plane + node] = near ? instance : 0;
      nodes.distance[n * plane + node] = near ? distance : none;
    }
  } else if (inside) {
    nodes.instance[n * plane + node] = 0;
    nodes.distance[n * plane + node] = none;
  }
}

}  // namespace

void assign(const Heads& heads, const Problem& problem, const Asked& asked, const Instances& found,
            const NodeMaps& nodes, Stream stream) {
  const Shape& shape = problem.shape;
  const int64_t warps =
      int64_t(shape.images) * blocks_for(shape.grid_w, tile_width) * blocks_for(shape.grid_h, tile_height);
  with_float_type(heads.long_range.type, [&](auto element) {
    launch(assign_nodes<decltype(element)>, blocks_for(warps, warps_of_block), stream, heads, problem, asked, found,
           nodes);
  });
}

}  // namespace deeperlab::cuda
