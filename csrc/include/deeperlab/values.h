// SPDX-License-Identifier: Apache-2.0
// The values that travel between the stages. All but the heads are contiguous; N images, C classes, P keypoints, h × w
// nodes, H × W pixels, K = max_candidates, M = max_instances.
#pragma once

#include "deeperlab/graph.h"
#include "deeperlab/instance.h"
#include "deeperlab/view.h"

namespace deeperlab {

// How a loop runs, csrc/simd/parallel.h.
namespace cpu {
struct Parallel;
}  // namespace cpu

// The stages of cuda:: take pointers to memory of the device, and return when their kernels are in the stream's queue.
namespace cuda {
using Stream = void*;  // a cudaStream_t
}  // namespace cuda

// What a call is about: its sizes, graph, classes and parameters, problem.h.
struct Problem;

// Bounds that keep every index and every fixed-point sum within its type (vote.h, peaks.h, merge.h).
constexpr int max_classes = 1 << 15;
constexpr int max_side = 1 << 20;              // px, image height and width
constexpr int max_stride = 1 << 16;            // px
constexpr int max_grid_side = 1 << 24;         // h, w: a float32 holds every index
constexpr int64_t max_nodes = 1 << 26;         // h · w
constexpr int64_t max_pixels = 0x7fffffff;     // H · W: areas are int32
constexpr int most_candidates = 1 << 16;       // K
constexpr int most_instances = (1 << 16) - 1;  // M
constexpr int64_t max_ballots = 1 << 28;       // (M + 1) · C

struct Shape {
  int images, classes;
  int grid_h, grid_w;  // nodes
  int stride;          // px between nodes
  int height, width;   // px, the image

  DEEPERLAB_HD int64_t nodes() const { return int64_t(grid_h) * grid_w; }  // of an image
  DEEPERLAB_HD int64_t pixels() const { return int64_t(height) * width; }  // of an image
};

// Some of the classes, one bit each.
struct ClassSet {
  uint32_t words[max_classes / 32];

  DEEPERLAB_HD bool has(int label) const { return label >= 0 && (words[label >> 5] >> (label & 31) & 1u); }
};
using Things = ClassSet;

struct Heads {
  View semantic;      // logits [N, C, h, w], or integer labels [N, H, W]
  View heatmap;       // logits [N, P, h, w]
  View short_range;   // px [N, 2P, h, w]
  View middle_range;  // px [N, 2E, h, w]
  View long_range;    // px [N, 2P, h, w]
};

// A list of nodes, row by row. Row y of image n holds the columns column[(n · h + y) · w + i], i < count[n · h + y].
// What is computed for the nodes of an image, keypoint by keypoint, is packed at the front of its share of an array
// [N, P, h · w]: less memory to touch.
struct Nodes {
  int32_t* column;  // [N, h, w] ascending within a row
  int32_t* count;   // [N, h]
  int64_t* before;  // [N, h + 1] nodes in the rows before; the last is their number

  int64_t total(const Shape& shape, int64_t n) const { return before[n * (shape.grid_h + 1) + shape.grid_h]; }
  // Index of the first node of row y, for keypoint k.
  int64_t packed(const Shape& shape, int keypoints, int64_t n, int k, int y) const {
    return n * keypoints * shape.nodes() + k * total(shape, n) + before[n * (shape.grid_h + 1) + y];
  }
};

// Where nodes see the keypoints of their instance.
struct Targets {
  Nodes nodes;  // those that are looked at
  Point* at;    // [N, P, h, w] px, packed as `nodes` says
};

struct NodeMaps {
  int32_t* label;     // [N, h, w] class, −1: void
  int32_t* instance;  // [N, h, w] 1-based, 0: none
  float* distance;    // [N, h, w] px², to that instance; +inf: none
  bool rule_pixels;   // where the corners of a cell have one label its pixels have it too (argmax of logits)

  DEEPERLAB_HD NodeMaps image(const Shape& shape, int64_t n) const {
    return {label + n * shape.nodes(), instance + n * shape.nodes(), distance + n * shape.nodes(), rule_pixels};
  }
};

struct PixelMaps {
  int32_t* label;     // [N, H, W] class, −1: void
  int32_t* instance;  // [N, H, W] 1-based, 0: none

  DEEPERLAB_HD PixelMaps image(const Shape& shape, int64_t n) const {
    return {label + n * shape.pixels(), instance + n * shape.pixels()};
  }
};

// Peaks of the score maps; rows past count[n] are (−1, −1, −1) and (0, 0).
struct Seeds {
  Candidate* candidate;  // [N, K] best first
  Point* position;       // [N, K] px
  int32_t* count;        // [N]
};

// The instance that each seed would give; rows past the seeds' count are 0.
struct Hypotheses {
  Point* keypoints;       // [N, K, P] px
  float* keypoint_score;  // [N, K, P]
  float* score;           // [N, K] the mean over the keypoints
};

// Rows past count[n] are 0.
struct Instances {
  Point* keypoints;  // [N, M, P] px
  float* score;      // [N, M] best first
  int32_t* count;    // [N]
  bool* truncated;   // [N] there were more peaks than K, or more instances than M
};

struct Panoptic {
  int32_t* semantic;  // [N, H, W] final class
  int32_t* instance;  // [N, H, W] 1 .. count, 0: none
  Instances found;
  int32_t* category;    // [N, M] −1: no segment
  int32_t* area;        // [N, M] pixels
  int32_t* class_area;  // [N, C] pixels of no instance
};

}  // namespace deeperlab
