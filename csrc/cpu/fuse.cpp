// SPDX-License-Identifier: Apache-2.0
#include "deeperlab/fuse.h"

#include <algorithm>

#include "deeperlab/nodes.h"
#include "deeperlab/scratch.h"
#include "simd/parallel.h"

namespace deeperlab::cpu {
namespace {

// What lies between the stages. Labels are refined in place into the semantic map.
struct Layout {
  NodeMaps nodes;
  Targets targets;  // of the nodes that matter
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
  at.targets.nodes = lay_out_nodes(shape, scratch.take<char>(nodes_scratch_bytes(shape)));
  at.nodes.label = scratch.take<int32_t>(nodes);
  at.nodes.instance = scratch.take<int32_t>(nodes);
  at.nodes.distance = scratch.take<float>(nodes);
  at.seeds.candidate = scratch.take<Candidate>(seeds);
  at.seeds.position = scratch.take<Point>(seeds);
  at.seeds.count = scratch.take<int32_t>(shape.images);
  at.hypotheses.keypoints = scratch.take<Point>(seeds * p);
  at.hypotheses.keypoint_score = scratch.take<float>(seeds * p);
  at.stage = scratch.take<char>(
      std::max({argmax_scratch_bytes(problem), vote_scratch_bytes(problem), peaks_scratch_bytes(problem),
                select_scratch_bytes(problem), assign_scratch_bytes(problem), merge_scratch_bytes(problem)}));
  at.votes = votes_fit_instance(problem) ? nullptr : scratch.take<int64_t>(votes_size(problem));
  at.targets.at = scratch.take<Point>(nodes * p);  // last: what is packed at its front may leave the rest untouched
  at.bytes = scratch.bytes();
  return at;
}

// Without keypoints nobody votes, and nothing is found: what the stages up to assign would say.
void find_nothing(const Problem& problem, const Layout& at, const Panoptic& out, const Parallel& parallel) {
  const Shape& shape = problem.shape;
  const int64_t rows = int64_t(shape.images) * shape.grid_h;
  std::fill_n(out.found.score, int64_t(shape.images) * problem.params.max_instances, 0.0f);
  std::fill_n(out.found.count, shape.images, 0);
  std::fill_n(out.found.truncated, shape.images, false);
  std::fill_n(at.targets.nodes.count, rows, 0);
  std::fill_n(at.nodes.instance, rows * shape.grid_w, 0);
  parallel_rows(parallel, shape.images, shape.height, shape.width, [&](int64_t n, int y) {
    std::fill_n(out.instance + (n * shape.height + y) * shape.width, shape.width, 0);
  });
}

}  // namespace

int64_t fuse_scratch_bytes(const Problem& problem) { return lay_out(problem, nullptr).bytes; }

void fuse(const Heads& heads, const Problem& problem, const Panoptic& out, void* scratch, const Parallel& parallel) {
  Layout at = lay_out(problem, scratch);
  at.nodes.rule_pixels = is_floating(heads.semantic.type);
  int64_t* const votes = at.votes != nullptr ? at.votes : reinterpret_cast<int64_t*>(out.instance);
  const PixelMaps pixels{out.semantic, out.instance};

  argmax(heads.semantic, problem, at.nodes, pixels.label, at.stage, parallel);
  if (problem.keypoints() == 0) {
    find_nothing(problem, at, out, parallel);
    return merge(pixels, at.nodes, at.targets.nodes, problem, out, at.stage, parallel);
  }
  refine_nodes_that_matter(heads, problem, at.nodes, pixels.label, at.targets, parallel);
  vote(heads, problem, at.targets, at.nodes.label, votes, at.stage, parallel);
  peaks(votes, problem, at.seeds, out.found.truncated, at.stage, parallel);
  trace(heads, problem, at.seeds, at.hypotheses.keypoints, parallel);
  const Rescorer rescorer{heads.heatmap, problem, votes, at.hypotheses.keypoints, parallel};
  rescore_seeds(rescorer, at.seeds, at.hypotheses);
  select(at.seeds, at.hypotheses, score_when_asked(rescorer), problem, out.found, at.stage, parallel);
  assign(at.targets, out.found, problem, at.nodes, pixels, at.stage, parallel);
  merge(pixels, at.nodes, at.targets.nodes, problem, out, at.stage, parallel);
}

}  // namespace deeperlab::cpu
