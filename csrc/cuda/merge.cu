// SPDX-License-Identifier: Apache-2.0
#include "deeperlab/merge.h"

#include "deeperlab/scratch.h"
#include "pixels.cuh"

namespace deeperlab::cuda {
namespace {

struct Layout {
  int32_t* ballots;     // [N, M + 1, C] votes for the class of an instance; zero at first, as is what follows
  int32_t* late;        // 1: some instance has pixels but no vote of a node
  int32_t* late_class;  // [N, M] of such an instance, -1 for the others
  int64_t zeros;        // numbers from `ballots` on
  int64_t bytes;
};

Layout lay_out(const Shape& shape, const Params& params, void* block) {
  Scratch scratch(block);
  const int64_t ballots = int64_t(shape.images) * (params.max_instances + 1) * shape.classes;
  Layout at{};
  at.zeros = ballots + 1;
  at.ballots = scratch.take<int32_t>(at.zeros);
  at.late = at.ballots + ballots;
  at.late_class = scratch.take<int32_t>(int64_t(shape.images) * params.max_instances);
  at.bytes = scratch.bytes();
  return at;
}

// A thread a node: the votes of fitting thing nodes for the classes of their instances.
__global__ void cast_ballots(const int32_t* node_label, const int32_t* node_instance, const float* node_distance,
                             const Point* keypoints, const Things* things, Shape shape, int keypoint_count,
                             Params params, int32_t* ballots) {
  __shared__ Counters table;
  const int64_t nodes = int64_t(shape.h) * shape.w, i = thread_index();
  const int64_t first_image = int64_t(blockIdx.x) * block / nodes;  // what lies in the next one is added directly
  const int64_t room = int64_t(params.max_instances + 1) * shape.classes;
  table.clear();
  __syncthreads();
  if (i < nodes * shape.images) {
    const int64_t n = i / nodes;
    const int32_t j = node_instance[i], own = node_label[i];
    if (j > 0 && things->has(own)) {
      const Point* found = keypoints + (n * params.max_instances + j - 1) * keypoint_count;
      if (fits(node_distance[i], box_of(found, keypoint_count).area(), keypoint_count, params)) {
        const auto add = [&](uint32_t key, uint32_t votes) { atomicAdd(ballots + n * room + key, int32_t(votes)); };
        const uint32_t key = uint32_t(j) * uint32_t(shape.classes) + uint32_t(own);
        if (n == first_image) {
          table.add(key, 1, add);
        } else {
          add(key, 1);
        }
      }
    }
  }
  __syncthreads();
  table.flush([&](uint32_t key, uint32_t votes) { atomicAdd(ballots + first_image * room + key, int32_t(votes)); });
}

// Smallest class with the most votes, -1 where nobody voted; by a warp.
__device__ int32_t winner(const int32_t* votes, int classes) {
  int64_t best = 0;  // votes, then classes backwards: the greatest wins
  for (int c = lane_index(); c < classes; c += warp) {
    const int64_t own = int64_t(votes[c]) * max_classes + (max_classes - 1 - c);
    best = votes[c] > 0 && own > best ? own : best;
  }
  best = reduce_warp(static_cast<long long>(best), [](long long a, long long b) { return a > b ? a : b; });
  return best == 0 ? -1 : int32_t(max_classes - 1 - best % max_classes);
}

// A warp an instance: its class by the nodes, -1 where none has a vote. Areas begin at 0.
__global__ void decide_by_nodes(Shape shape, Params params, const int32_t* count, const int32_t* ballots,
                                int32_t* category, int32_t* area, int32_t* class_area) {
  const int64_t thread = thread_index(), i = thread / warp, n = i / params.max_instances;
  if (thread < int64_t(shape.images) * shape.classes) {
    class_area[thread] = 0;
  }
  if (n >= shape.images) {
    return;  // the whole warp
  }
  const int64_t j = i % params.max_instances;
  const int32_t decided =
      j < count[n] ? winner(ballots + (n * (params.max_instances + 1) + j + 1) * shape.classes, shape.classes) : -1;
  if (lane_index() == 0) {
    category[i] = decided;
    area[i] = 0;
  }
}

// A warp an instance: where no node had a vote, all pixels had; without pixels it is no segment.
__global__ void decide_by_pixels(Shape shape, Params params, const int32_t* area, const int32_t* ballots,
                                 int32_t* category, int32_t* late_class) {
  const int64_t i = thread_index() / warp, n = i / params.max_instances;
  if (n >= shape.images) {
    return;  // the whole warp
  }
  const bool has_pixels = area[i] > 0, undecided = category[i] < 0;
  const int64_t j = i % params.max_instances;
  const int32_t last = has_pixels && undecided
                           ? winner(ballots + (n * (params.max_instances + 1) + j + 1) * shape.classes, shape.classes)
                           : -1;
  if (lane_index() == 0) {
    late_class[i] = last;
    category[i] = !has_pixels ? -1 : undecided ? last : category[i];
  }
}

__global__ void write_late_pixels(Shape shape, Params params, const int32_t* late, const int32_t* late_class,
                                  const int32_t* instance, int32_t* semantic) {
  const int64_t plane = int64_t(shape.height) * shape.width, total = plane * shape.images;
  const int64_t step = int64_t(gridDim.x) * blockDim.x;
  for (int64_t i = thread_index(); *late != 0 && i < total; i += step) {
    const int32_t j = instance[i];
    const int32_t own = j > 0 ? late_class[i / plane * params.max_instances + j - 1] : -1;
    if (own >= 0) {
      semantic[i] = own;
    }
  }
}

}  // namespace

int64_t merge_scratch_bytes(const Shape& shape, const Params& params) { return lay_out(shape, params, nullptr).bytes; }

void merge(const int32_t* node_label, const int32_t* node_instance, const float* node_distance, const Point* keypoints,
           const int32_t* count, const Things* things, const Shape& shape, int keypoint_count, const Params& params,
           int32_t* semantic, int32_t* instance, int32_t* category, int32_t* area, int32_t* class_area, void* scratch,
           Stream stream) {
  const Layout at = lay_out(shape, params, scratch);
  const int64_t nodes = int64_t(shape.images) * shape.h * shape.w;
  const int64_t pixels = int64_t(shape.images) * shape.height * shape.width;
  const int64_t instances = int64_t(shape.images) * params.max_instances;
  const int64_t classes = int64_t(shape.images) * shape.classes;
  fill_with_zeros(at.ballots, at.zeros, stream);
  if (!params.majority_all) {
    launch(cast_ballots, blocks_for(nodes, block), stream, node_label, node_instance, node_distance, keypoints, things,
           shape, keypoint_count, params, at.ballots);
  }
  const int64_t threads = instances * warp > classes ? instances * warp : classes;
  launch(decide_by_nodes, blocks_for(threads, block), stream, shape, params, count, at.ballots, category, area,
         class_area);
  const Maps maps{node_label, node_instance, node_distance, semantic,   instance,
                  category,   area,          class_area,    at.ballots, at.late};
  launch(write_pixels, blocks_for(pixels, block * run), stream, maps, things, shape, params);
  launch(decide_by_pixels, blocks_for(instances, warps_of_block), stream, shape, params, area, at.ballots, category,
         at.late_class);
  const int64_t late_blocks = blocks_for(pixels, block * 16);
  launch(write_late_pixels, late_blocks < 1024 ? late_blocks : 1024, stream, shape, params, at.late, at.late_class,
         instance, semantic);
}

}  // namespace deeperlab::cuda
