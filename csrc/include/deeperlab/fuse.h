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
#include "deeperlab/problem.h"

namespace deeperlab {

// Numbers of all score maps.
inline int64_t votes_size(const Problem& problem) {
  const int64_t maps = int64_t(problem.shape.images) * problem.keypoints();
  return maps * vote_grid(problem.shape, problem.params).size();
}

// The votes are done with before the instance map is begun, so they take its place where they fit: less memory to
// touch.
inline bool votes_fit_instance(const Problem& problem) {
  return votes_size(problem) * int64_t(sizeof(int64_t)) <=
         problem.shape.images * problem.shape.pixels() * int64_t(sizeof(int32_t));
}

namespace cpu {

int64_t fuse_scratch_bytes(const Problem& problem);

void fuse(const Heads& heads, const Problem& problem, const Panoptic& out, void* scratch, const Parallel& parallel);

}  // namespace cpu

namespace cuda {

int64_t fuse_scratch_bytes(const Problem& problem);

// problem.things may lie in memory of the host: they are copied. Nothing waits for the device. Returns what is wrong
// with it in words, or nullptr.
const char* fuse(const Heads& heads, const Problem& problem, const Panoptic& out, void* scratch, Stream stream);

}  // namespace cuda
}  // namespace deeperlab
