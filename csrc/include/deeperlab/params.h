// SPDX-License-Identifier: Apache-2.0
// What a call is about: sizes and parameters, as plain fields. Defaults live in python/deeperlab/params.py only.
#pragma once

#include "deeperlab/graph.h"

namespace deeperlab {

namespace cpu {
struct Parallel;  // csrc/simd/parallel.h
enum class Simd : uint8_t;
struct Nodes;  // csrc/cpu/nodes.h
}  // namespace cpu

// The stages of cuda:: take pointers to memory of the device, and return when their kernels are in the stream's queue.
namespace cuda {
using Stream = void*;  // a cudaStream_t
}  // namespace cuda

// Bounds that keep every index and every fixed-point sum within its type (vote.h, peaks.h, merge.h).
constexpr int max_classes = 1 << 15;
constexpr int max_side = 1 << 20;           // px, image height and width
constexpr int max_stride = 1 << 16;         // px
constexpr int64_t max_nodes = 1 << 24;      // h · w
constexpr int64_t max_pixels = 0x7fffffff;  // H · W: areas are int32
constexpr int64_t max_ballots = 1 << 28;    // (M + 1) · C

struct Shape {
  int images, classes;
  int h, w;           // nodes
  int stride;         // px between nodes
  int height, width;  // px, the image
};

// The thing classes, one bit each.
struct Things {
  uint32_t words[max_classes / 32];

  DEEPERLAB_HD bool has(int label) const { return label >= 0 && (words[label >> 5] >> (label & 31) & 1u); }
};

struct Params {
  int long_steps, long_short_steps;
  bool all_voters;
  int vote_cell;                  // px, least width
  int short_weight, long_weight;  // in 1/256
  double radius;                  // px
  double peak_threshold;          // share of an ideal disk's votes
  int max_candidates;
  int middle_steps;
  float kappa[max_keypoints];
  bool oks_cell;
  float instance_threshold;
  float nms_radius2, nms_radius_min2, nms_relative2;  // squares, computed in double
  float box_iou;
  int max_instances;
  float max_distance2;  // greatest sum of P squared distances, px²; +inf: no cut-off
  bool majority_all;
  float fit_area;
};

}  // namespace deeperlab
