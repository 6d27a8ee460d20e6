// SPDX-License-Identifier: Apache-2.0
#include "deeperlab/fuse.h"

#include <algorithm>
#include <cmath>

#include "deeperlab/scratch.h"
#include "launch.cuh"

namespace deeperlab::cuda {
namespace {

// What lies between the stages. Labels are refined in place into the semantic map.
struct Layout {
  Things* things;
  int32_t* far;                         // 1: some target lies too far away for a distance
  int32_t *node_label, *node_instance;  // [N, h, w]
  uint8_t* spoken_for;                  // [N, h, w] 1: speaks for a thing pixel though it is none
  float* node_distance;                 // [N, h, w]
  Point* target;                        // [N, P, h, w]
  int64_t* votes;                       // [N, P, rows, columns], or in the place of the instance map
  Candidate* candidate;                 // [N, K]
  Point *position, *keypoints;          // [N, K], [N, K, P]
  float *keypoint_score, *score;        // [N, K, P], [N, K]
  int32_t* count;                       // [N]
  char* stage;                          // scratch of the stage that runs
  int64_t bytes;
};

Layout lay_out(const Shape& shape, const Graph& graph, const Params& params, void* block) {
  Scratch scratch(block);
  const int64_t nodes = int64_t(shape.images) * shape.h * shape.w;
  const int64_t seeds = int64_t(shape.images) * params.max_candidates;
  const int p = graph.keypoints;
  Layout at{};
  at.things = scratch.take<Things>(1);
  at.far = scratch.take<int32_t>(1);
  at.node_label = scratch.take<int32_t>(nodes);
  at.node_instance = scratch.take<int32_t>(nodes);
  at.spoken_for = scratch.take<uint8_t>(nodes);
  at.node_distance = scratch.take<float>(nodes);
  at.target = scratch.take<Point>(nodes * p);
  at.votes = votes_fit_instance(shape, p, params) ? nullptr : scratch.take<int64_t>(votes_size(shape, p, params));
  at.candidate = scratch.take<Candidate>(seeds);
  at.position = scratch.take<Point>(seeds);
  at.keypoints = scratch.take<Point>(seeds * p);
  at.keypoint_score = scratch.take<float>(seeds * p);
  at.score = scratch.take<float>(seeds);
  at.count = scratch.take<int32_t>(shape.images);
  at.stage = scratch.take<char>(std::max({peaks_scratch_bytes(shape, p, params), select_scratch_bytes(shape, params),
                                          merge_scratch_bytes(shape, params)}));
  at.bytes = scratch.bytes();
  return at;
}

__global__ void keep_things(Things things, Things* kept) {
  for (int i = int(threadIdx.x); i < max_classes / 32; i += block) {
    kept->words[i] = things.words[i];
  }
}

const char* explain(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return nullptr;
    case cudaErrorNoKernelImageForDevice:
      return "there is no kernel for its architecture; rebuild with CMAKE_CUDA_ARCHITECTURES=native";
    case cudaErrorInsufficientDriver:
      return "its driver is too old for the CUDA that deeperlab was built with; CUDA 13 needs driver 580 or later";
    default:
      return cudaGetErrorString(error);
  }
}

}  // namespace

int64_t fuse_scratch_bytes(const Shape& shape, const Graph& graph, const Params& params) {
  return lay_out(shape, graph, params, nullptr).bytes;
}

const char* fuse(const Heads& heads, const Graph& graph, const Things& things, const Shape& shape, const Params& params,
                 const Panoptic& out, void* scratch, Stream stream) {
  const int p = graph.keypoints;
  Layout at = lay_out(shape, graph, params, scratch);
  if (votes_fit_instance(shape, p, params)) {
    at.votes = reinterpret_cast<int64_t*>(out.instance);
  }
  // As in cpu::fuse: where a thing node may stay without an instance, because it lies too far from all, others may have
  // to speak for it.
  const bool all_nodes = !is_floating(heads.semantic.type) || params.all_voters || params.max_distance2 < HUGE_VALF;

  cudaGetLastError();  // of somebody else
  launch(keep_things, 1, stream, things, at.things);
  argmax(heads.semantic, shape, at.things, at.node_label, out.semantic, at.spoken_for, stream);
  vote(heads.heatmap, heads.short_range, heads.long_range, shape, p, params, at.things, at.node_label, at.target,
       at.far, at.votes, stream);
  peaks(at.votes, shape, p, params, at.candidate, at.position, at.count, out.truncated, at.stage, stream);
  trace(at.candidate, at.position, at.count, heads.middle_range, heads.short_range, graph, shape, params, at.keypoints,
        stream);
  rescore(at.keypoints, at.count, at.votes, heads.heatmap, shape, p, params, at.keypoint_score, at.score, stream);
  select(at.candidate, at.count, at.keypoints, at.keypoint_score, at.score, shape, p, params, out.keypoints, out.score,
         out.count, out.truncated, at.stage, stream);
  assign(at.target, heads.long_range, heads.short_range, at.node_label, at.spoken_for, at.far, all_nodes, out.keypoints,
         out.count, at.things, shape, p, params, at.node_instance, at.node_distance, stream);
  merge(at.node_label, at.node_instance, at.node_distance, out.keypoints, out.count, at.things, shape, p, params,
        out.semantic, out.instance, out.category, out.area, out.class_area, at.stage, stream);
  return explain(cudaGetLastError());
}

}  // namespace deeperlab::cuda
