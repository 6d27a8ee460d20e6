// SPDX-License-Identifier: Apache-2.0
#include "deeperlab/fuse.h"

#include <algorithm>

#include "class_set.cuh"
#include "deeperlab/nodes.h"
#include "deeperlab/scratch.h"
#include "launch.cuh"

namespace deeperlab::cuda {
namespace {

// What lies between the stages. Labels are refined in place into the semantic map.
struct Layout {
  Things* things;
  NodeMaps nodes;
  Point* target;    // [N, P, h, w] px
  uint8_t* speaks;  // [N, h, w] 1: speaks for a thing pixel though it is none
  int32_t* far;     // 1: some target lies too far away for a distance
  int64_t* votes;   // [N, P, rows, columns]; null: in the place of the instance map
  Seeds seeds;
  Hypotheses hypotheses;
  void* stage;  // scratch of the stage that runs
  int64_t bytes;
};

Layout lay_out(const Problem& problem, void* block) {
  Scratch scratch(block);
  const Shape& shape = problem.shape;
  const int64_t nodes = shape.images * shape.nodes(), p = problem.keypoints();
  const int64_t seeds = int64_t(shape.images) * problem.params.max_candidates;
  Layout at{};
  at.things = scratch.take<Things>(1);
  at.nodes.label = scratch.take<int32_t>(nodes);
  at.nodes.instance = scratch.take<int32_t>(nodes);
  at.nodes.distance = scratch.take<float>(nodes);
  at.target = scratch.take<Point>(nodes * p);
  at.speaks = scratch.take<uint8_t>(nodes);
  at.far = scratch.take<int32_t>(1);
  at.votes = votes_fit_instance(problem) ? nullptr : scratch.take<int64_t>(votes_size(problem));
  at.seeds.candidate = scratch.take<Candidate>(seeds);
  at.seeds.position = scratch.take<Point>(seeds);
  at.seeds.count = scratch.take<int32_t>(shape.images);
  at.hypotheses.keypoints = scratch.take<Point>(seeds * p);
  at.hypotheses.keypoint_score = scratch.take<float>(seeds * p);
  at.hypotheses.score = scratch.take<float>(seeds);
  at.stage = scratch.take<char>(
      std::max({peaks_scratch_bytes(problem), select_scratch_bytes(problem), merge_scratch_bytes(problem)}));
  at.bytes = scratch.bytes();
  return at;
}

// Without keypoints nobody votes, and nothing is found: what the stages up to assign would say.
void find_nothing(const Problem& problem, const NodeMaps& nodes, const Instances& found, Stream stream) {
  const int64_t images = problem.shape.images;
  fill_with_zeros(found.score, images * problem.params.max_instances, stream);
  fill_with_zeros(found.count, images, stream);
  fill_with_zeros(found.truncated, images, stream);
  fill_with_zeros(nodes.instance, images * problem.shape.nodes(), stream);
}

}  // namespace

int64_t fuse_scratch_bytes(const Problem& problem) { return lay_out(problem, nullptr).bytes; }

const char* fuse(const Heads& heads, const Problem& call, const Panoptic& out, void* scratch, Stream stream) {
  Layout at = lay_out(call, scratch);
  at.nodes.rule_pixels = is_floating(heads.semantic.type);
  int64_t* const votes = at.votes != nullptr ? at.votes : reinterpret_cast<int64_t*>(out.instance);
  const Asked asked{at.target, at.speaks, at.far, !may_leave_out_nodes(heads.semantic, call.params)};
  Problem problem = call;
  problem.things = at.things;

  cudaGetLastError();  // of somebody else
  launch(keep_classes, 1, stream, *call.things, at.things);
  argmax(heads.semantic, problem, at.nodes, out.semantic, at.speaks, stream);
  if (problem.keypoints() == 0) {
    find_nothing(problem, at.nodes, out.found, stream);
    merge(at.nodes, problem, out, at.stage, stream);
    return explain(cudaGetLastError());
  }
  refine(heads, problem, at.nodes.label, at.target, at.far, stream);
  vote(heads, problem, at.target, at.nodes.label, votes, stream);
  peaks(votes, problem, at.seeds, out.found.truncated, at.stage, stream);
  trace(heads, problem, at.seeds, at.hypotheses.keypoints, stream);
  rescore(heads.heatmap, problem, votes, at.seeds.count, at.hypotheses, stream);
  select(at.seeds, at.hypotheses, problem, out.found, at.stage, stream);
  assign(heads, problem, asked, out.found, at.nodes, stream);
  merge(at.nodes, problem, out, at.stage, stream);
  return explain(cudaGetLastError());
}

}  // namespace deeperlab::cuda
