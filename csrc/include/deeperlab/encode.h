// SPDX-License-Identifier: Apache-2.0
// encode: instance maps as what a network is trained towards (section 3.3): disks around the keypoints of every
// instance, and offsets to them. All that is computed is integers, up to the last step, which is exact.
#pragma once

#include "deeperlab/scratch.h"
#include "deeperlab/values.h"

namespace deeperlab {

// Where a keypoint lies on the mask of its instance; given: nowhere, it comes from outside.
enum class Place : uint8_t { top_left, top_right, bottom_right, bottom_left, center, top, right, bottom, left, given };

constexpr bool is_extreme(Place place) { return place >= Place::top && place <= Place::left; }

constexpr int farthest_point = 1 << 24;         // px along each axis: a float32 holds it
constexpr double farthest = 1 << 26;            // px: no such point is as far from any pixel
constexpr int64_t most_ids = int64_t(1) << 28;  // M

using Pixel = PointOf<int32_t>;

// N maps of H × W pixels, and how to encode them on h × w nodes.
struct Encoding {
  View instance;        // [N, H, W] ids, 0: none
  View ignore;          // [N, H, W] of uint8; no data: nothing is ignored
  const int64_t* ids;   // [N, K] of those whose keypoints are given; 0: padding
  const Pixel* points;  // [N, K, P] px
  int64_t rows;         // K
  int64_t images;
  int height, width, grid_h, grid_w, stride;
  int room;       // M: instances of an image
  int64_t limit;  // px²: a disk holds the nodes up to this distance
  Graph graph;
  Place place[max_keypoints];

  DEEPERLAB_HD int64_t nodes() const { return int64_t(grid_h) * grid_w; }  // of an image
};

// What is wrong with an image, as its count; of several faults the first. Such an image has no targets.
enum Fault : int32_t { too_many = -3, negative_id = -2, bad_points = -1 };

struct TargetMaps {
  float *heatmap, *short_range, *middle_range, *long_range;       // [N, P | 2P | 2E | 2P, h, w]
  bool *heatmap_valid, *short_valid, *middle_valid, *long_valid;  // [N, 1 | P | E | 1, h, w]
  int64_t* ids;                                                   // [N, M] ascending, then 0
  Point* keypoints;                                               // [N, M, P] px
  int32_t* count;                                                 // [N] instances, or a Fault
};

// Of positions along one axis.
struct Sum {
  int64_t total, count;

  // The mean, rounded half up.
  DEEPERLAB_HD int32_t mean() const { return int32_t((2 * total + count) / (2 * count)); }
};

// What is known of the pixels of one instance. `top` and its like are sums over the first or the last row or column.
struct PixelSums {
  int32_t x0, y0, x1, y1;  // first and last column and row
  Sum x, y;
  Sum top, right, bottom, left;

  DEEPERLAB_HD Pixel at(Place where) const {
    switch (where) {
      case Place::top_left:
        return {x0, y0};
      case Place::top_right:
        return {x1, y0};
      case Place::bottom_right:
        return {x1, y1};
      case Place::bottom_left:
        return {x0, y1};
      case Place::center:
        return {x.mean(), y.mean()};
      case Place::top:
        return {top.mean(), y0};
      case Place::right:
        return {x1, right.mean()};
      case Place::bottom:
        return {bottom.mean(), y1};
      case Place::left:
        return {x0, left.mean()};
      default:
        return {0, 0};
    }
  }
};

// The sum of the columns first … last.
DEEPERLAB_HD inline Sum sum_of_columns(int first, int last) {
  const int64_t length = last - first + 1;
  return {(first + last) * length / 2, length};  // one of the factors is even
}

DEEPERLAB_HD inline bool is_far(Pixel at) {
  return at.x < -farthest_point || at.x > farthest_point || at.y < -farthest_point || at.y > farthest_point;
}

DEEPERLAB_HD inline int64_t squared_distance(Pixel a, Pixel b) {
  const int64_t dx = int64_t(a.x) - b.x, dy = int64_t(a.y) - b.y;
  return dx * dx + dy * dy;
}

// keypoint − node: the difference of two floats that are integers.
DEEPERLAB_HD inline Point offset(Pixel keypoint, Pixel node) {
  return {float(keypoint.x) - float(node.x), float(keypoint.y) - float(node.y)};
}

// Slots of a table of ids, at most half of them taken: a power of two.
inline int64_t slots_for(int64_t room) {
  int64_t slots = 16;
  while (slots < 2 * room) {
    slots *= 2;
  }
  return slots;
}

// Where an id is looked for first; ids in equal steps are spread too.
DEEPERLAB_HD inline int64_t first_slot(int64_t id, int64_t slots) {
  uint64_t mixed = uint64_t(id) * 0x9e3779b97f4a7c15u;
  mixed = (mixed ^ mixed >> 32) * 0xd6e8feb86659fd93u;
  return int64_t((mixed ^ mixed >> 32) & uint64_t(slots - 1));
}

namespace cpu {

int64_t encode_scratch_bytes(const Encoding& of);
void encode(const Encoding& of, const TargetMaps& out, void* scratch, const Parallel& parallel);

}  // namespace cpu

namespace cuda {

// Nothing waits for the device. Returns what is wrong with it in words, or nullptr.
int64_t encode_scratch_bytes(const Encoding& of);
const char* encode(const Encoding& of, const TargetMaps& out, void* scratch, Stream stream);

}  // namespace cuda
}  // namespace deeperlab
