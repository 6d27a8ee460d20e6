// SPDX-License-Identifier: Apache-2.0
// merge, and the last part of assign, for pixels: one pass over the images writes both maps.
#include "deeperlab/merge.h"

#include "deeperlab/problem.h"
#include "deeperlab/scratch.h"
#include "table.cuh"

namespace deeperlab::cuda {
namespace {

// All zero at first.
struct Ballots {
  int32_t* votes;  // [N, M + 1, C] for the class of an instance
  int32_t* late;   // 1: some instance has pixels but no vote of a node
};

struct Layout {
  Ballots ballots;
  int32_t* late_class;  // [N, M] of an instance that only pixels vote for, −1 for the others
  int64_t zeros;        // numbers of `ballots`
  int64_t bytes;
};

Layout lay_out(const Problem& problem, void* block) {
  Scratch scratch(block);
  const int64_t images = problem.shape.images, places = problem.params.max_instances;
  const int64_t votes = images * (places + 1) * problem.shape.classes;
  Layout at{};
  at.zeros = votes + 1;
  at.ballots.votes = scratch.take<int32_t>(at.zeros);
  at.ballots.late = at.ballots.votes + votes;
  at.late_class = scratch.take<int32_t>(images * places);
  at.bytes = scratch.bytes();
  return at;
}

constexpr int run = 8;  // neighboring pixels of a thread, which mostly count for the same
using Counters = Table<10>;

struct alignas(16) Four {
  int32_t value[4];
};

// The instance of a pixel with a thing's label.
__device__ int32_t instance_of(const NodeMaps& nodes, const Problem& problem, int y, int x, int32_t label) {
  const Shape& shape = problem.shape;
  const Cell cell = cell_of_pixel(y, x, shape.stride, shape.grid_h, shape.grid_w);
  if (corners_agree(nodes.instance, shape.grid_w, cell)) {
    return nodes.instance[int64_t(cell.y) * shape.grid_w + cell.x];
  }
  return assign_pixel(nodes, *problem.things, label, cell, shape.stride, shape.grid_w);
}

// A run of neighbors a thread, rows and images one after the other: their instances, classes and areas.
__global__ void write_pixels(Problem problem, NodeMaps nodes, Panoptic out, Ballots ballots) {
  __shared__ Counters table;
  const Shape& shape = problem.shape;
  const int64_t plane = shape.pixels(), total = plane * shape.images;
  const int64_t first = thread_index() * run, places = problem.params.max_instances;
  const int64_t first_image = int64_t(blockIdx.x) * block * run / plane;
  table.clear();
  __syncthreads();

  // Counters of an image: the areas of the instances, then those of the classes.
  const auto add = [&](int64_t n, uint32_t key, uint32_t pixels) {
    atomicAdd(key < places ? out.area + n * places + key : out.class_area + n * shape.classes + (key - places),
              int32_t(pixels));
  };
  const auto add_to_first = [&](uint32_t key, uint32_t pixels) { add(first_image, key, pixels); };
  const int length = int(total - first < run ? total - first : run);
  if (length > 0) {
    alignas(16) int32_t semantic[run], instance[run];
    if (length == run) {
      for (int i = 0; i < run; i += 4) {
        *reinterpret_cast<Four*>(semantic + i) = *reinterpret_cast<const Four*>(out.semantic + first + i);
      }
    } else {
      for (int i = 0; i < length; ++i) {
        semantic[i] = out.semantic[first + i];
      }
    }
    int64_t n = first / plane;
    int y = int(first % plane / shape.width), x = int(first % plane % shape.width);
    uint32_t key = 0, pixels = 0;  // of the neighbors counted together
    const auto count = [&] {
      if (n == first_image) {
        table.add(key, pixels, add_to_first);
      } else if (pixels > 0) {
        add(n, key, pixels);
      }
      pixels = 0;
    };
    for (int i = 0; i < run; ++i) {
      if (i >= length) {
        break;
      }
      const int32_t label = semantic[i];
      const int32_t j = problem.things->has(label) ? instance_of(nodes.image(shape, n), problem, y, x, label) : 0;
      instance[i] = j;
      if (j > 0 || label >= 0) {
        const uint32_t next = j > 0 ? uint32_t(j - 1) : uint32_t(places + label);
        if (next != key) {
          count();
        }
        key = next;
        ++pixels;
      }
      if (j > 0) {
        const int32_t decided = out.category[n * places + j - 1];
        semantic[i] = decided >= 0 ? decided : label;
        if (decided < 0) {
          *ballots.late = 1;
          atomicAdd(ballots.votes + (n * (places + 1) + j) * shape.classes + label, 1);
        }
      }
      if (++x == shape.width) {
        x = 0;
        if (++y == shape.height) {
          count();
          y = 0;
          ++n;
        }
      }
    }
    if (pixels > 0) {  // n may be past the last image where nothing is left to count
      count();
    }
    if (length == run) {
      for (int i = 0; i < run; i += 4) {
        *reinterpret_cast<Four*>(out.semantic + first + i) = *reinterpret_cast<const Four*>(semantic + i);
        *reinterpret_cast<Four*>(out.instance + first + i) = *reinterpret_cast<const Four*>(instance + i);
      }
    } else {
      for (int i = 0; i < length; ++i) {
        out.semantic[first + i] = semantic[i];
        out.instance[first + i] = instance[i];
      }
    }
  }
  __syncthreads();
  table.flush(add_to_first);
}

// A thread a node: the votes of fitting thing nodes for the classes of their instances.
__global__ void cast_ballots(NodeMaps nodes, Problem problem, Instances found, int32_t* ballots) {
  __shared__ Counters table;
  const Shape& shape = problem.shape;
  const Params& params = problem.params;
  const int keypoint_count = problem.keypoints();
  const int64_t i = thread_index();
  const int64_t first_image = int64_t(blockIdx.x) * block / shape.nodes();  // votes of the next one are added directly
  const int64_t room = int64_t(params.max_instances + 1) * shape.classes;
  table.clear();
  __syncthreads();
  if (i < shape.nodes() * shape.images) {
    const int64_t n = i / shape.nodes();
    const int32_t j = nodes.instance[i], label = nodes.label[i];
    if (j > 0 && problem.things->has(label)) {
      const Point* keypoints = found.keypoints + (n * params.max_instances + j - 1) * keypoint_count;
      const float area = box_of(keypoints, keypoint_count).area();
      if (fits(nodes.distance[i], area, keypoint_count, params.radius, params)) {
        const auto add = [&](uint32_t key, uint32_t votes) { atomicAdd(ballots + n * room + key, int32_t(votes)); };
        const uint32_t key = uint32_t(j) * uint32_t(shape.classes) + uint32_t(label);
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
    const int64_t key = int64_t(votes[c]) * max_classes + (max_classes - 1 - c);
    best = votes[c] > 0 && key > best ? key : best;
  }
  best = reduce_warp(static_cast<long long>(best), [](long long a, long long b) { return a > b ? a : b; });
  return best == 0 ? -1 : int32_t(max_classes - 1 - best % max_classes);
}

// A warp an instance: its class by the nodes, −1 where none has a vote. Areas begin at 0.
__global__ void decide_by_nodes(Problem problem, Panoptic out, const int32_t* ballots) {
  const int64_t classes = problem.shape.classes, places = problem.params.max_instances;
  const int64_t thread = thread_index(), i = thread / warp, n = i / places, j = i % places;
  if (thread < problem.shape.images * classes) {
    out.class_area[thread] = 0;
  }
  if (n >= problem.shape.images) {
    return;  // the whole warp
  }
  const int32_t* votes = ballots + (n * (places + 1) + j + 1) * classes;
  const int32_t decided = j < out.found.count[n] ? winner(votes, int(classes)) : -1;
  if (lane_index() == 0) {
    out.category[i] = decided;
    out.area[i] = 0;
  }
}

// A warp an instance: where no node had a vote, all pixels had; without pixels it is no segment.
__global__ void decide_by_pixels(Problem problem, Panoptic out, const int32_t* ballots, int32_t* late_class) {
  const int64_t classes = problem.shape.classes, places = problem.params.max_instances;
  const int64_t i = thread_index() / warp, n = i / places, j = i % places;
  if (n >= problem.shape.images) {
    return;  // the whole warp
  }
  const bool has_pixels = out.area[i] > 0, undecided = out.category[i] < 0;
  const int32_t* votes = ballots + (n * (places + 1) + j + 1) * classes;
  const int32_t last = has_pixels && undecided ? winner(votes, int(classes)) : -1;
  if (lane_index() == 0) {
    late_class[i] = last;
    out.category[i] = !has_pixels ? -1 : undecided ? last : out.category[i];
  }
}

__global__ void write_late_pixels(Problem problem, Panoptic out, const int32_t* late, const int32_t* late_class) {
  const int64_t plane = problem.shape.pixels(), total = plane * problem.shape.images;
  const int64_t step = int64_t(gridDim.x) * blockDim.x;
  for (int64_t i = thread_index(); *late != 0 && i < total; i += step) {
    const int32_t j = out.instance[i];
    const int32_t label = j > 0 ? late_class[i / plane * problem.params.max_instances + j - 1] : -1;
    if (label >= 0) {
      out.semantic[i] = label;
    }
  }
}

}  // namespace

int64_t merge_scratch_bytes(const Problem& problem) { return lay_out(problem, nullptr).bytes; }

void merge(const NodeMaps& maps, const Problem& problem, const Panoptic& out, void* scratch, Stream stream) {
  const Shape& shape = problem.shape;
  const Layout at = lay_out(problem, scratch);
  const int64_t nodes = shape.images * shape.nodes(), pixels = shape.images * shape.pixels();
  const int64_t instances = int64_t(shape.images) * problem.params.max_instances;
  const int64_t classes = int64_t(shape.images) * shape.classes;
  fill_with_zeros(at.ballots.votes, at.zeros, stream);
  if (!problem.params.majority_all) {
    launch(cast_ballots, blocks_for(nodes, block), stream, maps, problem, out.found, at.ballots.votes);
  }
  const int64_t threads = instances * warp > classes ? instances * warp : classes;
  launch(decide_by_nodes, blocks_for(threads, block), stream, problem, out, at.ballots.votes);
  launch(write_pixels, blocks_for(pixels, block * run), stream, problem, maps, out, at.ballots);
  launch(decide_by_pixels, blocks_for(instances, warps_of_block), stream, problem, out, at.ballots.votes,
         at.late_class);
  const int64_t late_blocks = blocks_for(pixels, block * 16);
  launch(write_late_pixels, late_blocks < 1024 ? late_blocks : 1024, stream, problem, out, at.ballots.late,
         at.late_class);
}

}  // namespace deeperlab::cuda
