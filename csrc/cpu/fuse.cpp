// SPDX-License-Identifier: Apache-2.0
#include "deeperlab/fuse.h"

#include <algorithm>
#include <cmath>

#include "deeperlab/scratch.h"
#include "nodes.h"

namespace deeperlab::cpu {
namespace {

// What lies between the stages. The label map needs no place: it is refined in place into the semantic map.
struct Layout {
  Nodes nodes;                          // those that make a difference
  int32_t *node_label, *node_instance;  // [N, h, w]
  float* node_distance;                 // [N, h, w]
  Point* target;                        // [N, P, h, w]
  int64_t* votes;                       // [N, P, rows, columns], or in the place of the instance map
  Candidate* candidate;                 // [N, K]
  Point *position, *keypoints;          // [N, K], [N, K, P]
  float* keypoint_score;                // [N, K, P]
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
  at.nodes = lay_out_nodes(shape, scratch.take<char>(nodes_scratch_bytes(shape)));
  at.node_label = scratch.take<int32_t>(nodes);
  at.node_instance = scratch.take<int32_t>(nodes);
  at.node_distance = scratch.take<float>(nodes);
  at.candidate = scratch.take<Candidate>(seeds);
  at.position = scratch.take<Point>(seeds);
  at.keypoints = scratch.take<Point>(seeds * p);
  at.keypoint_score = scratch.take<float>(seeds * p);
  at.count = scratch.take<int32_t>(shape.images);
  at.stage = scratch.take<char>(std::max({argmax_scratch_bytes(shape), vote_scratch_bytes(shape, p, params),
                                          peaks_scratch_bytes(shape, p, params), select_scratch_bytes(shape, p, params),
                                          assign_scratch_bytes(shape, p, params), merge_scratch_bytes(shape, params)}));
  at.votes = votes_fit_instance(shape, p, params) ? nullptr : scratch.take<int64_t>(votes_size(shape, p, params));
  at.target = scratch.take<Point>(nodes * p);  // last: what is packed at its front may leave the rest untouched
  at.bytes = scratch.bytes();
  return at;
}

}  // namespace

int64_t fuse_scratch_bytes(const Shape& shape, const Graph& graph, const Params& params) {
  return lay_out(shape, graph, params, nullptr).bytes;
}

void fuse(const Heads& heads, const Graph& graph, const Things& things, const Shape& shape, const Params& params,
          const Panoptic& out, void* scratch, const Parallel& parallel) {
  const int p = graph.keypoints;
  Layout at = lay_out(shape, graph, params, scratch);
  if (votes_fit_instance(shape, p, params)) {
    at.votes = reinterpret_cast<int64_t*>(out.instance);
  }
  int32_t* label = out.semantic;

  argmax(heads.semantic, shape, at.node_label, label, at.stage, parallel);
  const bool label_of_nodes = is_floating(heads.semantic.type);
  const auto refine_nodes = [&] {
    return refine(heads.long_range, heads.short_range, shape, p, params, at.nodes, at.target, parallel);
  };
  // Where a thing node may stay without an instance, because it lies too far from all, others may have to speak for it.
  const bool may_choose = label_of_nodes && !params.all_voters && !(params.max_distance2 < HUGE_VALF);
  if (may_choose) {
    choose_nodes(at.node_label, label, things, shape, at.nodes, parallel);
  }
  if (!may_choose || !refine_nodes()) {
    choose_all(shape, at.nodes, parallel);
    refine_nodes();
  }
  vote(heads.heatmap, heads.short_range, at.target, at.nodes, at.node_label, things, shape, p, params, at.votes,
       at.stage, parallel);
  peaks(at.votes, shape, p, params, at.candidate, at.position, at.count, out.truncated, at.stage, parallel);
  trace(at.candidate, at.position, at.count, heads.middle_range, heads.short_range, graph, shape, params, at.keypoints,
        parallel);
  const Rescorer rescorer{at.keypoints, at.votes, heads.heatmap, shape, p, params, parallel.simd};
  rescore_seeds(rescorer, at.candidate, at.count, at.keypoint_score, parallel);
  const InstanceScore score{
      [](const void* closure, int64_t n, int32_t i) { return static_cast<const Rescorer*>(closure)->score(n, i); },
      &rescorer};
  select(at.candidate, at.count, at.keypoints, at.keypoint_score, score, shape, p, params, out.keypoints, out.score,
         out.count, out.truncated, at.stage, parallel);
  assign(at.target, at.nodes, at.node_label, label, label_of_nodes, out.keypoints, out.count, things, shape, p, params,
         at.node_instance, at.node_distance, out.instance, at.stage, parallel);
  merge(label, out.instance, at.node_label, at.node_instance, at.node_distance, at.nodes, label_of_nodes, out.keypoints,
        out.count, things, shape, p, params, out.semantic, out.category, out.area, out.class_area, at.stage, parallel);
}

}  // namespace deeperlab::cpu
