// SPDX-License-Identifier: Apache-2.0
// Where things are: points, tensor views, cells, and the bilinear sample. The home of "x first" and grid-to-pixel.
#pragma once

#include <cstdint>
#include <type_traits>

#include "deeperlab/types.h"

namespace deeperlab {

// Image pixels unless said otherwise; pixel centers are integers. x (horizontal) comes first everywhere, as in the
// paper's "horizontal and vertical" offsets: channel 2k of an offset head is x, channel 2k + 1 is y.
template <class V>
struct PointOf {
  V x, y;
};
using Point = PointOf<float>;

template <class V>
DEEPERLAB_HD inline PointOf<V> operator+(const PointOf<V>& a, const PointOf<V>& b) {
  return {a.x + b.x, a.y + b.y};
}

template <class V>
DEEPERLAB_HD inline PointOf<V> divide(const PointOf<V>& a, int divisor) {
  return {divide(a.x, divisor), divide(a.y, divisor)};
}

// Between one point and one, many and many, or one and many.
template <class A, class B>
DEEPERLAB_HD inline auto squared_distance(const PointOf<A>& a, const PointOf<B>& b) {
  const auto dx = a.x - b.x;
  const auto dy = a.y - b.y;
  return dx * dx + dy * dy;
}

// One channel of one image, any strides (in elements).
template <class T>
struct Plane {
  const T* data;
  int64_t row, column;

  DEEPERLAB_HD float operator()(int y, int x) const { return to_float(data[y * row + x * column]); }
};

template <>
struct Plane<AnyFloat> {
  const void* data;
  int64_t row, column;
  Type type;

  DEEPERLAB_HD float operator()(int y, int x) const {
    const int64_t at = y * row + x * column;
    if (type == Type::float32) {
      return static_cast<const float*>(data)[at];
    }
    const uint16_t bits = static_cast<const uint16_t*>(data)[at];
    return type == Type::float16 ? to_float(Half{bits}) : to_float(BFloat16{bits});
  }
};

// A tensor [N, channels, h, w] of any element type and any strides; labels [N, H, W] have channel stride 0.
struct View {
  const void* data;
  Type type;
  int64_t image, channel, row, column;  // strides in elements

  template <class T>
  DEEPERLAB_HD Plane<T> plane(int64_t n, int64_t c) const {
    const int64_t first = n * image + c * channel;
    if constexpr (std::is_same_v<T, AnyFloat>) {
      return {static_cast<const char*>(data) + first * (type == Type::float32 ? 4 : 2), row, column, type};
    } else {
      return {static_cast<const T*>(data) + first, row, column};
    }
  }
};

// The integer at (y, x) of channel 0.
DEEPERLAB_HD inline int64_t integer_at(const View& view, int64_t n, int64_t y, int64_t x) {
  const int64_t at = n * view.image + y * view.row + x * view.column;
  switch (view.type) {
    case Type::uint8:
      return static_cast<const uint8_t*>(view.data)[at];
    case Type::int16:
      return static_cast<const int16_t*>(view.data)[at];
    case Type::int32:
      return static_cast<const int32_t*>(view.data)[at];
    default:
      return static_cast<const int64_t*>(view.data)[at];
  }
}

// a at f = 0, towards b at f = 1. At f = 0 nothing of b is left, even if it is NaN or infinite.
template <class V>
DEEPERLAB_HD inline V blend(const V& a, const V& b, const V& f) {
  return select(equal(f, V{}), a, a * (1.0f - f) + b * f);
}

// The same for one f of all lanes: a branch, not a choice of lanes.
template <class V>
DEEPERLAB_HD inline V blend_alike(const V& a, const V& b, float f) {
  return f == 0.0f ? a : a * (1.0f - f) + b * f;
}

// What the four nodes around a position say.
template <class V>
struct CornersOf {
  V top_left, top_right, bottom_left, bottom_right;
};

// Bilinear: horizontally, then vertically.
template <class V>
DEEPERLAB_HD inline V interpolate(const CornersOf<V>& at, const V& fx, const V& fy) {
  const V top = blend(at.top_left, at.top_right, fx), bottom = blend(at.bottom_left, at.bottom_right, fx);
  return blend(top, bottom, fy);
}

// Where a position lies between nodes: its upper left node and how far it is past it, in nodes.
template <class V>
struct BetweenOf {
  IntOf<V> y, x;
  V fy, fx;  // [0, 1)
};
using Between = BetweenOf<float>;

// `at` is in nodes and is clamped to the grid.
template <class V>
DEEPERLAB_HD inline BetweenOf<V> between_nodes(const PointOf<V>& at, int grid_h, int grid_w) {
  const V gx = clamp(at.x, 0.0f, float(grid_w - 1)), gy = clamp(at.y, 0.0f, float(grid_h - 1));
  const IntOf<V> x = to_int(gx), y = to_int(gy);
  return {y, x, gy - to_real(y), gx - to_real(x)};
}

// Bilinear sample of read(y, x). A neighbor of weight zero, which may not exist, is not read.
template <class Read>
DEEPERLAB_HD inline float sample(const Read& read, Between at) {
  const int right = at.x + (at.fx != 0.0f), below = at.y + (at.fy != 0.0f);
  return interpolate<float>({read(at.y, at.x), read(at.y, right), read(below, at.x), read(below, right)}, at.fx, at.fy);
}

// The offset (x, y) that channels 2k and 2k + 1 of a head hold at `position` (px); stride px between nodes.
template <class T>
DEEPERLAB_HD inline Point sample_offset(const View& head, int64_t n, int k, int grid_h, int grid_w, int stride,
                                        Point position) {
  const Between at = between_nodes(divide(position, stride), grid_h, grid_w);
  return {sample(head.plane<T>(n, 2 * k), at), sample(head.plane<T>(n, 2 * k + 1), at)};
}

// A pixel seen from the grid: its upper left node and how far it lies past it (px, 0 .. stride − 1). Where a
// remainder is 0 the neighbor in that direction has no weight; at and past the last node it always is.
struct Cell {
  int y, x, past_y, past_x;
};

DEEPERLAB_HD inline Cell cell_of_pixel(int y, int x, int stride, int grid_h, int grid_w) {
  Cell cell{y / stride, x / stride, y % stride, x % stride};
  if (cell.y >= grid_h - 1) {
    cell.y = grid_h - 1;
    cell.past_y = 0;
  }
  if (cell.x >= grid_w - 1) {
    cell.x = grid_w - 1;
    cell.past_x = 0;
  }
  return cell;
}

// Whether the corners around a pixel, those of non-zero weight, all carry one value of a map [h, w].
DEEPERLAB_HD inline bool corners_agree(const int32_t* map, int w, Cell cell) {
  const int32_t* corner = map + int64_t(cell.y) * w + cell.x;
  const int32_t value = *corner;
  return (cell.past_x == 0 || corner[1] == value) && (cell.past_y == 0 || corner[w] == value) &&
         (cell.past_x == 0 || cell.past_y == 0 || corner[w + 1] == value);
}

}  // namespace deeperlab
