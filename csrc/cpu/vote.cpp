// SPDX-License-Identifier: Apache-2.0
#include "deeperlab/vote.h"

#include <algorithm>

#include "deeperlab/scratch.h"
#include "lanes.h"
#include "nodes.h"

namespace deeperlab::cpu {
namespace {

// The plain form.

void add(const Splat& vote, const VoteGrid& grid, uint32_t* map) {
  uint32_t* cell = map + int64_t(vote.y) * grid.columns + vote.x;
  cell[0] += uint32_t(vote.share[0][0]);
  cell[1] += uint32_t(vote.share[0][1]);
  cell[grid.columns] += uint32_t(vote.share[1][0]);
  cell[grid.columns + 1] += uint32_t(vote.share[1][1]);
}

template <class T>
void vote_short(const Plane<T>& heatmap, const Plane<T>& dx, const Plane<T>& dy, int y, int x0, const Shape& shape,
                const VoteGrid& grid, uint32_t* map) {
  for (int x = x0; x < shape.w; ++x) {
    const Point node{float(int64_t(shape.stride) * x), float(int64_t(shape.stride) * y)};
    const Point target = node + Point{dx(y, x), dy(y, x)};
    if (in_image(target, shape)) {
      add(splat(target, sigmoid(heatmap(y, x)), grid), grid, map);
    }
  }
}

void vote_long(const Point* target, const uint8_t* voter, int32_t count, const Shape& shape, const VoteGrid& grid,
               uint32_t* map) {
  for (int32_t i = 0; i < count; ++i) {
    if (voter[i] && in_image(target[i], shape)) {
      add(splat(target[i], 1.0f, grid), grid, map);
    }
  }
}

// The fast form: shares are computed lane by lane, and two neighbouring cells take theirs in one addition of 64 bits.
// No sum reaches 2^32 (see `one_map`), so none is carried from a cell into the next.

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the left of two cells is the lower half of a word");

inline void add_pair(uint32_t* cell, uint64_t shares) {
  uint64_t pair;
  memcpy(&pair, cell, sizeof pair);
  pair += shares;
  memcpy(cell, &pair, sizeof pair);
}

template <class L>
struct Voter {
  using Float = typename L::Float;
  using Int = typename L::Int;

  const Shape& shape;
  const VoteGrid& grid;
  uint32_t* map;

  // As `splat` of vote.h; votes that do not count weigh nothing.
  void cast(Float x, Float y, Float weight) const {
    const float width = float(shape.width - 1), height = float(shape.height - 1), cell = float(grid.cell);
    const auto counts = less_equal(Float{}, x) & less_equal(x, width + Float{}) & less_equal(Float{}, y) &
                        less_equal(y, height + Float{});
    weight = choose(counts, weight, Float{});
    x = choose(counts, x, Float{});
    y = choose(counts, y, Float{});
    const bool power = (grid.cell & (grid.cell - 1)) == 0;  // then the product has the bits of the division
    const Float gx = power ? x * (1.0f / cell) : x / cell, gy = power ? y * (1.0f / cell) : y / cell;
    const Int column = __builtin_convertvector(gx, Int), row = __builtin_convertvector(gy, Int);
    const Float fx = gx - __builtin_convertvector(column, Float), fy = gy - __builtin_convertvector(row, Float);
    const float one = power_of_two(grid.fraction_bits);
    const Float upper = weight * (1.0f - fy), lower = weight * fy;
    const Int a = rounded_integers((upper * (1.0f - fx)) * one), b = rounded_integers((upper * fx) * one);
    const Int c = rounded_integers((lower * (1.0f - fx)) * one), d = rounded_integers((lower * fx) * one);
    int32_t at[L::count];
    uint64_t top[L::count], bottom[L::count];
    store(at, row * grid.columns + column);
    store(top, interleave_low(a, b));
    store(top + L::count / 2, interleave_high(a, b));
    store(bottom, interleave_low(c, d));
    store(bottom + L::count / 2, interleave_high(c, d));
    for (int i = 0; i < L::count; ++i) {
      add_pair(map + at[i], top[i]);
      add_pair(map + at[i] + grid.columns, bottom[i]);
    }
  }
};

template <class L, class T>
void vote_short_fast(const Plane<T>& heatmap, const Plane<T>& dx, const Plane<T>& dy, int y, const Shape& shape,
                     const VoteGrid& grid, uint32_t* map) {
  using Float = typename L::Float;
  const Voter<L> voter{shape, grid, map};
  Float along;
  for (int i = 0; i < L::count; ++i) {
    along[i] = float(i * shape.stride);
  }
  const auto row = [&](const Plane<T>& plane, int x) {
    return load_floats<Float>(plane.data + y * plane.row + x * plane.column, plane.column);
  };
  int x = 0;
  for (; x + L::count <= shape.w; x += L::count) {
    const Float px = (float(int64_t(shape.stride) * x) + along) + row(dx, x);
    const Float py = float(int64_t(shape.stride) * y) + row(dy, x);
    voter.cast(px, py, sigmoid_lanes(row(heatmap, x)));
  }
  vote_short(heatmap, dx, dy, y, x, shape, grid, map);
}

template <class L>
void vote_long_fast(const Point* target, const uint8_t* voter, int32_t count, const Shape& shape, const VoteGrid& grid,
                    uint32_t* map) {
  using Float = typename L::Float;
  int32_t i = 0;
  for (; i + L::count <= count; i += L::count) {
    const Float first = load<Float>(target + i), second = load<Float>(target + i + L::count / 2);
    const Float weight = __builtin_convertvector(load<Vector<int8_t, L::count>>(voter + i), Float);
    Voter<L>{shape, grid, map}.cast(even_lanes(first, second), odd_lanes(first, second), weight);
  }
  vote_long(target + i, voter + i, count - i, shape, grid, map);
}

// One map takes the votes of both kinds where they weigh the same: 2^30 of each at most.
bool one_map(const Params& params) { return params.short_weight == params.long_weight; }

struct Layout {
  uint32_t* maps;  // [N, P, 1 or 2, rows, columns]: short, then long votes
  uint8_t* voter;  // [N, h, w] 1 where an entry of `nodes` casts long votes
  int64_t bytes;
};

Layout lay_out(const Shape& shape, int keypoints, const Params& params, void* block) {
  Scratch scratch(block);
  const int64_t maps = int64_t(shape.images) * keypoints * (one_map(params) ? 1 : 2);
  uint32_t* map = scratch.take<uint32_t>(maps * vote_grid(shape, params).size());
  uint8_t* voter = scratch.take<uint8_t>(int64_t(shape.images) * shape.h * shape.w);
  return {map, voter, scratch.bytes()};
}

// Coordinates and their lanes stay below 2^24, exact in a float, and cells below 2^31.
bool fits_lanes(const Shape& shape, const VoteGrid& grid) {
  return int64_t(shape.w) * shape.stride < (1 << 24) && grid.size() < INT32_MAX;
}

}  // namespace

int64_t vote_scratch_bytes(const Shape& shape, int keypoints, const Params& params) {
  return lay_out(shape, keypoints, params, nullptr).bytes;
}

void vote(const View& heatmap, const View& short_range, const Point* target, const Nodes& nodes,
          const int32_t* node_label, const Things& things, const Shape& shape, int keypoints, const Params& params,
          int64_t* votes, void* scratch, const Parallel& parallel) {
  const VoteGrid grid = vote_grid(shape, params);
  const Layout layout = lay_out(shape, keypoints, params, scratch);
  const int64_t planes = int64_t(shape.images) * keypoints, rows = shape.h, w = shape.w;
  const bool fast = parallel.simd != Simd::plain && fits_lanes(shape, grid);

  parallel_rows(parallel, shape.images, shape.h, shape.w, [&](int64_t n, int y) {
    const int64_t first = (n * rows + y) * w;
    for (int32_t i = 0; i < nodes.count[n * rows + y]; ++i) {
      layout.voter[first + i] = params.all_voters || things.has(node_label[first + nodes.column[first + i]]);
    }
  });
  with_float_type(heatmap.type, [&](auto element) {
    using T = decltype(element);
    parallel_for(parallel, planes, 1, [&](int64_t plane) {
      const int64_t n = plane / keypoints, k = plane % keypoints, maps = one_map(params) ? 1 : 2;
      uint32_t* const short_map = layout.maps + plane * maps * grid.size();
      uint32_t* const long_map = short_map + (maps - 1) * grid.size();
      std::fill(short_map, short_map + maps * grid.size(), 0u);
      const Plane<T> heat = heatmap.plane<T>(n, k);
      const Plane<T> dx = short_range.plane<T>(n, 2 * k), dy = short_range.plane<T>(n, 2 * k + 1);
      const auto voted = [&](int64_t y) { return nodes.count[n * rows + y]; };
      const Point* targets = target + plane * rows * w;
      const uint8_t* voter = layout.voter + n * rows * w;
      if (!fast) {
        for (int y = 0; y < shape.h; ++y) {
          vote_short(heat, dx, dy, y, 0, shape, grid, short_map);
          vote_long(targets + y * w, voter + y * w, voted(y), shape, grid, long_map);
        }
      } else {
        with_simd(parallel.simd, [&](auto lanes) {
          for (int y = 0; y < shape.h; ++y) {
            vote_short_fast<decltype(lanes)>(heat, dx, dy, y, shape, grid, short_map);
            vote_long_fast<decltype(lanes)>(targets + y * w, voter + y * w, voted(y), shape, grid, long_map);
          }
        });
      }
      int64_t* out = votes + plane * grid.size();
      for (int64_t i = 0; i < grid.size(); ++i) {
        out[i] = one_map(params) ? int64_t(params.short_weight) * int64_t(short_map[i])
                                 : fuse_votes(int32_t(short_map[i]), int32_t(long_map[i]), params);
      }
    });
  });
}

}  // namespace deeperlab::cpu
