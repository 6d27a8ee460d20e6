// SPDX-License-Identifier: Apache-2.0
// One function for each stage, for any face: for tests, for benchmarks, and for those who replace a stage of their own.
// What a stage gets from outside is checked as if it came from an enemy: integers that index memory, one by one.
#pragma once

#include <algorithm>
#include <limits>
#include <tuple>

#include "face.h"

namespace deeperlab::binding {

// The image that a score map of rows × columns vote cells was made for, up to the last cell's rest.
template <class Face, class A = ArrayOf<Face>>
Shape shape_of_votes(const A& votes, const char* nodes, int64_t h, int64_t w, int64_t stride, const Params& params) {
  const Ints sizes = sizes_of<Face>(votes);
  require(sizes.size() == 4 && sizes[2] >= 2 && sizes[3] >= 2,
          "votes: expected shape [N, P, rows >= 2, columns >= 2], got ", text(sizes.data(), sizes.size()));
  const int64_t cell = std::max<int64_t>(stride, params.vote_cell);
  const int64_t rows = Face::extent(votes, 2), columns = Face::extent(votes, 3);
  require(rows <= max_side && columns <= max_side, "votes: expected at most 2^20 rows and columns, got ", rows, " x ",
          columns);
  return make_shape(Face::extent(votes, 0), 1, h, w, stride, (rows - 2) * cell + 1, (columns - 2) * cell + 1,
                    {nodes, "votes"});
}

inline void require_pair(const char* name, const Ints& pair) {
  require(pair.size() == 2, name, ": expected two integers, got ", pair.size());
}

template <class Face, class A = ArrayOf<Face>>
std::tuple<A, A> argmax(const Face& face, const A& semantic, int64_t num_classes, int64_t stride, const Ints& nodes,
                        const Ints& size) {
  require_pair("nodes", nodes);
  require_pair("size", size);
  const int64_t rank = Face::rank(semantic);
  require(rank == 3 || rank == 4, "semantic: expected [N, C, h, w] logits or [N, H, W] labels, got ", rank,
          " dimensions");
  const int64_t n = Face::extent(semantic, 0);
  const Shape shape = make_shape(n, num_classes, nodes[0], nodes[1], stride, size[0], size[1], {"nodes", "size"});
  const View view = semantic_view<Face>(semantic, semantic, shape);
  std::tuple result{Face::template make<int32_t>({n, shape.h, shape.w}),
                    Face::template make<int32_t>({n, shape.height, shape.width})};
  const A scratch = Face::template make<uint8_t>({cpu::argmax_scratch_bytes(shape)});
  [[maybe_unused]] const typename Face::Release release;
  cpu::argmax(view, shape, out<int32_t, Face>(std::get<0>(result)), out<int32_t, Face>(std::get<1>(result)),
              out<char, Face>(scratch), face.parallel());
  return result;
}

template <class Face, class A = ArrayOf<Face>>
A refine(const Face& face, const A& long_range, const A& short_range, int64_t stride, int64_t long_steps,
         int64_t long_short_steps) {
  require_rank<Face>(long_range, "long_range", 4, "[N, 2P, h, w]");
  const int64_t n = Face::extent(long_range, 0), p = Face::extent(long_range, 1) / 2, h = Face::extent(long_range, 2),
                w = Face::extent(long_range, 3);
  require_keypoints("long_range", p);
  const Shape shape = make_shape(n, 1, h, w, stride, 1, 1, {"long_range", "size"});
  Params params{};
  params.long_steps = checked("long_steps", long_steps, 0, 64);
  params.long_short_steps = checked("long_short_steps", long_short_steps, 0, 64);
  const View long_view = head<Face>(long_range, "long_range", long_range, {n, 2 * p, h, w});
  const View short_view = head<Face>(short_range, "short_range", long_range, {n, 2 * p, h, w});
  A target = Face::template make<float>({n, p, h, w, 2});
  const EveryNode<Face> every(face, shape);
  [[maybe_unused]] const typename Face::Release release;
  cpu::refine(long_view, short_view, shape, int(p), params, every.nodes, out<Point, Face>(target), face.parallel());
  return target;
}

template <class Face, class A = ArrayOf<Face>>
A vote(const Face& face, const A& heatmap, const A& short_range, const A& target, const A& node_label,
       const Ints& things, int64_t stride, const Ints& size, int64_t vote_cell, double short_weight, double long_weight,
       bool all_voters) {
  require_pair("size", size);
  require_rank<Face>(heatmap, "heatmap", 4, "[N, P, h, w]");
  const int64_t n = Face::extent(heatmap, 0), p = Face::extent(heatmap, 1), h = Face::extent(heatmap, 2),
                w = Face::extent(heatmap, 3);
  require_keypoints("heatmap", p);
  const Shape shape = make_shape(n, max_classes, h, w, stride, size[0], size[1]);
  Params params{};
  params.vote_cell = checked("vote_cell", vote_cell, 1, 1024);
  params.short_weight = weight256("short_weight", short_weight);
  params.long_weight = weight256("long_weight", long_weight);
  params.all_voters = all_voters;
  const View heatmap_view = head<Face>(heatmap, "heatmap", heatmap, {n, p, h, w});
  const View short_view = head<Face>(short_range, "short_range", heatmap, {n, 2 * p, h, w});
  const Point* targets = contiguous<Face, Point>(target, "target", Type::float32, {n, p, h, w, 2});
  const int32_t* labels = indices<Face>(node_label, "node_label", {n, h, w}, -1, max_classes - 1);
  const VoteGrid grid = vote_grid(shape, params);
  A votes = Face::template make<int64_t>({n, p, grid.rows, grid.columns});
  const A scratch = Face::template make<uint8_t>({cpu::vote_scratch_bytes(shape, int(p), params)});
  const EveryNode<Face> every(face, shape);
  [[maybe_unused]] const typename Face::Release release;
  cpu::vote(heatmap_view, short_view, targets, every.nodes, labels, make_things(things, max_classes), shape, int(p),
            params, out<int64_t, Face>(votes), out<char, Face>(scratch), face.parallel());
  return votes;
}

template <class Face, class A = ArrayOf<Face>>
std::tuple<A, A, A, A> peaks(const Face& face, const A& votes, int64_t stride, const Ints& nodes, int64_t vote_cell,
                             double radius, double threshold, int64_t max_candidates) {
  require_pair("nodes", nodes);
  Params params{};
  params.vote_cell = checked("vote_cell", vote_cell, 1, 1024);
  params.radius = checked("radius", radius, 1.0, 4096.0);
  params.peak_threshold = checked("threshold", threshold, 0.0, 1e6);
  params.max_candidates = checked("max_candidates", max_candidates, 1, 65536);
  const Shape shape = shape_of_votes<Face>(votes, "nodes", nodes[0], nodes[1], stride, params);
  const int64_t n = Face::extent(votes, 0), p = Face::extent(votes, 1), room = max_candidates;
  require_keypoints("votes", p);
  const int64_t* map =
      contiguous<Face, int64_t>(votes, "votes", Type::int64, {n, p, Face::extent(votes, 2), Face::extent(votes, 3)});
  require_votes(map, n * p, Face::extent(votes, 2) * Face::extent(votes, 3));
  std::tuple result{Face::template make<int32_t>({n, room, 3}), Face::template make<float>({n, room, 2}),
                    Face::template make<int32_t>({n}), Face::template make<bool>({n})};
  const A scratch = Face::template make<uint8_t>({cpu::peaks_scratch_bytes(shape, int(p), params)});
  [[maybe_unused]] const typename Face::Release release;
  cpu::peaks(map, shape, int(p), params, out<Candidate, Face>(std::get<0>(result)),
             out<Point, Face>(std::get<1>(result)), out<int32_t, Face>(std::get<2>(result)),
             out<bool, Face>(std::get<3>(result)), out<char, Face>(scratch), face.parallel());
  return result;
}

// Candidates of kinds 0 .. P − 1 (−1 past the count), as many as `count` says.
template <class Face, class A = ArrayOf<Face>>
const Candidate* candidates(const A& candidate, const A& count, int64_t p, Params& params) {
  require_rank<Face>(candidate, "candidate", 3, "[N, K, 3]");
  const int64_t n = Face::extent(candidate, 0), room = Face::extent(candidate, 1);
  params.max_candidates = checked("candidate", room, 1, 65536);
  const int32_t* counts = indices<Face>(count, "count", {n}, 0, room);
  const int32_t* kinds = contiguous<Face, int32_t>(candidate, "candidate", Type::int32, {n, room, 3});
  for (int64_t i = 0; i < n * room; ++i) {
    require(i % room >= counts[i / room] || (kinds[3 * i] >= 0 && kinds[3 * i] < p),
            "candidate: expected kinds in [0, ", p, "), got ", kinds[3 * i]);
  }
  return reinterpret_cast<const Candidate*>(kinds);
}

template <class Face, class A = ArrayOf<Face>>
A trace(const Face& face, const A& position, const A& candidate, const A& count, const A& middle_range,
        const A& short_range, const Ints& edges, int64_t stride, const Ints& size, int64_t middle_steps) {
  require_pair("size", size);
  require_rank<Face>(short_range, "short_range", 4, "[N, 2P, h, w]");
  const int64_t n = Face::extent(short_range, 0), p = Face::extent(short_range, 1) / 2,
                h = Face::extent(short_range, 2), w = Face::extent(short_range, 3);
  const Graph graph = make_graph("short_range", p, edges);
  const Shape shape = make_shape(n, 1, h, w, stride, size[0], size[1], {"short_range", "size"});
  Params params{};
  params.middle_steps = checked("middle_steps", middle_steps, 0, 64);
  const Candidate* seeds = candidates<Face>(candidate, count, p, params);
  const int64_t room = params.max_candidates;
  const int32_t* counts = indices<Face>(count, "count", {n}, 0, room);
  const Point* positions = contiguous<Face, Point>(position, "position", Type::float32, {n, room, 2});
  const View middle_view = head<Face>(middle_range, "middle_range", short_range, {n, 2 * int64_t(graph.edges), h, w});
  const View short_view = head<Face>(short_range, "short_range", short_range, {n, 2 * p, h, w});
  A keypoints = Face::template make<float>({n, room, p, 2});
  [[maybe_unused]] const typename Face::Release release;
  cpu::trace(seeds, positions, counts, middle_view, short_view, graph, shape, params, out<Point, Face>(keypoints),
             face.parallel());
  return keypoints;
}

template <class Face, class A = ArrayOf<Face>>
std::tuple<A, A> rescore(const Face& face, const A& keypoints, const A& count, const A& votes, const A& heatmap,
                         int64_t stride, int64_t vote_cell, double radius, const Reals& kappa, bool oks_cell) {
  require_rank<Face>(heatmap, "heatmap", 4, "[N, P, h, w]");
  require_rank<Face>(keypoints, "keypoints", 4, "[N, K, P, 2]");
  const int64_t n = Face::extent(heatmap, 0), p = Face::extent(heatmap, 1), h = Face::extent(heatmap, 2),
                w = Face::extent(heatmap, 3);
  const int64_t room = Face::extent(keypoints, 1);
  require_keypoints("heatmap", p);
  Params params{};
  params.vote_cell = checked("vote_cell", vote_cell, 1, 1024);
  params.radius = checked("radius", radius, 1.0, 4096.0);
  params.max_candidates = checked("keypoints", room, 1, 65536);
  params.oks_cell = oks_cell;
  set_kappa(kappa, p, params);
  const Shape shape = shape_of_votes<Face>(votes, "heatmap", h, w, stride, params);
  const int64_t* map =
      contiguous<Face, int64_t>(votes, "votes", Type::int64, {n, p, Face::extent(votes, 2), Face::extent(votes, 3)});
  require_votes(map, n * p, Face::extent(votes, 2) * Face::extent(votes, 3));
  const Point* points = contiguous<Face, Point>(keypoints, "keypoints", Type::float32, {n, room, p, 2});
  // Keypoints index the score map, so they must lie in the image as trace leaves them.
  const float right = float((Face::extent(votes, 3) - 1) * vote_grid(shape, params).cell);
  const float bottom = float((Face::extent(votes, 2) - 1) * vote_grid(shape, params).cell);
  for (int64_t i = 0; i < n * room * p; ++i) {
    require(points[i].x >= 0.0f && points[i].x <= right && points[i].y >= 0.0f && points[i].y <= bottom,
            "keypoints: expected positions in the image, got (", points[i].x, ", ", points[i].y, ")");
  }
  const int32_t* counts = indices<Face>(count, "count", {n}, 0, room);
  const View heatmap_view = head<Face>(heatmap, "heatmap", heatmap, {n, p, h, w});
  std::tuple result{Face::template make<float>({n, room, p}), Face::template make<float>({n, room})};
  [[maybe_unused]] const typename Face::Release release;
  cpu::rescore(points, counts, map, heatmap_view, shape, int(p), params, out<float, Face>(std::get<0>(result)),
               out<float, Face>(std::get<1>(result)), face.parallel());
  return result;
}

template <class Face, class A = ArrayOf<Face>>
std::tuple<A, A, A, A> select(const Face& face, const A& candidate, const A& count, const A& keypoints,
                              const A& keypoint_score, const A& score, double instance_threshold, double nms_radius,
                              double nms_radius_min, double nms_relative, double box_iou, int64_t max_instances) {
  require_rank<Face>(keypoints, "keypoints", 4, "[N, K, P, 2]");
  const int64_t n = Face::extent(keypoints, 0), p = Face::extent(keypoints, 2), m = max_instances;
  require_keypoints("keypoints", p);
  const Shape shape = make_shape(n, 1, 1, 1, 1, 1, 1, {"keypoints", "size"});
  Params params{};
  set_grouping(instance_threshold, nms_radius, nms_radius_min, nms_relative, box_iou, params);
  params.max_instances = places("max_instances", max_instances, shape);
  const Candidate* seeds = candidates<Face>(candidate, count, p, params);
  const int64_t room = params.max_candidates;
  const int32_t* counts = indices<Face>(count, "count", {n}, 0, room);
  const Point* points = contiguous<Face, Point>(keypoints, "keypoints", Type::float32, {n, room, p, 2});
  const float* own_scores = contiguous<Face, float>(keypoint_score, "keypoint_score", Type::float32, {n, room, p});
  const float* scores = contiguous<Face, float>(score, "score", Type::float32, {n, room});
  for (int64_t i = 0; i < n * room * p; ++i) {  // a NaN has no place in an order
    require(own_scores[i] == own_scores[i], "keypoint_score: expected no NaN, got nan");
    require(scores[i / p] == scores[i / p], "score: expected no NaN, got nan");
  }
  std::tuple result{Face::template make<float>({n, m, p, 2}), Face::template make<float>({n, m}),
                    Face::template make<int32_t>({n}), Face::template make<bool>({n})};
  bool* truncated = out<bool, Face>(std::get<3>(result));
  std::fill(truncated, truncated + n, false);
  const A scratch = Face::template make<uint8_t>({cpu::select_scratch_bytes(shape, int(p), params)});
  [[maybe_unused]] const typename Face::Release release;
  const auto closure = std::make_pair(scores, room);
  const cpu::InstanceScore score_of{[](const void* given, int64_t image, int32_t i) {
                                      const auto& [values, length] = *static_cast<const decltype(closure)*>(given);
                                      return values[image * length + i];
                                    },
                                    &closure};
  cpu::select(seeds, counts, points, own_scores, score_of, shape, int(p), params, out<Point, Face>(std::get<0>(result)),
              out<float, Face>(std::get<1>(result)), out<int32_t, Face>(std::get<2>(result)), truncated,
              out<char, Face>(scratch), face.parallel());
  return result;
}

template <class Face, class A = ArrayOf<Face>>
std::tuple<A, A, A> assign(const Face& face, const A& target, const A& node_label, const A& label, const A& keypoints,
                           const A& count, const Ints& things, int64_t stride, double max_distance) {
  require_rank<Face>(target, "target", 5, "[N, P, h, w, 2]");
  require_rank<Face>(label, "label", 3, "[N, H, W]");
  require_rank<Face>(keypoints, "keypoints", 4, "[N, M, P, 2]");
  const int64_t n = Face::extent(target, 0), p = Face::extent(target, 1), h = Face::extent(target, 2),
                w = Face::extent(target, 3);
  const int64_t m = Face::extent(keypoints, 1), height = Face::extent(label, 1), width = Face::extent(label, 2);
  require_keypoints("target", p);
  const Shape shape = make_shape(n, max_classes, h, w, stride, height, width, {"target", "label"});
  Params params{};
  params.max_instances = checked("keypoints", m, 1, 65535);
  params.max_distance2 = greatest_distance2(max_distance, p);
  const Point* targets = contiguous<Face, Point>(target, "target", Type::float32, {n, p, h, w, 2});
  const Point* points = contiguous<Face, Point>(keypoints, "keypoints", Type::float32, {n, m, p, 2});
  const int32_t* node_labels = indices<Face>(node_label, "node_label", {n, h, w}, -1, max_classes - 1);
  const int32_t* labels = indices<Face>(label, "label", {n, height, width}, -1, max_classes - 1);
  const int32_t* counts = indices<Face>(count, "count", {n}, 0, m);
  std::tuple result{Face::template make<int32_t>({n, h, w}), Face::template make<float>({n, h, w}),
                    Face::template make<int32_t>({n, height, width})};
  const A scratch = Face::template make<uint8_t>({cpu::assign_scratch_bytes(shape, int(p), params)});
  const EveryNode<Face> every(face, shape);
  [[maybe_unused]] const typename Face::Release release;
  cpu::assign(targets, every.nodes, node_labels, labels, false, points, counts, make_things(things, max_classes), shape,
              int(p), params, out<int32_t, Face>(std::get<0>(result)), out<float, Face>(std::get<1>(result)),
              out<int32_t, Face>(std::get<2>(result)), out<char, Face>(scratch), face.parallel());
  return result;
}

template <class Face, class A = ArrayOf<Face>>
std::tuple<A, A, A, A> merge(const Face& face, const A& label, const A& instance, const A& node_label,
                             const A& node_instance, const A& node_distance, const A& keypoints, const A& count,
                             const Ints& things, int64_t num_classes, double radius, double fit_area,
                             bool majority_all) {
  require_rank<Face>(label, "label", 3, "[N, H, W]");
  require_rank<Face>(node_label, "node_label", 3, "[N, h, w]");
  require_rank<Face>(keypoints, "keypoints", 4, "[N, M, P, 2]");
  const int64_t n = Face::extent(label, 0), height = Face::extent(label, 1), width = Face::extent(label, 2);
  const int64_t h = Face::extent(node_label, 1), w = Face::extent(node_label, 2), m = Face::extent(keypoints, 1),
                p = Face::extent(keypoints, 2);
  require_keypoints("keypoints", p);
  const Shape shape = make_shape(n, num_classes, h, w, max_stride, height, width, {"node_label", "label"});
  Params params{};
  params.radius = checked("radius", radius, 1.0, 4096.0);
  params.fit_area = float(checked("fit_area", fit_area, 0.0, 1e6));
  params.majority_all = majority_all;
  params.max_instances = places("keypoints", m, shape);
  const int32_t* labels = indices<Face>(label, "label", {n, height, width}, -1, num_classes - 1);
  const int32_t* counts = indices<Face>(count, "count", {n}, 0, m);
  const int32_t* instances = indices<Face>(instance, "instance", {n, height, width}, 0, m);
  const int32_t* node_labels = indices<Face>(node_label, "node_label", {n, h, w}, -1, num_classes - 1);
  const int32_t* node_instances = indices<Face>(node_instance, "node_instance", {n, h, w}, 0, m);
  require_found("instance", instances, height * width, counts, n);
  require_found("node_instance", node_instances, h * w, counts, n);
  const float* distances = contiguous<Face, float>(node_distance, "node_distance", Type::float32, {n, h, w});
  const Point* points = contiguous<Face, Point>(keypoints, "keypoints", Type::float32, {n, m, p, 2});
  std::tuple result{Face::template make<int32_t>({n, height, width}), Face::template make<int32_t>({n, m}),
                    Face::template make<int32_t>({n, m}), Face::template make<int32_t>({n, num_classes})};
  const A scratch = Face::template make<uint8_t>({cpu::merge_scratch_bytes(shape, params)});
  const EveryNode<Face> every(face, shape);
  [[maybe_unused]] const typename Face::Release release;
  cpu::merge(labels, instances, node_labels, node_instances, distances, every.nodes, false, points, counts,
             make_things(things, num_classes), shape, int(p), params, out<int32_t, Face>(std::get<0>(result)),
             out<int32_t, Face>(std::get<1>(result)), out<int32_t, Face>(std::get<2>(result)),
             out<int32_t, Face>(std::get<3>(result)), out<char, Face>(scratch), face.parallel());
  return result;
}

}  // namespace deeperlab::binding
