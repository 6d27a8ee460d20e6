// SPDX-License-Identifier: Apache-2.0
#include "deeperlab/vote.h"

#include <algorithm>

#include "deeperlab/scratch.h"
#include "parallel.h"

namespace deeperlab::cpu {
namespace {

void add(const Splat& vote, const VoteGrid& grid, int32_t* map) {
  int32_t* cell = map + int64_t(vote.y) * grid.columns + vote.x;
  cell[0] += vote.share[0][0];
  cell[1] += vote.share[0][1];
  cell[grid.columns] += vote.share[1][0];
  cell[grid.columns + 1] += vote.share[1][1];
}

template <class T>
void vote_short(const Plane<T>& heatmap, const Plane<T>& dx, const Plane<T>& dy, const Shape& shape,
                const VoteGrid& grid, int32_t* map) {
  for (int y = 0; y < shape.h; ++y) {
    for (int x = 0; x < shape.w; ++x) {
      const Point node{float(int64_t(shape.stride) * x), float(int64_t(shape.stride) * y)};
      const Point target = node + Point{dx(y, x), dy(y, x)};
      if (in_image(target, shape)) {
        add(splat(target, sigmoid(heatmap(y, x)), grid), grid, map);
      }
    }
  }
}

void vote_long(const Point* target, const int32_t* node_label, const Things& things, const Shape& shape,
               const VoteGrid& grid, bool all_voters, int32_t* map) {
  const int64_t nodes = int64_t(shape.h) * shape.w;
  for (int64_t node = 0; node < nodes; ++node) {
    if ((all_voters || things.has(node_label[node])) && in_image(target[node], shape)) {
      add(splat(target[node], 1.0f, grid), grid, map);
    }
  }
}

struct Layout {
  int32_t* maps;  // [2, N, P, rows, columns]: short, then long votes
  int64_t bytes;
};

Layout lay_out(const Shape& shape, int keypoints, const VoteGrid& grid, void* block) {
  Scratch scratch(block);
  int32_t* maps = scratch.take<int32_t>(2 * int64_t(shape.images) * keypoints * grid.size());
  return {maps, scratch.bytes()};
}

}  // namespace

int64_t vote_scratch_bytes(const Shape& shape, int keypoints, const Params& params) {
  return lay_out(shape, keypoints, vote_grid(shape, params), nullptr).bytes;
}

void vote(const View& heatmap, const View& short_range, const Point* target, const int32_t* node_label,
          const Things& things, const Shape& shape, int keypoints, const Params& params, int64_t* votes, void* scratch,
          const Parallel& parallel) {
  const VoteGrid grid = vote_grid(shape, params);
  int32_t* maps = lay_out(shape, keypoints, grid, scratch).maps;
  const int64_t nodes = int64_t(shape.h) * shape.w;
  const int64_t planes = int64_t(shape.images) * keypoints;
  with_float_type(heatmap.type, [&](auto element) {
    using T = decltype(element);
    parallel_for(parallel, 2 * planes, 1, [&](int64_t task) {
      int32_t* map = maps + task * grid.size();
      std::fill(map, map + grid.size(), 0);
      const int64_t plane = task % planes, n = plane / keypoints, k = plane % keypoints;
      if (task < planes) {
        vote_short(heatmap.plane<T>(n, k), short_range.plane<T>(n, 2 * k), short_range.plane<T>(n, 2 * k + 1), shape,
                   grid, map);
      } else {
        vote_long(target + plane * nodes, node_label + n * nodes, things, shape, grid, params.all_voters, map);
      }
    });
  });
  parallel_for(parallel, planes, 1, [&](int64_t plane) {
    const int32_t* short_votes = maps + plane * grid.size();
    const int32_t* long_votes = short_votes + planes * grid.size();
    for (int64_t i = 0; i < grid.size(); ++i) {
      votes[plane * grid.size() + i] = fuse_votes(short_votes[i], long_votes[i], params);
    }
  });
}

}  // namespace deeperlab::cpu
