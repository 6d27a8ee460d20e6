// SPDX-License-Identifier: Apache-2.0
#include "deeperlab/vote.h"

#include "deeperlab/problem.h"
#include "table.cuh"

namespace deeperlab::cuda {
namespace {

constexpr int tile = 32;  // nodes, both ways: neighbors vote for the same cells
using Cells = Table<12>;  // those that a tile votes for, mostly fewer than 3 · 32 · 32

struct Votes {
  unsigned long long* cells;  // of one map
  Cells& table;
  const VoteGrid& grid;

  __device__ void add_direct(uint32_t cell, uint32_t share, int weight) const {
    atomicAdd(cells + cell, static_cast<unsigned long long>(share) * unsigned(weight));
  }

  __device__ void cast(const Splat& vote, int weight) const {
    for (int dy = 0; dy < 2; ++dy) {
      for (int dx = 0; dx < 2; ++dx) {
        const int64_t cell = int64_t(vote.y + dy) * grid.columns + vote.x + dx;
        table.add(uint32_t(cell), uint32_t(vote.share[dy][dx]),
                  [&](uint32_t key, uint32_t share) { add_direct(key, share, weight); });
      }
    }
  }

  // Everything since the last time; by all threads, between barriers.
  __device__ void hand_over(int weight) const {
    __syncthreads();
    table.flush([&](uint32_t key, uint32_t share) { add_direct(key, share, weight); });
    __syncthreads();
  }
};

// Calls visit(y, x) for this thread's nodes of the tile whose first is (top, left).
template <class Visit>
__device__ void visit_tile(int top, int left, const Shape& shape, const Visit& visit) {
  for (int i = int(threadIdx.x); i < tile * tile; i += block) {
    const int y = top + i / tile, x = left + i % tile;
    if (y < shape.grid_h && x < shape.grid_w) {
      visit(y, x);
    }
  }
}

// A tile of nodes a block, for one keypoint.
template <class T>
__global__ void vote_tile(Heads heads, Problem problem, const Point* target, const int32_t* node_label,
                          unsigned long long* votes) {
  __shared__ Cells table;
  const Shape& shape = problem.shape;
  const VoteParams& params = problem.params;
  const VoteGrid grid = vote_grid(shape, params);
  const int across = (shape.grid_w + tile - 1) / tile, down = (shape.grid_h + tile - 1) / tile;
  const int64_t plane = int64_t(blockIdx.x) / (across * down), n = plane / problem.keypoints();
  const int index = int(int64_t(blockIdx.x) % (across * down)), k = int(plane % problem.keypoints());
  const int top = index / across * tile, left = index % across * tile;
  const Plane<T> heat = heads.heatmap.plane<T>(n, k);
  const Plane<T> dx = heads.short_range.plane<T>(n, 2 * k), dy = heads.short_range.plane<T>(n, 2 * k + 1);
  const int32_t* label = node_label + n * shape.nodes();
  const Point* targets = target + plane * shape.nodes();
  const Votes tile_votes{votes + plane * grid.size(), table, grid};

  table.clear();
  __syncthreads();
  visit_tile(top, left, shape, [&](int y, int x) {
    const Point node{float(int64_t(shape.stride) * x), float(int64_t(shape.stride) * y)};
    const Point at = node + Point{dx(y, x), dy(y, x)};
    if (in_image(at, shape)) {
      tile_votes.cast(splat(at, sigmoid(heat(y, x)), grid), params.short_weight);
    }
  });
  if (params.short_weight != params.long_weight) {
    tile_votes.hand_over(params.short_weight);
    table.clear();
    __syncthreads();
  }
  visit_tile(top, left, shape, [&](int y, int x) {
    const int64_t node = int64_t(y) * shape.grid_w + x;
    if (casts_long_votes(label[node], *problem.things, params) && in_image(targets[node], shape)) {
      tile_votes.cast(splat(targets[node], 1.0f, grid), params.long_weight);
    }
  });
  tile_votes.hand_over(params.long_weight);
}

}  // namespace

void vote(const Heads& heads, const Problem& problem, const Point* target, const int32_t* node_label, int64_t* votes,
          Stream stream) {
  const Shape& shape = problem.shape;
  const int64_t tiles = blocks_for(shape.grid_w, tile) * blocks_for(shape.grid_h, tile);
  const int64_t planes = int64_t(shape.images) * problem.keypoints();
  fill_with_zeros(votes, planes * vote_grid(shape, problem.params).size(), stream);
  with_float_type(heads.heatmap.type, [&](auto element) {
    launch(vote_tile<decltype(element)>, planes * tiles, stream, heads, problem, target, node_label,
           reinterpret_cast<unsigned long long*>(votes));
  });
}

}  // namespace deeperlab::cuda
