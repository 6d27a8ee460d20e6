// SPDX-License-Identifier: Apache-2.0
// Where things are: points, tensor views, cells, and the bilinear sample. The home of "x first" and grid-to-pixel.
#pragma once

#include <cstdint>

#include "deeperlab/types.h"

namespace deeperlab {

// Image pixels unless said otherwise; pixel centers are integers. x (horizontal) comes first everywhere, as in the
// paper's "horizontal and vertical" offsets: channel 2k of an offset head is x, channel 2k + 1 is y.
struct Point {
  float x, y;
};

DEEPERLAB_HD inline Point operator+(Point a, Point b) { return {a.x + b.x, a.y + b.y}; }
DEEPERLAB_HD inline Point operator/(Point a, float b) { return {a.x / b, a.y / b}; }

DEEPERLAB_HD inline float squared_distance(Point a, Point b) {
  const float dx = a.x - b.x;
  const float dy = a.y - b.y;
  return dx * dx + dy * dy;
}

// NaN becomes `low`: the first comparison fails. fmin and minps disagree about NaN, this does not.
DEEPERLAB_HD inline float clamp(float value, float low, float high) {
  value = value >= low ? value : low;
  return value <= high ? value : high;
}

// One channel of one image, any strides (in elements).
template <class T>
struct Plane {
  const T* data;
  int64_t row, column;

  DEEPERLAB_HD float operator()(int y, int x) const { return to_float(data[y * row + x * column]); }
};

// A tensor [N, channels, h, w] of any element type and any strides; labels [N, H, W] have channel stride 0.
struct View {
  const void* data;
  Type type;
  int64_t image, channel, row, column;  // strides in elements

  template <class T>
  DEEPERLAB_HD Plane<T> plane(int64_t n, int64_t c) const {
    return {static_cast<const T*>(data) + n * image + c * channel, row, column};
  }
};

// a at f = 0, towards b at f = 1.
DEEPERLAB_HD inline float blend(float a, float b, float f) { return a * (1.0f - f) + b * f; }

// Where a position lies between nodes: its upper left node and how far it is past it, in nodes.
struct Between {
  int y, x;
  float fy, fx;  // [0, 1)
};

// `at` is in nodes and is clamped to the h × w grid.
DEEPERLAB_HD inline Between between_nodes(Point at, int h, int w) {
  const float gx = clamp(at.x, 0.0f, float(w - 1));
  const float gy = clamp(at.y, 0.0f, float(h - 1));
  const int x = int(gx), y = int(gy);
  return {y, x, gy - float(y), gx - float(x)};
}

// Bilinear sample of read(y, x): horizontally, then vertically. A neighbor of weight zero is not read, so that one NaN
// or -inf does not spread.
template <class Read>
DEEPERLAB_HD inline float sample(const Read& read, Between at) {
  const float top = at.fx == 0.0f ? read(at.y, at.x) : blend(read(at.y, at.x), read(at.y, at.x + 1), at.fx);
  if (at.fy == 0.0f) {
    return top;
  }
  const int y = at.y + 1;
  const float bottom = at.fx == 0.0f ? read(y, at.x) : blend(read(y, at.x), read(y, at.x + 1), at.fx);
  return blend(top, bottom, at.fy);
}

// The offset (x, y) that channels 2k and 2k + 1 of a head hold at `position` (px); stride px between nodes.
template <class T>
DEEPERLAB_HD inline Point sample_offset(const View& head, int64_t n, int k, int h, int w, float stride,
                                        Point position) {
  const Between at = between_nodes(position / stride, h, w);
  return {sample(head.plane<T>(n, 2 * k), at), sample(head.plane<T>(n, 2 * k + 1), at)};
}

// A pixel seen from the grid: its upper left node and how far it lies past it (px, 0 .. stride − 1). Where a
// remainder is 0 the neighbor in that direction has no weight; at and past the last node it always is.
struct Cell {
  int y, x, past_y, past_x;
};

DEEPERLAB_HD inline Cell cell_of_pixel(int y, int x, int stride, int h, int w) {
  Cell cell{y / stride, x / stride, y % stride, x % stride};
  if (cell.y >= h - 1) {
    cell.y = h - 1;
    cell.past_y = 0;
  }
  if (cell.x >= w - 1) {
    cell.x = w - 1;
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
