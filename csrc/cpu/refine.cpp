// SPDX-License-Identifier: Apache-2.0
#include "deeperlab/refine.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>

#include "deeperlab/problem.h"
#include "simd/dispatch.h"
#include "simd/number.h"

namespace deeperlab::cpu {
namespace {

// The nodes of a row that are looked at, for one keypoint.
struct Row {
  int64_t n;
  int k, y;
  const int32_t* column;
  int32_t count;
  Point* target;  // [count] px
};

// The plain form.
template <class T>
void refine_row(const Heads& heads, const Problem& problem, const Row& row) {
  for (int32_t i = 0; i < row.count; ++i) {
    row.target[i] = refine_node<T>(heads, row.n, row.k, row.y, row.column[i], problem.shape, problem.params);
  }
}

// The fast form: neighbors in a row of a plane, or x and y of a node where channels are last, are fetched together.

// A plane of at least 2 × 2 nodes, sampled at many positions.
template <class L, class T>
struct Sampler {
  using Float = typename L::Float;
  using Int = typename L::Int;

  int h, w, stride;

  struct At {
    Int top, bottom;  // offsets of the left nodes
    Float fx, fy;
    Int shifted;  // the last column: there the pair begins one node to the left
  };

  At locate(const PointOf<Float>& position, int32_t row, int32_t column) const {
    const BetweenOf<Float> at = between_nodes(divide(position, stride), h, w);
    const Int left = minimum(broadcast<Int>(w - 2), at.x);
    const Int below = select(less(broadcast<Int>(h - 2), at.y), at.y, at.y + 1);
    return {at.y * row + left * column, below * row + left * column, at.fx, at.fy, at.x - left};
  }

  // As sample_offset of view.h.
  PointOf<Float> offset(const View& head, int64_t n, int k, const PointOf<Float>& position) const {
    const At at = locate(position, int32_t(head.row), int32_t(head.column));
    const Plane<T> x = head.plane<T>(n, 2 * k), y = head.plane<T>(n, 2 * k + 1);
    if (head.channel != 1) {
      return {sample(x, at), sample(y, at)};
    }
    const Int right = broadcast<Int>(int32_t(head.column));
    const auto a = load_pairs<Float>(x.data, at.top), b = load_pairs<Float>(x.data, at.top + right);
    const auto c = load_pairs<Float>(x.data, at.bottom), d = load_pairs<Float>(x.data, at.bottom + right);
    return {blend_corners(a.first, b.first, c.first, d.first, at),
            blend_corners(a.second, b.second, c.second, d.second, at)};
  }

  Float sample(const Plane<T>& plane, const At& at) const {
    if (plane.column == 1) {
      const auto top = load_pairs<Float>(plane.data, at.top), bottom = load_pairs<Float>(plane.data, at.bottom);
      return blend_corners(top.first, top.second, bottom.first, bottom.second, at);
    }
    Float a{}, b{}, c{}, d{};
    for (int i = 0; i < L::count; ++i) {
      const T *const top = plane.data + at.top[i], *const bottom = plane.data + at.bottom[i];
      a[i] = to_float(top[0]);
      b[i] = to_float(top[plane.column]);
      c[i] = to_float(bottom[0]);
      d[i] = to_float(bottom[plane.column]);
    }
    return blend_corners(a, b, c, d, at);
  }

  static Float blend_corners(const Float& a, const Float& b, const Float& c, const Float& d, const At& at) {
    const auto inside = equal(at.shifted, Int{});
    return interpolate<Float>({select(inside, a, b), b, select(inside, c, d), d}, at.fx, at.fy);
  }
};

template <class L, class T>
void refine_row_fast(const Heads& heads, const Problem& problem, const Row& row) {
  const View &long_range = heads.long_range, &short_range = heads.short_range;
  const Shape& shape = problem.shape;
  const RefineParams& params = problem.params;
  const int64_t n = row.n;  // by name: in C++17 a lambda cannot capture a structured binding
  const int k = row.k, y = row.y;
  using Float = typename L::Float;
  using Int = typename L::Int;
  const Sampler<L, T> sampler{shape.grid_h, shape.grid_w, shape.stride};
  const auto offset_of = [&](const View& head) {
    return [&sampler, &head, n, k](const PointOf<Float>& at) { return sampler.offset(head, n, k, at); };
  };
  const Plane<T> dx = long_range.plane<T>(n, 2 * k), dy = long_range.plane<T>(n, 2 * k + 1);
  const auto refine = [&](const int32_t* columns, Point* to) {
    const Int nodes = load<Int>(columns);
    Float px, py;
    if (dx.column == 1 && dy.column == 1 && columns[L::count - 1] - columns[0] == L::count - 1) {  // side by side
      px = load_floats<Float, true>(dx.data + y * dx.row + columns[0], 1);
      py = load_floats<Float, true>(dy.data + y * dy.row + columns[0], 1);
    } else if (long_range.channel == 1) {
      const auto offset = load_pairs<Float>(dx.data + y * dx.row, nodes * int32_t(dx.column));
      px = offset.first;
      py = offset.second;
    } else {
      for (int i = 0; i < L::count; ++i) {
        px[i] = dx(y, columns[i]);
        py[i] = dy(y, columns[i]);
      }
    }
    PointOf<Float> at{to_real(nodes * shape.stride) + px, float(y * int64_t(shape.stride)) + py};
    at = follow(params.long_steps, at, offset_of(long_range));
    at = follow(params.long_short_steps, at, offset_of(short_range));
    store(to, interleave_low(at.x, at.y));
    store(to + L::count / 2, interleave_high(at.x, at.y));
  };
  int32_t i = 0;
  for (; i + L::count <= row.count; i += L::count) {
    refine(row.column + i, row.target + i);
  }
  if (i < row.count) {
    int32_t columns[L::count] = {};  // the rest of the lanes refine the first node, for nobody
    Point targets[L::count];
    std::copy(row.column + i, row.column + row.count, columns);
    refine(columns, targets);
    std::copy(targets, targets + (row.count - i), row.target + i);
  }
}

// Offsets within a plane, and pixels, must fit into 32 bits, and pairs of nodes must exist.
bool has_fast_refine(const View& head, const Shape& shape) {
  const int64_t reach = std::abs(head.row) * (shape.grid_h - 1) + std::abs(head.column) * (shape.grid_w - 1);
  return shape.grid_h >= 2 && shape.grid_w >= 2 && reach < INT32_MAX &&
         int64_t(shape.grid_w) * shape.stride < INT32_MAX;
}

}  // namespace

bool refine(const Heads& heads, const Problem& problem, const Targets& targets, const Parallel& parallel) {
  const View &long_range = heads.long_range, &short_range = heads.short_range;
  const Shape& shape = problem.shape;
  const Nodes& nodes = targets.nodes;
  const int keypoints = problem.keypoints();
  const bool fast =
      parallel.simd != Simd::plain && has_fast_refine(long_range, shape) && has_fast_refine(short_range, shape);
  std::atomic<bool> all_near{true};
  with_float_type(long_range.type, [&](auto element) {
    using T = decltype(element);
    parallel_rows(parallel, int64_t(shape.images) * keypoints, shape.grid_h, shape.grid_w, [&](int64_t plane, int y) {
      const int64_t n = plane / keypoints, row = n * shape.grid_h + y;
      const int k = int(plane % keypoints), count = nodes.count[row];
      const int32_t* column = nodes.column + row * shape.grid_w;
      Point* to = targets.at + nodes.packed(shape, keypoints, n, k, y);
      if (fast) {
        with_simd(parallel.simd, [&](auto lanes) {
          refine_row_fast<decltype(lanes), T>(heads, problem, {n, k, y, column, count, to});
        });
      } else {
        refine_row<T>(heads, problem, {n, k, y, column, count, to});
      }
      bool near = true;
      for (int32_t i = 0; i < count; ++i) {
        near = near & is_near(to[i]);
      }
      if (!near) {
        all_near.store(false, std::memory_order_relaxed);
      }
    });
  });
  return all_near;
}

}  // namespace deeperlab::cpu
