// SPDX-License-Identifier: Apache-2.0
// One op for each stage, on the CPU: for tests, for benchmarks, and for those who replace a stage of their own.
#include <limits>

#include "tensors.h"

namespace deeperlab::binding {
namespace {

// The image that a score map of rows × columns vote cells was made for, up to the last cell's rest.
Shape shape_of_votes(const Tensor& votes, int64_t h, int64_t w, int64_t stride, const Params& params) {
  require(votes.dim() == 4 && votes.size(2) >= 2 && votes.size(3) >= 2,
          "votes: expected shape [N, P, rows >= 2, columns >= 2]");
  const int64_t cell = std::max<int64_t>(stride, params.vote_cell);
  const int64_t rows = votes.size(2), columns = votes.size(3);
  require(rows <= max_side && columns <= max_side, "votes: expected at most 2^20 rows and columns");
  return make_shape(votes.size(0), 1, h, w, stride, (rows - 2) * cell + 1, (columns - 2) * cell + 1);
}

void require_pair(const char* name, const Ints& pair) {
  require(pair.size() == 2, name, ": expected two integers, got ", pair.size());
}

std::tuple<Tensor, Tensor> argmax(const Tensor& semantic, int64_t num_classes, int64_t stride, const Ints& nodes,
                                  const Ints& size) {
  require_pair("nodes", nodes);
  require_pair("size", size);
  require(semantic.dim() >= 3, "semantic: expected [N, C, h, w] logits or [N, H, W] labels");
  const int64_t n = semantic.size(0);
  const Shape shape = make_shape(n, num_classes, nodes[0], nodes[1], stride, size[0], size[1]);
  const View view = semantic_view(semantic, semantic, shape);
  std::tuple result{allocate({n, shape.h, shape.w}, ScalarType::Int),
                    allocate({n, shape.height, shape.width}, ScalarType::Int)};
  cpu::argmax(view, shape, out<int32_t>(std::get<0>(result)), out<int32_t>(std::get<1>(result)), torch_threads());
  return result;
}

Tensor refine(const Tensor& long_range, const Tensor& short_range, int64_t stride, int64_t long_steps,
              int64_t long_short_steps) {
  require(long_range.dim() == 4, "long_range: expected shape [N, 2P, h, w]");
  const int64_t n = long_range.size(0), p = long_range.size(1) / 2, h = long_range.size(2), w = long_range.size(3);
  require_range("keypoints", p, 1, max_keypoints);
  const Shape shape = make_shape(n, 1, h, w, stride, 1, 1);
  Params params{};
  params.long_steps = checked("long_steps", long_steps, 0, 64);
  params.long_short_steps = checked("long_short_steps", long_short_steps, 0, 64);
  const View long_view = head(long_range, "long_range", long_range, {n, 2 * p, h, w});
  const View short_view = head(short_range, "short_range", long_range, {n, 2 * p, h, w});
  Tensor target = allocate({n, p, h, w, 2}, ScalarType::Float);
  cpu::refine(long_view, short_view, shape, int(p), params, out<Point>(target), torch_threads());
  return target;
}

Tensor vote(const Tensor& heatmap, const Tensor& short_range, const Tensor& target, const Tensor& node_label,
            const Ints& things, int64_t stride, const Ints& size, int64_t vote_cell, double short_weight,
            double long_weight, bool all_voters) {
  require_pair("size", size);
  require(heatmap.dim() == 4, "heatmap: expected shape [N, P, h, w]");
  const int64_t n = heatmap.size(0), p = heatmap.size(1), h = heatmap.size(2), w = heatmap.size(3);
  require_range("keypoints", p, 1, max_keypoints);
  const Shape shape = make_shape(n, max_classes, h, w, stride, size[0], size[1]);
  Params params{};
  params.vote_cell = checked("vote_cell", vote_cell, 1, 1024);
  params.short_weight = weight256("short_weight", short_weight);
  params.long_weight = weight256("long_weight", long_weight);
  params.all_voters = all_voters;
  const View heatmap_view = head(heatmap, "heatmap", heatmap, {n, p, h, w});
  const View short_view = head(short_range, "short_range", heatmap, {n, 2 * p, h, w});
  const Point* targets = array<Point>(target, "target", ScalarType::Float, {n, p, h, w, 2});
  const int32_t* labels = indices(node_label, "node_label", {n, h, w}, -1, max_classes - 1);
  const VoteGrid grid = vote_grid(shape, params);
  Tensor votes = allocate({n, p, grid.rows, grid.columns}, ScalarType::Long);
  const Tensor scratch = allocate({cpu::vote_scratch_bytes(shape, int(p), params)}, ScalarType::Byte);
  cpu::vote(heatmap_view, short_view, targets, labels, make_things(things, max_classes), shape, int(p), params,
            out<int64_t>(votes), out<char>(scratch), torch_threads());
  return votes;
}

std::tuple<Tensor, Tensor, Tensor, Tensor> peaks(const Tensor& votes, int64_t stride, const Ints& nodes,
                                                 int64_t vote_cell, double radius, double threshold,
                                                 int64_t max_candidates) {
  require_pair("nodes", nodes);
  Params params{};
  params.vote_cell = checked("vote_cell", vote_cell, 1, 1024);
  params.radius = checked("radius", radius, 1.0, 4096.0);
  params.peak_threshold = checked("threshold", threshold, 0.0, 1e6);
  params.max_candidates = checked("max_candidates", max_candidates, 1, 65536);
  const Shape shape = shape_of_votes(votes, nodes[0], nodes[1], stride, params);
  const int64_t n = votes.size(0), p = votes.size(1), room = max_candidates;
  require_range("keypoints", p, 1, max_keypoints);
  const int64_t* map = array<int64_t>(votes, "votes", ScalarType::Long, {n, p, votes.size(2), votes.size(3)});
  std::tuple result{allocate({n, room, 3}, ScalarType::Int), allocate({n, room, 2}, ScalarType::Float),
                    allocate({n}, ScalarType::Int), allocate({n}, ScalarType::Bool)};
  const Tensor scratch = allocate({cpu::peaks_scratch_bytes(shape, int(p), params)}, ScalarType::Byte);
  cpu::peaks(map, shape, int(p), params, out<Candidate>(std::get<0>(result)), out<Point>(std::get<1>(result)),
             out<int32_t>(std::get<2>(result)), out<bool>(std::get<3>(result)), out<char>(scratch), torch_threads());
  return result;
}

// Candidates of kinds 0 .. P − 1 (−1 past the count), as many as `count` says.
const Candidate* candidates(const Tensor& candidate, const Tensor& count, int64_t p, Params& params) {
  require(candidate.dim() == 3, "candidate: expected shape [N, K, 3]");
  const int64_t n = candidate.size(0), room = candidate.size(1);
  params.max_candidates = checked("max_candidates", room, 1, 65536);
  const int32_t* counts = indices(count, "count", {n}, 0, room);
  const int32_t* kinds = array<int32_t>(candidate, "candidate", ScalarType::Int, {n, room, 3});
  for (int64_t i = 0; i < n * room; ++i) {
    require(i % room >= counts[i / room] || (kinds[3 * i] >= 0 && kinds[3 * i] < p),
            "candidate: expected kinds in [0, ", p, "), got ", kinds[3 * i]);
  }
  return reinterpret_cast<const Candidate*>(kinds);
}

Tensor trace(const Tensor& position, const Tensor& candidate, const Tensor& count, const Tensor& middle_range,
             const Tensor& short_range, const Ints& edges, int64_t stride, const Ints& size, int64_t middle_steps) {
  require_pair("size", size);
  require(short_range.dim() == 4, "short_range: expected shape [N, 2P, h, w]");
  const int64_t n = short_range.size(0), p = short_range.size(1) / 2, h = short_range.size(2), w = short_range.size(3);
  const Graph graph = make_graph(p, edges);
  const Shape shape = make_shape(n, 1, h, w, stride, size[0], size[1]);
  Params params{};
  params.middle_steps = checked("middle_steps", middle_steps, 0, 64);
  const Candidate* seeds = candidates(candidate, count, p, params);
  const int64_t room = params.max_candidates;
  const int32_t* counts = indices(count, "count", {n}, 0, room);
  const Point* positions = array<Point>(position, "position", ScalarType::Float, {n, room, 2});
  const View middle_view = head(middle_range, "middle_range", short_range, {n, 2 * int64_t(graph.edges), h, w});
  const View short_view = head(short_range, "short_range", short_range, {n, 2 * p, h, w});
  Tensor keypoints = allocate({n, room, p, 2}, ScalarType::Float);
  cpu::trace(seeds, positions, counts, middle_view, short_view, graph, shape, params, out<Point>(keypoints),
             torch_threads());
  return keypoints;
}

std::tuple<Tensor, Tensor> rescore(const Tensor& keypoints, const Tensor& count, const Tensor& votes,
                                   const Tensor& heatmap, int64_t stride, int64_t vote_cell, double radius,
                                   const Reals& kappa, bool oks_cell) {
  require(heatmap.dim() == 4, "heatmap: expected shape [N, P, h, w]");
  require(keypoints.dim() == 4, "keypoints: expected shape [N, K, P, 2]");
  const int64_t n = heatmap.size(0), p = heatmap.size(1), h = heatmap.size(2), w = heatmap.size(3);
  const int64_t room = keypoints.size(1);
  require_range("keypoints", p, 1, max_keypoints);
  Params params{};
  params.vote_cell = checked("vote_cell", vote_cell, 1, 1024);
  params.radius = checked("radius", radius, 1.0, 4096.0);
  params.max_candidates = checked("max_candidates", room, 1, 65536);
  params.oks_cell = oks_cell;
  set_kappa(kappa, p, params);
  const Shape shape = shape_of_votes(votes, h, w, stride, params);
  const int64_t* map = array<int64_t>(votes, "votes", ScalarType::Long, {n, p, votes.size(2), votes.size(3)});
  const Point* points = array<Point>(keypoints, "keypoints", ScalarType::Float, {n, room, p, 2});
  // Keypoints index the score map, so they must lie in the image as trace leaves them.
  const float right = float((votes.size(3) - 1) * vote_grid(shape, params).cell);
  const float bottom = float((votes.size(2) - 1) * vote_grid(shape, params).cell);
  for (int64_t i = 0; i < n * room * p; ++i) {
    require(points[i].x >= 0.0f && points[i].x <= right && points[i].y >= 0.0f && points[i].y <= bottom,
            "keypoints: expected positions in the image, got (", points[i].x, ", ", points[i].y, ")");
  }
  const int32_t* counts = indices(count, "count", {n}, 0, room);
  const View heatmap_view = head(heatmap, "heatmap", heatmap, {n, p, h, w});
  std::tuple result{allocate({n, room, p}, ScalarType::Float), allocate({n, room}, ScalarType::Float)};
  cpu::rescore(points, counts, map, heatmap_view, shape, int(p), params, out<float>(std::get<0>(result)),
               out<float>(std::get<1>(result)), torch_threads());
  return result;
}

std::tuple<Tensor, Tensor, Tensor, Tensor> select(const Tensor& candidate, const Tensor& count, const Tensor& keypoints,
                                                  const Tensor& keypoint_score, const Tensor& score,
                                                  double instance_threshold, double nms_radius, double nms_radius_min,
                                                  double nms_relative, double box_iou, int64_t max_instances) {
  require(keypoints.dim() == 4, "keypoints: expected shape [N, K, P, 2]");
  const int64_t n = keypoints.size(0), p = keypoints.size(2), m = max_instances;
  require_range("keypoints", p, 1, max_keypoints);
  const Shape shape = make_shape(n, 1, 1, 1, 1, 1, 1);
  Params params{};
  params.instance_threshold = float(instance_threshold);
  params.nms_radius2 = square(nms_radius);
  params.nms_radius_min2 = square(nms_radius_min);
  params.nms_relative2 = square(nms_relative);
  params.box_iou = float(box_iou);
  params.max_instances = places(max_instances, shape);
  const Candidate* seeds = candidates(candidate, count, p, params);
  const int64_t room = params.max_candidates;
  const int32_t* counts = indices(count, "count", {n}, 0, room);
  const Point* points = array<Point>(keypoints, "keypoints", ScalarType::Float, {n, room, p, 2});
  const float* own_scores = array<float>(keypoint_score, "keypoint_score", ScalarType::Float, {n, room, p});
  const float* scores = array<float>(score, "score", ScalarType::Float, {n, room});
  for (int64_t i = 0; i < n * room * p; ++i) {  // a NaN has no place in an order
    require(own_scores[i] == own_scores[i] && scores[i / p] == scores[i / p], "score: expected no NaN");
  }
  std::tuple result{allocate({n, m, p, 2}, ScalarType::Float), allocate({n, m}, ScalarType::Float),
                    allocate({n}, ScalarType::Int), allocate({n}, ScalarType::Bool)};
  bool* truncated = out<bool>(std::get<3>(result));
  std::fill(truncated, truncated + n, false);
  const Tensor scratch = allocate({cpu::select_scratch_bytes(shape, params)}, ScalarType::Byte);
  cpu::select(seeds, counts, points, own_scores, scores, shape, int(p), params, out<Point>(std::get<0>(result)),
              out<float>(std::get<1>(result)), out<int32_t>(std::get<2>(result)), truncated, out<char>(scratch),
              torch_threads());
  return result;
}

std::tuple<Tensor, Tensor, Tensor> assign(const Tensor& target, const Tensor& node_label, const Tensor& label,
                                          const Tensor& keypoints, const Tensor& count, const Ints& things,
                                          int64_t stride, double max_distance) {
  require(target.dim() == 5, "target: expected shape [N, P, h, w, 2]");
  require(label.dim() == 3, "label: expected shape [N, H, W]");
  require(keypoints.dim() == 4, "keypoints: expected shape [N, M, P, 2]");
  const int64_t n = target.size(0), p = target.size(1), h = target.size(2), w = target.size(3);
  const int64_t m = keypoints.size(1), height = label.size(1), width = label.size(2);
  require_range("keypoints", p, 1, max_keypoints);
  const Shape shape = make_shape(n, max_classes, h, w, stride, height, width);
  Params params{};
  params.max_instances = checked("max_instances", m, 1, 65535);
  params.max_distance2 = float(double(p) * (max_distance * max_distance));
  const Point* targets = array<Point>(target, "target", ScalarType::Float, {n, p, h, w, 2});
  const Point* points = array<Point>(keypoints, "keypoints", ScalarType::Float, {n, m, p, 2});
  const int32_t* node_labels = indices(node_label, "node_label", {n, h, w}, -1, max_classes - 1);
  const int32_t* labels = indices(label, "label", {n, height, width}, -1, max_classes - 1);
  const int32_t* counts = indices(count, "count", {n}, 0, m);
  std::tuple result{allocate({n, h, w}, ScalarType::Int), allocate({n, h, w}, ScalarType::Float),
                    allocate({n, height, width}, ScalarType::Int)};
  cpu::assign(targets, node_labels, labels, points, counts, make_things(things, max_classes), shape, int(p), params,
              out<int32_t>(std::get<0>(result)), out<float>(std::get<1>(result)), out<int32_t>(std::get<2>(result)),
              torch_threads());
  return result;
}

std::tuple<Tensor, Tensor, Tensor, Tensor> merge(const Tensor& label, const Tensor& instance, const Tensor& node_label,
                                                 const Tensor& node_instance, const Tensor& node_distance,
                                                 const Tensor& keypoints, const Tensor& count, const Ints& things,
                                                 int64_t num_classes, double radius, double fit_area,
                                                 bool majority_all) {
  require(label.dim() == 3, "label: expected shape [N, H, W]");
  require(node_label.dim() == 3, "node_label: expected shape [N, h, w]");
  require(keypoints.dim() == 4, "keypoints: expected shape [N, M, P, 2]");
  const int64_t n = label.size(0), height = label.size(1), width = label.size(2);
  const int64_t h = node_label.size(1), w = node_label.size(2), m = keypoints.size(1), p = keypoints.size(2);
  require_range("keypoints", p, 1, max_keypoints);
  const Shape shape = make_shape(n, num_classes, h, w, max_stride, height, width);
  Params params{};
  params.radius = checked("radius", radius, 1.0, 4096.0);
  params.fit_area = float(fit_area);
  params.majority_all = majority_all;
  params.max_instances = places(m, shape);
  const int32_t* labels = indices(label, "label", {n, height, width}, -1, num_classes - 1);
  const int32_t* counts = indices(count, "count", {n}, 0, m);
  const int32_t most = n == 0 ? 0 : *std::max_element(counts, counts + n);
  const int32_t* instances = indices(instance, "instance", {n, height, width}, 0, most);
  const int32_t* node_labels = indices(node_label, "node_label", {n, h, w}, -1, num_classes - 1);
  const int32_t* node_instances = indices(node_instance, "node_instance", {n, h, w}, 0, most);
  const float* distances = array<float>(node_distance, "node_distance", ScalarType::Float, {n, h, w});
  const Point* points = array<Point>(keypoints, "keypoints", ScalarType::Float, {n, m, p, 2});
  std::tuple result{allocate({n, height, width}, ScalarType::Int), allocate({n, m}, ScalarType::Int),
                    allocate({n, m}, ScalarType::Int), allocate({n, num_classes}, ScalarType::Int)};
  const Tensor scratch = allocate({cpu::merge_scratch_bytes(shape, params)}, ScalarType::Byte);
  cpu::merge(labels, instances, node_labels, node_instances, distances, points, counts,
             make_things(things, num_classes), shape, int(p), params, out<int32_t>(std::get<0>(result)),
             out<int32_t>(std::get<1>(result)), out<int32_t>(std::get<2>(result)), out<int32_t>(std::get<3>(result)),
             out<char>(scratch), torch_threads());
  return result;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(deeperlab, CPU, m) {
  m.impl("argmax", TORCH_BOX(&argmax));
  m.impl("refine", TORCH_BOX(&refine));
  m.impl("vote", TORCH_BOX(&vote));
  m.impl("peaks", TORCH_BOX(&peaks));
  m.impl("trace", TORCH_BOX(&trace));
  m.impl("rescore", TORCH_BOX(&rescore));
  m.impl("select", TORCH_BOX(&binding::select));
  m.impl("assign", TORCH_BOX(&assign));
  m.impl("merge", TORCH_BOX(&merge));
}

}  // namespace deeperlab::binding
