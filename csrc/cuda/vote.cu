// SPDX-License-Identifier: Apache-2.0
// refine and vote in one: a target is refined, kept for assign, and voted for.
#include "deeperlab/vote.h"

#include "deeperlab/refine.h"
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
    if (y < shape.h && x < shape.w) {
      visit(y, x);
    }
  }
}

template <class T>
__global__ void refine_and_vote(View heatmap, View short_range, View long_range, Shape shape, int keypoints,
                                Params params, const Things* things, const int32_t* node_label, Point* target,
                                int32_t* far, unsigned long long* votes) {
  __shared__ Cells table;
  const VoteGrid grid = vote_grid(shape, params);
  const int across = (shape.w + tile - 1) / tile, down = (shape.h + tile - 1) / tile;
  const int64_t plane = int64_t(blockIdx.x) / (across * down), n = plane / keypoints;
  const int index = int(int64_t(blockIdx.x) % (across * down)), k = int(plane % keypoints);
  const int top = index / across * tile, left = index % across * tile;
  const Plane<T> heat = heatmap.plane<T>(n, k);
  const Plane<T> dx = short_range.plane<T>(n, 2 * k), dy = short_range.plane<T>(n, 2 * k + 1);
  const int32_t* label = node_label + n * shape.h * shape.w;
  Point* own_target = target + plane * shape.h * shape.w;
  const Votes own{votes + plane * grid.size(), table, grid};

  table.clear();
  __syncthreads();
  visit_tile(top, left, shape, [&](int y, int x) {
    const Point node{float(int64_t(shape.stride) * x), float(int64_t(shape.stride) * y)};
    const Point at = node + Point{dx(y, x), dy(y, x)};
    if (in_image(at, shape)) {
      own.cast(splat(at, sigmoid(heat(y, x)), grid), params.short_weight);
    }
  });
  if (params.short_weight != params.long_weight) {
    own.hand_over(params.short_weight);
    table.clear();
    __syncthreads();
  }
  visit_tile(top, left, shape, [&](int y, int x) {
    const int64_t node = int64_t(y) * shape.w + x;
    if (params.all_voters || things->has(label[node])) {
      const Point at = refine_node<T>(long_range, short_range, n, k, y, x, shape, params);
      own_target[node] = at;
      if (!is_near(at)) {
        *far = 1;
      }
      if (in_image(at, shape)) {
        own.cast(splat(at, 1.0f, grid), params.long_weight);
      }
    }
  });
  own.hand_over(params.long_weight);
}

}  // namespace

void vote(const View& heatmap, const View& short_range, const View& long_range, const Shape& shape, int keypoints,
          const Params& params, const Things* things, const int32_t* node_label, Point* target, int32_t* far,
          int64_t* votes, Stream stream) {
  const int64_t tiles = blocks_for(shape.w, tile) * blocks_for(shape.h, tile);
  const int64_t planes = int64_t(shape.images) * keypoints;
  fill_with_zeros(votes, planes * vote_grid(shape, params).size(), stream);
  fill_with_zeros(far, 1, stream);
  with_float_type(heatmap.type, [&](auto element) {
    launch(refine_and_vote<decltype(element)>, planes * tiles, stream, heatmap, short_range, long_range, shape,
           keypoints, params, things, node_label, target, far, reinterpret_cast<unsigned long long*>(votes));
  });
}

}  // namespace deeperlab::cuda
