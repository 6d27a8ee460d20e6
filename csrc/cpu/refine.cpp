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

// The fast form: neighbors in a row of a plane are fetched together, as one word.

// from[offset] and the element after it, for each lane.
template <class V, class T>
void load_pairs(const T* from, int64_t step, Vector<int32_t, lanes_of<V>> offset, V& first, V& second) {
  for (int i = 0; i < lanes_of<V>; ++i) {
    first[i] = to_float(from[offset[i]]);
    second[i] = to_float(from[offset[i] + step]);
  }
}

#if defined(DEEPERLAB_AVX)
[[gnu::target("avx512f")]] inline void load_pairs(const float* from, const Vector<int32_t, 16>& offset,
                                                  Vector<float, 16>& first, Vector<float, 16>& second) {
  __m256i index[2];
  memcpy(index, &offset, sizeof index);
  const __m512i none = _mm512_setzero_si512();  // the forms without a mask begin undefined, and GCC 12 warns of it
  const __m512i low = _mm512_mask_i32gather_epi64(none, 0xff, index[0], from, 4);
  const __m512i high = _mm512_mask_i32gather_epi64(none, 0xff, index[1], from, 4);
  first = concat_even(reinterpret_cast<Vector<float, 16>>(low), reinterpret_cast<Vector<float, 16>>(high));
  second = concat_odd(reinterpret_cast<Vector<float, 16>>(low), reinterpret_cast<Vector<float, 16>>(high));
}

[[gnu::target("avx2")]] inline void load_pairs(const float* from, const Vector<int32_t, 8>& offset,
                                               Vector<float, 8>& first, Vector<float, 8>& second) {
  const auto* words = reinterpret_cast<const long long*>(from);
  const auto index = reinterpret_cast<__m256i>(offset);
  const __m256i low = _mm256_i32gather_epi64(words, _mm256_castsi256_si128(index), 4);
  const __m256i high = _mm256_i32gather_epi64(words, _mm256_extracti128_si256(index, 1), 4);
  first = concat_even(reinterpret_cast<Vector<float, 8>>(low), reinterpret_cast<Vector<float, 8>>(high));
  second = concat_odd(reinterpret_cast<Vector<float, 8>>(low), reinterpret_cast<Vector<float, 8>>(high));
}
#endif

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
    return {sample(head.plane<T>(n, 2 * k), at), sample(head.plane<T>(n, 2 * k + 1), at)};
  }

  Float sample(const Plane<T>& plane, const At& at) const {
    Float a, b, c, d;
    if constexpr (std::is_same_v<T, float> && L::count > 4) {
      if (plane.column == 1) {
        load_pairs(plane.data, at.top, a, b);
        load_pairs(plane.data, at.bottom, c, d);
        return from_pairs(a, b, c, d, at);
      }
    }
    load_pairs(plane.data, plane.column, at.top, a, b);
    load_pairs(plane.data, plane.column, at.bottom, c, d);
    return from_pairs(a, b, c, d, at);
  }

  static Float from_pairs(const Float& a, const Float& b, const Float& c, const Float& d, const At& at) {
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
