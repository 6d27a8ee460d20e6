// SPDX-License-Identifier: Apache-2.0
// fuse: the whole of section 3.4, from raw heads to a panoptic map. The stage headers, in order, are the algorithm.
#pragma once

#include "deeperlab/argmax.h"
#include "deeperlab/refine.h"
#include "deeperlab/vote.h"
#include "deeperlab/peaks.h"
#include "deeperlab/trace.h"
#include "deeperlab/rescore.h"
#include "deeperlab/select.h"
#include "deeperlab/assign.h"
#include "deeperlab/merge.h"

namespace deeperlab {

struct Heads {
  View semantic;      // logits [N, C, h, w], or integer labels [N, H, W]
  View heatmap;       // logits [N, P, h, w]
  View short_range;   // px [N, 2P, h, w]
  View middle_range;  // px [N, 2E, h, w]
  View long_range;    // px [N, 2P, h, w]
};

// All contiguous; M = max_instances, rows past count[n] are 0 (category: -1).
struct Panoptic {
  int32_t* semantic;    // [N, H, W] final class
  int32_t* instance;    // [N, H, W] 1 .. count, 0: none
  Point* keypoints;     // [N, M, P] px
  float* score;         // [N, M]
  int32_t* category;    // [N, M]
  int32_t* area;        // [N, M] pixels
  int32_t* class_area;  // [N, C] pixels of no instance
  int32_t* count;       // [N]
  bool* truncated;      // [N]
};

// Numbers of all score maps.
inline int64_t votes_size(const Shape& shape, int keypoints, const Params& params) {
  return int64_t(shape.images) * keypoints * vote_grid(shape, params).size();
}

// The votes are done with before the instance map is begun, so they take its place where they fit: less memory to
// touch.
inline bool votes_fit_instance(const Shape& shape, int keypoints, const Params& params) {
  return votes_size(shape, keypoints, params) * int64_t(sizeof(int64_t)) <=
         int64_t(shape.images) * shape.height * shape.width * int64_t(sizeof(int32_t));
}

namespace cpu {

int64_t fuse_scratch_bytes(const Shape& shape, const Graph& graph, const Params& params);

void fuse(const Heads& heads, const Graph& graph, const Things& things, const Shape& shape, const Params& params,
          const Panoptic& out, void* scratch, const Parallel& parallel);

}  // namespace cpu

namespace cuda {

int64_t fuse_scratch_bytes(const Shape& shape, const Graph& graph, const Params& params);

// Nothing waits for the device. Returns what is wrong with it in words, or nullptr.
const char* fuse(const Heads& heads, const Graph& graph, const Things& things, const Shape& shape, const Params& params,
                 const Panoptic& out, void* scratch, Stream stream);

}  // namespace cuda
}  // namespace deeperlab
