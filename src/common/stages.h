// SPDX-License-Identifier: Apache-2.0
// One function for each stage, for both bindings: for tests, for benchmarks, and for those who replace a stage of their
// own. What a stage gets from outside is checked as if it came from an enemy: integers that index memory, one by one.
#pragma once

#include "call.h"
#include "deeperlab/nodes.h"

namespace deeperlab::binding {

// A stage by itself works on every node.
template <class Traits>
struct EveryNode {
  ArrayOf<Traits> scratch;
  Nodes nodes;

  EveryNode(const Call<Traits>& call, const Shape& shape)
      : scratch(call.template make<uint8_t>({cpu::nodes_scratch_bytes(shape)})),
        nodes(cpu::lay_out_nodes(shape, out<void, Traits>(scratch))) {
    call.run([&] { cpu::list_all_nodes(shape, nodes, call.traits.parallel()); });
  }
};

// The image that a score map of rows × columns vote cells was made for, up to the last cell's rest.
template <class Traits>
Shape shape_of_votes(const Call<Traits>& call, const char* nodes_name, const Ints& nodes, const VoteParams& params) {
  const Ints sizes = sizes_of<Traits>(call.array("votes"));
  require(sizes.size() == 4 && sizes[2] >= 2 && sizes[3] >= 2,
          "votes: expected shape [N, P, rows >= 2, columns >= 2], got ", text(sizes.data(), sizes.size()));
  require(sizes[2] <= max_side && sizes[3] <= max_side, "votes: expected at most 2^20 rows and columns, got ", sizes[2],
          " x ", sizes[3]);
  const int64_t stride = in_range("stride", call.integer("stride"), 1, max_stride);
  const int64_t cell = cell_width(int(stride), params);
  const Ints size{(sizes[2] - 2) * cell + 1, (sizes[3] - 2) * cell + 1};
  return make_shape(sizes[0], 1, nodes_name, nodes, stride, "votes", size);
}

// All votes for a keypoint add up to at most 9 * 2^39: of 2^26 nodes, 2^4 + 2 each (two units for the rounding of four
// shares), with two weights of 2^11; of fewer nodes less, as 2^30 and two units for each. Their moments, times
// positions up to 2^20 + 2^16 px, stay within 64 bits up to this bound and not much beyond.
template <class Traits>
const int64_t* checked_votes(const Call<Traits>& call, const Problem& problem) {
  const auto& array = call.array("votes");
  const int64_t n = problem.shape.images, p = problem.keypoints();
  const int64_t rows = Traits::extent(array, 2), columns = Traits::extent(array, 3);
  const int64_t* votes = call.template copied<int64_t>("votes", Type::int64, {n, p, rows, columns});
  constexpr uint64_t most = uint64_t(9) << 39;
  const auto refuse = [](int64_t came) {
    require(false, "votes: expected a sum of 0 to 9 * 2^39 for a keypoint, got ", came);
  };
  for (int64_t plane = 0; plane < n * p; ++plane) {
    uint64_t sum = 0;
    for (int64_t row = plane * rows; row < (plane + 1) * rows; ++row) {  // of 2^20 votes at most, so no sum overflows
      uint64_t bits = 0, sum_of_row = 0;
      for (int64_t i = row * columns; i < (row + 1) * columns; ++i) {
        bits |= uint64_t(votes[i]);
        sum_of_row += uint64_t(votes[i]);
      }
      if (bits >= 2 * most) {
        const auto* first = reinterpret_cast<const uint64_t*>(votes) + row * columns;
        refuse(int64_t(*std::max_element(first, first + columns)));  // a negative one, if there is one
      }
      sum += sum_of_row;
      if (sum > most) {
        refuse(int64_t(sum));
      }
    }
  }
  return votes;
}

// Candidates of kinds 0 .. P − 1 (−1 past the count), as many as `count` says; their number becomes K.
template <class Traits>
Seeds checked_seeds(const Call<Traits>& call, Problem& problem) {
  const auto& array = call.array("candidate", 3, "[N, K, 3]");
  const int64_t n = problem.shape.images, room = in_range("candidate", Traits::extent(array, 1), 1, most_candidates);
  problem.params.max_candidates = int(room);
  int32_t* counts = call.indices("count", {n}, 0, room);
  int32_t* kinds = call.template copied<int32_t>("candidate", Type::int32, {n, room, 3});
  for (int64_t i = 0; i < n * room; ++i) {
    require(i % room >= counts[i / room] || (kinds[3 * i] >= 0 && kinds[3 * i] < problem.keypoints()),
            "candidate: expected kinds in [0, ", problem.keypoints(), "), got ", kinds[3 * i]);
  }
  return {reinterpret_cast<Candidate*>(kinds), nullptr, counts};
}

// How many of `room` instances or candidates an image may have: none without keypoints.
inline int64_t most_found(int keypoints, int64_t room) { return keypoints > 0 ? room : 0; }

// An image holds no instance that was not found in it.
inline void require_found(const char* name, const int32_t* instance, int64_t size, const Instances& found, int64_t n) {
  for (int64_t i = 0; i < n * size; ++i) {
    require(instance[i] <= found.count[i / size], name, ": expected at most ", found.count[i / size], " in image ",
            i / size, ", got ", instance[i]);
  }
}

template <class Traits>
Results<Traits> argmax(const Call<Traits>& call) {
  const auto& semantic = call.array("semantic");
  const int64_t rank = Traits::rank(semantic);
  require(rank == 3 || rank == 4, "semantic: expected [N, C, h, w] logits or [N, H, W] labels, got ", rank,
          " dimensions");
  const Shape shape = make_shape(Traits::extent(semantic, 0), call.integer("num_classes"), "nodes",
                                 call.integers("nodes"), call.integer("stride"), "size", call.integers("size"));
  const typename Call<Traits>::Problem problem(shape, 0, {});
  const View view = semantic_view<Traits>(semantic, semantic, shape);
  const auto node_label = call.template make<int32_t>({shape.images, shape.grid_h, shape.grid_w});
  const auto label = call.template make<int32_t>({shape.images, shape.height, shape.width});
  const auto scratch = call.template make<uint8_t>({cpu::argmax_scratch_bytes(problem)});
  const NodeMaps nodes{out<int32_t, Traits>(node_label), nullptr, nullptr, true};
  int32_t* const pixels = out<int32_t, Traits>(label);
  void* const block = out<void, Traits>(scratch);
  call.run([&] { cpu::argmax(view, problem, nodes, pixels, block, call.traits.parallel()); });
  return {node_label, label};
}

template <class Traits>
Results<Traits> refine(const Call<Traits>& call) {
  const auto& long_range = call.array("long_range", 4, "[N, 2P, h, w]");
  const int64_t n = Traits::extent(long_range, 0), p = Traits::extent(long_range, 1) / 2;
  const int64_t h = Traits::extent(long_range, 2), w = Traits::extent(long_range, 3);
  const int keypoints = require_keypoints("long_range", p);
  const Shape shape = make_shape(n, 1, "long_range", {h, w}, call.integer("stride"), "size", {1, 1});
  const typename Call<Traits>::Problem problem(shape, keypoints, call.params(keypoints));
  Heads heads{};
  heads.long_range = call.head("long_range", "long_range", {n, 2 * p, h, w});
  heads.short_range = call.head("short_range", "long_range", {n, 2 * p, h, w});
  const auto target = call.template make<float>({n, p, h, w, 2});
  const EveryNode<Traits> every(call, shape);
  const Targets targets{every.nodes, out<Point, Traits>(target)};
  call.run([&] { cpu::refine(heads, problem, targets, call.traits.parallel()); });
  return {target};
}

template <class Traits>
Results<Traits> vote(const Call<Traits>& call) {
  const auto& heatmap = call.array("heatmap", 4, "[N, P, h, w]");
  const int64_t n = Traits::extent(heatmap, 0), p = Traits::extent(heatmap, 1);
  const int64_t h = Traits::extent(heatmap, 2), w = Traits::extent(heatmap, 3);
  const int keypoints = require_keypoints("heatmap", p);
  const Shape shape =
      make_shape(n, max_classes, "heatmap", {h, w}, call.integer("stride"), "size", call.integers("size"));
  typename Call<Traits>::Problem problem(shape, keypoints, call.params(keypoints));
  call.read_things(problem, max_classes);
  Heads heads{};
  heads.heatmap = call.head("heatmap", "heatmap", {n, p, h, w});
  heads.short_range = call.head("short_range", "heatmap", {n, 2 * p, h, w});
  Point* const points = call.template copied<Point>("target", Type::float32, {n, p, h, w, 2});
  const int32_t* labels = call.indices("node_label", {n, h, w}, -1, max_classes - 1);
  const VoteGrid grid = vote_grid(shape, problem.params);
  const auto votes = call.template make<int64_t>({n, p, grid.rows, grid.columns});
  const auto scratch = call.template make<uint8_t>({cpu::vote_scratch_bytes(problem)});
  const EveryNode<Traits> every(call, shape);
  int64_t* const map = out<int64_t, Traits>(votes);
  void* const block = out<void, Traits>(scratch);
  call.run([&] { cpu::vote(heads, problem, {every.nodes, points}, labels, map, block, call.traits.parallel()); });
  return {votes};
}

template <class Traits>
Results<Traits> peaks(const Call<Traits>& call) {
  const Params params = call.params(0);  // none of them depends on the keypoints
  const Shape shape = shape_of_votes(call, "nodes", call.integers("nodes"), params);
  const int keypoints = require_keypoints("votes", Traits::extent(call.array("votes"), 1));
  const typename Call<Traits>::Problem problem(shape, keypoints, params);
  const int64_t n = shape.images, room = problem.params.max_candidates;
  const int64_t* votes = checked_votes(call, problem);
  const auto candidate = call.template make<int32_t>({n, room, 3});
  const auto position = call.template make<float>({n, room, 2});
  const auto count = call.template make<int32_t>({n});
  const auto truncated = call.template make<bool>({n});
  const auto scratch = call.template make<uint8_t>({cpu::peaks_scratch_bytes(problem)});
  const Seeds seeds{out<Candidate, Traits>(candidate), out<Point, Traits>(position), out<int32_t, Traits>(count)};
  bool* const more = out<bool, Traits>(truncated);
  void* const block = out<void, Traits>(scratch);
  call.run([&] { cpu::peaks(votes, problem, seeds, more, block, call.traits.parallel()); });
  return {candidate, position, count, truncated};
}

template <class Traits>
Results<Traits> trace(const Call<Traits>& call) {
  const auto& short_range = call.array("short_range", 4, "[N, 2P, h, w]");
  const int64_t n = Traits::extent(short_range, 0), p = Traits::extent(short_range, 1) / 2;
  const int64_t h = Traits::extent(short_range, 2), w = Traits::extent(short_range, 3);
  const int keypoint_count = require_keypoints("short_range", p);
  const Shape shape = make_shape(n, 1, "short_range", {h, w}, call.integer("stride"), "size", call.integers("size"));
  typename Call<Traits>::Problem problem(shape, keypoint_count, call.params(keypoint_count));
  call.read_edges(problem);
  Seeds seeds = checked_seeds(call, problem);
  const int64_t room = problem.params.max_candidates;
  seeds.position = call.template contiguous<Point>("position", Type::float32, {n, room, 2});
  Heads heads{};
  heads.middle_range = call.head("middle_range", "short_range", {n, 2 * int64_t(problem.graph.edges), h, w});
  heads.short_range = call.head("short_range", "short_range", {n, 2 * p, h, w});
  const auto keypoints = call.template make<float>({n, room, p, 2});
  Point* const traced = out<Point, Traits>(keypoints);
  call.run([&] { cpu::trace(heads, problem, seeds, traced, call.traits.parallel()); });
  return {keypoints};
}

template <class Traits>
Results<Traits> rescore(const Call<Traits>& call) {
  const auto& array = call.array("heatmap", 4, "[N, P, h, w]");
  const auto& keypoints = call.array("keypoints", 4, "[N, K, P, 2]");
  const int64_t n = Traits::extent(array, 0), p = Traits::extent(array, 1);
  const int64_t h = Traits::extent(array, 2), w = Traits::extent(array, 3);
  const int keypoint_count = require_keypoints("heatmap", p);
  const Params params = call.params(keypoint_count);
  const Shape shape = shape_of_votes(call, "heatmap", {h, w}, params);
  require(shape.images == n, "votes: expected those of ", n, " images, got ", shape.images);
  typename Call<Traits>::Problem problem(shape, keypoint_count, params);
  const int64_t room = in_range("keypoints", Traits::extent(keypoints, 1), 1, most_candidates);
  problem.params.max_candidates = int(room);
  const int64_t* votes = checked_votes(call, problem);
  Point* const points = call.template copied<Point>("keypoints", Type::float32, {n, room, p, 2});
  // Keypoints index the score map, so they must lie in the image as trace leaves them.
  const VoteGrid grid = vote_grid(problem.shape, problem.params);
  const float right = float((grid.columns - 1) * grid.cell), bottom = float((grid.rows - 1) * grid.cell);
  for (int64_t i = 0; i < n * room * p; ++i) {
    require(points[i].x >= 0.0f && points[i].x <= right && points[i].y >= 0.0f && points[i].y <= bottom,
            "keypoints: expected positions in the image, got (", points[i].x, ", ", points[i].y, ")");
  }
  const int32_t* counts = call.indices("count", {n}, 0, most_found(keypoint_count, room));
  const View heatmap = call.head("heatmap", "heatmap", {n, p, h, w});
  const auto keypoint_score = call.template make<float>({n, room, p});
  const auto score = call.template make<float>({n, room});
  const Hypotheses hypotheses{points, out<float, Traits>(keypoint_score), out<float, Traits>(score)};
  call.run([&] { cpu::rescore(heatmap, problem, votes, counts, hypotheses, call.traits.parallel()); });
  return {keypoint_score, score};
}

template <class Traits>
Results<Traits> select(const Call<Traits>& call) {
  const auto& array = call.array("keypoints", 4, "[N, K, P, 2]");
  const int64_t n = Traits::extent(array, 0), p = Traits::extent(array, 2);
  const Shape shape = make_shape(n, 1, "keypoints", {1, 1}, 1, "size", {1, 1});
  const int keypoint_count = require_keypoints("keypoints", p);
  typename Call<Traits>::Problem problem(shape, keypoint_count, call.params(keypoint_count));
  const int64_t m = problem.params.max_instances;
  const Seeds seeds = checked_seeds(call, problem);
  const int64_t room = problem.params.max_candidates;
  const Hypotheses hypotheses{
      call.template contiguous<Point>("keypoints", Type::float32, {n, room, p, 2}),
      call.template copied<float>("keypoint_score", Type::float32, {n, room, p}),
      call.template copied<float>("score", Type::float32, {n, room}),
  };
  for (int64_t i = 0; i < n * room * p; ++i) {  // a NaN has no place in an order
    require(hypotheses.keypoint_score[i] == hypotheses.keypoint_score[i], "keypoint_score: expected no NaN, got nan");
    require(hypotheses.score[i / p] == hypotheses.score[i / p], "score: expected no NaN, got nan");
  }
  const auto keypoints = call.template make<float>({n, m, p, 2});
  const auto score = call.template make<float>({n, m});
  const auto count = call.template make<int32_t>({n});
  const auto truncated = call.template make<bool>({n});
  const Instances found{out<Point, Traits>(keypoints), out<float, Traits>(score), out<int32_t, Traits>(count),
                        out<bool, Traits>(truncated)};
  std::fill(found.truncated, found.truncated + n, false);
  const auto scratch = call.template make<uint8_t>({cpu::select_scratch_bytes(problem)});
  void* const block = out<void, Traits>(scratch);
  const cpu::GivenScores scores{hypotheses.score, room};
  call.run([&] {
    cpu::select(seeds, hypotheses, cpu::score_as_given(scores), problem, found, block, call.traits.parallel());
  });
  return {keypoints, score, count, truncated};
}

template <class Traits>
Results<Traits> assign(const Call<Traits>& call) {
  const auto& target = call.array("target", 5, "[N, P, h, w, 2]");
  const auto& label = call.array("label", 3, "[N, H, W]");
  const auto& keypoints = call.array("keypoints", 4, "[N, M, P, 2]");
  const int64_t n = Traits::extent(target, 0), p = Traits::extent(target, 1);
  const int64_t h = Traits::extent(target, 2), w = Traits::extent(target, 3);
  const int64_t height = Traits::extent(label, 1), width = Traits::extent(label, 2);
  const int keypoint_count = require_keypoints("target", p);
  const Shape shape = make_shape(n, max_classes, "target", {h, w}, call.integer("stride"), "label", {height, width});
  typename Call<Traits>::Problem problem(shape, keypoint_count, call.params(keypoint_count));
  call.read_things(problem, max_classes);
  const int64_t m = in_range("keypoints", Traits::extent(keypoints, 1), 1, most_instances);
  problem.params.max_instances = int(m);
  Point* const points = call.template contiguous<Point>("target", Type::float32, {n, p, h, w, 2});
  Instances found{};
  found.keypoints = call.template contiguous<Point>("keypoints", Type::float32, {n, m, p, 2});
  int32_t* const node_labels = call.indices("node_label", {n, h, w}, -1, max_classes - 1);
  int32_t* const labels = call.indices("label", {n, height, width}, -1, max_classes - 1);
  found.count = call.indices("count", {n}, 0, most_found(keypoint_count, m));
  const auto node_instance = call.template make<int32_t>({n, h, w});
  const auto node_distance = call.template make<float>({n, h, w});
  const auto instance = call.template make<int32_t>({n, height, width});
  const auto scratch = call.template make<uint8_t>({cpu::assign_scratch_bytes(problem)});
  const EveryNode<Traits> every(call, shape);
  const NodeMaps nodes{node_labels, out<int32_t, Traits>(node_instance), out<float, Traits>(node_distance), false};
  const PixelMaps pixels{labels, out<int32_t, Traits>(instance)};
  void* const block = out<void, Traits>(scratch);
  call.run([&] { cpu::assign({every.nodes, points}, found, problem, nodes, pixels, block, call.traits.parallel()); });
  return {node_instance, node_distance, instance};
}

template <class Traits>
Results<Traits> merge(const Call<Traits>& call) {
  const auto& label = call.array("label", 3, "[N, H, W]");
  const auto& node_label = call.array("node_label", 3, "[N, h, w]");
  const auto& keypoints = call.array("keypoints", 4, "[N, M, P, 2]");
  const int64_t n = Traits::extent(label, 0), height = Traits::extent(label, 1), width = Traits::extent(label, 2);
  const int64_t h = Traits::extent(node_label, 1), w = Traits::extent(node_label, 2);
  const int64_t m = Traits::extent(keypoints, 1), p = Traits::extent(keypoints, 2);
  const int keypoint_count = require_keypoints("keypoints", p);
  const int64_t classes = call.integer("num_classes");
  const Shape shape = make_shape(n, classes, "node_label", {h, w}, max_stride, "label", {height, width});
  typename Call<Traits>::Problem problem(shape, keypoint_count, call.params(keypoint_count));
  call.read_things(problem, classes);
  call.require_places("keypoints", m, shape);
  problem.params.max_instances = int(m);
  int32_t* const labels = call.indices("label", {n, height, width}, -1, classes - 1);
  Instances found{};
  found.count = call.indices("count", {n}, 0, most_found(keypoint_count, m));
  int32_t* const instances = call.indices("instance", {n, height, width}, 0, m);
  int32_t* const node_labels = call.indices("node_label", {n, h, w}, -1, classes - 1);
  int32_t* const node_instances = call.indices("node_instance", {n, h, w}, 0, m);
  require_found("instance", instances, height * width, found, n);
  require_found("node_instance", node_instances, h * w, found, n);
  float* const distances = call.template contiguous<float>("node_distance", Type::float32, {n, h, w});
  found.keypoints = call.template contiguous<Point>("keypoints", Type::float32, {n, m, p, 2});
  const auto semantic = call.template make<int32_t>({n, height, width});
  const auto category = call.template make<int32_t>({n, m});
  const auto area = call.template make<int32_t>({n, m});
  const auto class_area = call.template make<int32_t>({n, classes});
  const auto scratch = call.template make<uint8_t>({cpu::merge_scratch_bytes(problem)});
  const EveryNode<Traits> every(call, shape);
  const NodeMaps nodes{node_labels, node_instances, distances, false};
  const Panoptic panoptic{
      out<int32_t, Traits>(semantic),  instances, found, out<int32_t, Traits>(category), out<int32_t, Traits>(area),
      out<int32_t, Traits>(class_area)};
  void* const block = out<void, Traits>(scratch);
  call.run(
      [&] { cpu::merge({labels, instances}, nodes, every.nodes, problem, panoptic, block, call.traits.parallel()); });
  return {semantic, category, area, class_area};
}

}  // namespace deeperlab::binding
