// SPDX-License-Identifier: Apache-2.0
#include "deeperlab/argmax.h"

#include "deeperlab/problem.h"
#include "launch.cuh"

namespace deeperlab::cuda {
namespace {

// One node a thread.
template <class T>
__global__ void label_nodes(View logits, Shape shape, int32_t* node_label) {
  const int64_t plane = int64_t(shape.grid_h) * shape.grid_w, i = thread_index();
  if (i >= plane * shape.images) {
    return;
  }
  const int64_t n = i / plane, y = i % plane / shape.grid_w, x = i % shape.grid_w;
  const T* at = static_cast<const T*>(logits.data) + n * logits.image + y * logits.row + x * logits.column;
  Best best;
#pragma unroll 8
  for (int c = 0; c < shape.classes; ++c) {
    best.offer(to_float(at[c * logits.channel]), c);
  }
  node_label[i] = best.label;
}

// The pixels of one cell, decided by the lanes of a warp together.
template <class T>
struct MixedCell {
  const View& logits;
  const Shape& shape;
  int64_t n;
  int y, x;                   // the upper left node
  bool has_right, has_below;  // nodes

  // Where there is no neighbor, the node itself.
  __device__ CornersOf<float> corners(int candidate) const {
    const Plane<T> plane = logits.plane<T>(n, candidate);
    const int right = x + has_right, below = y + has_below;
    return {plane(y, x), plane(y, right), plane(below, x), plane(below, right)};
  }

  // A score that some class reaches at every pixel: the greatest least corner, of the classes of the corners. A class
  // whose corners all lie below it can win nowhere; NaN and -inf raise nothing.
  __device__ float reached_everywhere(const int32_t* nodes) const {
    float most = -infinity;
    for (int i = 0; i < 4; ++i) {
      const int cy = i < 2 ? y : y + has_below, cx = i % 2 == 0 ? x : x + has_right;
      const CornersOf<float> at = corners(nodes[int64_t(cy) * shape.grid_w + cx]);
      if (at.top_left == at.top_left && at.top_right == at.top_right && at.bottom_left == at.bottom_left &&
          at.bottom_right == at.bottom_right) {
        const float top = minimum(at.top_left, at.top_right), bottom = minimum(at.bottom_left, at.bottom_right);
        most = maximum(minimum(top, bottom), most);
      }
    }
    return most;
  }

  // Calls visit(class), on all lanes, for the classes that can win, ascending.
  template <class Visit>
  __device__ void visit_candidates(float bound, const Visit& visit) const {
    for (int first = 0; first < shape.classes; first += warp) {
      const int candidate = first + lane_index();
      bool can_win = false;
      if (candidate < shape.classes) {
        can_win = may_reach(corners(candidate), bound);
      }
      for (unsigned left = __ballot_sync(all_lanes, can_win); left != 0; left &= left - 1) {
        visit(first + __ffs(int(left)) - 1);
      }
    }
  }
};

// Whether a thing pixel has no corner (of non-zero weight) that is a thing; then all of them speak for it.
__device__ bool stands_alone(const int32_t* nodes, int w, Cell cell, const Things& things) {
  const int32_t* corner = nodes + int64_t(cell.y) * w + cell.x;
  return !things.has(corner[0]) && !(cell.past_x > 0 && things.has(corner[1])) &&
         !(cell.past_y > 0 && things.has(corner[w])) &&
         !(cell.past_x > 0 && cell.past_y > 0 && things.has(corner[w + 1]));
}

// 32 neighboring cells a warp. Those whose corners agree are filled, row by row; of the others, one after the other,
// each lane decides a pixel.
template <class T>
__global__ void label_pixels(View logits, Shape shape, const Things* things, const int32_t* node_label, int32_t* label,
                             uint8_t* speaks) {
  const int across = (shape.grid_w + warp - 1) / warp, s = shape.stride, lane = lane_index();
  const int64_t task = thread_index() / warp;
  if (task >= int64_t(shape.images) * shape.grid_h * across) {
    return;  // the whole warp
  }
  const int64_t n = task / across / shape.grid_h;
  const int y = int(task / across % shape.grid_h), first = int(task % across) * warp;
  const int32_t* nodes = node_label + n * shape.grid_h * shape.grid_w;
  int32_t* map = label + n * shape.height * shape.width;
  uint8_t* marks = speaks + n * shape.grid_h * shape.grid_w;

  const int node_x = first + lane < shape.grid_w ? first + lane : shape.grid_w - 1;
  const bool below = y < shape.grid_h - 1, right = node_x < shape.grid_w - 1;
  const bool alike = corners_agree(nodes, shape.grid_w, {y, node_x, below ? 1 : 0, right ? 1 : 0});
  const int32_t node_class = nodes[int64_t(y) * shape.grid_w + node_x];

  const int64_t top = int64_t(y) * s, left = int64_t(first) * s;
  const int rows = int(top + s < shape.height ? s : shape.height - top);  // may be negative: no pixels
  const int64_t columns = left + int64_t(warp) * s < shape.width ? int64_t(warp) * s : shape.width - left;
  for (int64_t i = 0; i < columns; i += warp) {
    const int64_t column = i + lane;
    const int from = int(column / s) < warp ? int(column / s) : warp - 1;
    const int32_t value = __shfl_sync(all_lanes, node_class, from);
    const bool fill = __shfl_sync(all_lanes, int(alike), from) && column < columns;
    for (int row = 0; row < rows && fill; ++row) {
      map[(top + row) * shape.width + left + column] = value;
    }
  }

  const bool inside = first + lane < shape.grid_w && int64_t(node_x) * s < shape.width && rows > 0;
  for (unsigned mixed = __ballot_sync(all_lanes, !alike && inside); mixed != 0; mixed &= mixed - 1) {
    const int x = first + __ffs(int(mixed)) - 1;
    const MixedCell<T> cell{logits, shape, n, y, x, x < shape.grid_w - 1, y < shape.grid_h - 1};
    const float bound = out_of_reach(cell.reached_everywhere(nodes));
    for (int64_t i = 0; i < int64_t(s) * s; i += warp) {
      const int64_t pixel = i + lane;
      const int64_t py = top + pixel / s, px = int64_t(x) * s + pixel % s;
      const bool real = pixel < int64_t(s) * s && py < shape.height && px < shape.width;
      const Cell at = real ? cell_of_pixel(int(py), int(px), s, shape.grid_h, shape.grid_w) : Cell{y, x, 0, 0};
      const Between between = between_corners(at, s);
      Best best;
      cell.visit_candidates(
          bound, [&](int candidate) { best.offer(sample(logits.plane<T>(n, candidate), between), candidate); });
      if (real) {
        const bool agree = corners_agree(nodes, shape.grid_w, at);  // then their label is the pixel's, by definition
        const int32_t chosen = agree ? nodes[int64_t(at.y) * shape.grid_w + at.x] : best.label;
        map[py * shape.width + px] = chosen;
        if (things->has(chosen) && stands_alone(nodes, shape.grid_w, at, *things)) {
          for (int dy = 0; dy <= (at.past_y > 0); ++dy) {
            for (int dx = 0; dx <= (at.past_x > 0); ++dx) {
              marks[int64_t(at.y + dy) * shape.grid_w + at.x + dx] = 1;
            }
          }
        }
      }
    }
  }
}

template <class I>
__global__ void copy_labels(View labels, Shape shape, int32_t* label) {
  const int64_t plane = int64_t(shape.height) * shape.width, i = thread_index();
  if (i < plane * shape.images) {
    const int64_t n = i / plane, y = i % plane / shape.width, x = i % shape.width;
    const I* from = static_cast<const I*>(labels.data) + n * labels.image + y * labels.row + x * labels.column;
    label[i] = valid_label(int64_t(*from), shape.classes);
  }
}

__global__ void take_labels_of_nodes(Shape shape, const int32_t* label, int32_t* node_label) {
  const int64_t plane = int64_t(shape.grid_h) * shape.grid_w, i = thread_index();
  if (i < plane * shape.images) {
    const int64_t n = i / plane, y = i % plane / shape.grid_w * shape.stride, x = i % shape.grid_w * shape.stride;
    const int64_t py = y < shape.height ? y : shape.height - 1, px = x < shape.width ? x : shape.width - 1;
    node_label[i] = label[(n * shape.height + py) * shape.width + px];
  }
}

}  // namespace

void argmax(const View& semantic, const Problem& problem, const NodeMaps& maps, int32_t* label, uint8_t* speaks,
            Stream stream) {
  const Shape& shape = problem.shape;
  const int64_t nodes = int64_t(shape.images) * shape.grid_h * shape.grid_w;
  const int64_t pixels = int64_t(shape.images) * shape.height * shape.width;
  if (is_floating(semantic.type)) {
    fill_with_zeros(speaks, nodes, stream);
    with_float_type(semantic.type, [&](auto element) {
      using T = decltype(element);
      const int64_t warps = int64_t(shape.images) * shape.grid_h * blocks_for(shape.grid_w, warp);
      launch(label_nodes<T>, blocks_for(nodes, block), stream, semantic, shape, maps.label);
      launch(label_pixels<T>, blocks_for(warps, warps_of_block), stream, semantic, shape, problem.things, maps.label,
             label, speaks);
    });
  } else {
    with_integer_type(semantic.type, [&](auto element) {
      launch(copy_labels<decltype(element)>, blocks_for(pixels, block), stream, semantic, shape, label);
    });
    launch(take_labels_of_nodes, blocks_for(nodes, block), stream, shape, label, maps.label);
  }
}

}  // namespace deeperlab::cuda
