// SPDX-License-Identifier: Apache-2.0
// Arguments of both bindings -> the engine's structs, checked. std::invalid_argument becomes a Python ValueError.
#pragma once

#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "deeperlab/fuse.h"

namespace deeperlab::binding {

using Ints = std::vector<int64_t>;
using Reals = std::vector<double>;

template <class... Parts>
void require(bool holds, const Parts&... parts) {
  if (!holds) {
    std::ostringstream message;
    (message << ... << parts);
    throw std::invalid_argument(message.str());
  }
}

inline void require_range(const char* name, int64_t value, int64_t low, int64_t high) {
  require(value >= low && value <= high, name, ": expected ", low, " to ", high, ", got ", value);
}

inline std::string text(const int64_t* sizes, size_t count) {
  std::ostringstream out;
  out << '[';
  for (size_t i = 0; i < count; ++i) {
    out << (i == 0 ? "" : ", ") << sizes[i];
  }
  out << ']';
  return out.str();
}

// Which arguments of a call say how many nodes and how many pixels there are.
struct Names {
  const char *nodes = "heatmap", *size = "size";
};

// h × w nodes, `stride` px apart, under a height × width image. No bound is a habit: beyond it an index or a
// fixed-point sum would leave its type.
inline Shape make_shape(int64_t images, int64_t classes, int64_t h, int64_t w, int64_t stride, int64_t height,
                        int64_t width, Names names = {}) {
  require_range("num_classes", classes, 1, max_classes);
  require(h >= 1 && w >= 1, names.nodes, ": expected at least 1 x 1 nodes, got ", h, " x ", w);
  require(h <= max_nodes && w <= max_nodes && h * w <= max_nodes, names.nodes,
          ": expected at most 2^24 nodes in one image (the fixed point of the votes), got ", h, " x ", w);
  require_range("stride", stride, 1, max_stride);
  require(height >= 1 && height <= stride * h && width >= 1 && width <= stride * w, names.size,
          ": expected 1 to stride * h = ", stride * h, " by 1 to stride * w = ", stride * w, " pixels, got ", height,
          " x ", width);
  require(height <= max_side && width <= max_side && height * width <= max_pixels, names.size,
          ": expected at most 2^20 pixels a side and 2^31 - 1 in all, got ", height, " x ", width);
  require(images <= 0x7fffffff / 4, names.nodes, ": expected fewer than 2^29 images, got ", images);
  return {int(images), int(classes), int(h), int(w), int(stride), int(height), int(width)};
}

inline Things make_things(const Ints& ids, int64_t classes) {
  Things things{};
  for (const int64_t id : ids) {
    require(id >= 0 && id < classes, "things: expected class ids in [0, ", classes, "), got ", id);
    things.words[id >> 5] |= 1u << (id & 31);
  }
  return things;
}

inline void require_keypoints(const char* name, int64_t keypoints) {
  require(keypoints >= 1 && keypoints <= max_keypoints, name, ": expected 1 to ", max_keypoints, " keypoints, got ",
          keypoints);
}

// edges: source, target, source, target, ...
inline Graph make_graph(const char* name, int64_t keypoints, const Ints& edges) {
  require_keypoints(name, keypoints);
  require(edges.size() % 2 == 0 && edges.size() / 2 <= size_t(max_edges), "edges: expected at most ", max_edges,
          " pairs, got ", edges.size(), " numbers");
  Graph graph{int(keypoints), int(edges.size() / 2), {}, {}};
  for (int e = 0; e < graph.edges; ++e) {
    for (const int64_t end : {edges[2 * e], edges[2 * e + 1]}) {
      require(end >= 0 && end < keypoints, "edges: expected keypoints in [0, ", keypoints, "), got ", end);
    }
    graph.source[e] = uint8_t(edges[2 * e]);
    graph.target[e] = uint8_t(edges[2 * e + 1]);
  }
  Paths paths;
  require(breadth_first_paths(graph, paths), "edges: expected every keypoint to be reachable from every other, got ",
          text(edges.data(), edges.size()));
  return graph;
}

// Bounds of the parameters that index memory or enter a fixed-point sum; params.py states and explains them all.
inline int checked(const char* name, int64_t value, int64_t low, int64_t high) {
  require_range(name, value, low, high);
  return int(value);
}

inline double checked(const char* name, double value, double low, double high) {
  require(value >= low && value <= high, name, ": expected ", low, " to ", high, ", got ", value);  // NaN fails
  return value;
}

inline int weight256(const char* name, double weight) {
  const double scaled = checked(name, weight, 0.0, 8.0) * 256.0;
  require(scaled == std::floor(scaled), name, ": expected a multiple of 1/256, got ", weight);
  return int(scaled);
}

inline void set_grouping(double instance_threshold, double nms_radius, double nms_radius_min, double nms_relative,
                         double box_iou, Params& params) {
  const auto square = [](const char* name, double value, double high) {
    value = checked(name, value, 0.0, high);
    return float(value * value);
  };
  params.instance_threshold = float(checked("instance_threshold", instance_threshold, 0.0, 1.0));
  params.nms_radius2 = square("nms_radius", nms_radius, 1e6);
  params.nms_radius_min2 = square("nms_radius_min", nms_radius_min, 1e6);
  params.nms_relative2 = square("nms_relative", nms_relative, 1e3);
  params.box_iou = float(checked("box_iou", box_iou, 0.0, 1.0));
}

// +inf: no cut-off.
inline float greatest_distance2(double max_distance, int64_t keypoints) {
  require(max_distance >= 0.0, "max_distance: expected at least 0, got ", max_distance);  // NaN fails
  const double distance2 = double(keypoints) * (max_distance * max_distance);
  return distance2 > double(std::numeric_limits<float>::max()) ? std::numeric_limits<float>::infinity()
                                                               : float(distance2);
}

inline void set_kappa(const Reals& kappa, int64_t keypoints, Params& params) {
  require(int64_t(kappa.size()) == keypoints && keypoints <= max_keypoints, "kappa: expected ", keypoints,
          " values, one per keypoint, got ", kappa.size());
  for (int64_t k = 0; k < keypoints; ++k) {
    params.kappa[k] = float(checked("kappa", kappa[size_t(k)], 1e-4, 1e4));
  }
}

inline int places(const char* name, int64_t max_instances, const Shape& shape) {
  require_range(name, max_instances, 1, 65535);
  require((max_instances + 1) * shape.classes <= max_ballots, name, ": expected (max_instances + 1) * ",
          "num_classes to be at most 2^28 (the ballots of the majority vote), got ", max_instances, " and ",
          shape.classes);
  return int(max_instances);
}

// The parameters of a whole fusion, in the order of the fuse op and of FuseParams.
inline Params make_params(const Shape& shape, const Graph& graph, int64_t long_steps, int64_t long_short_steps,
                          bool all_voters, int64_t vote_cell, double short_weight, double long_weight, double radius,
                          double peak_threshold, int64_t max_candidates, int64_t middle_steps, const Reals& kappa,
                          bool oks_cell, double instance_threshold, double nms_radius, double nms_radius_min,
                          double nms_relative, double box_iou, int64_t max_instances, double max_distance,
                          bool majority_all, double fit_area) {
  Params params{};
  params.long_steps = checked("long_steps", long_steps, 0, 64);
  params.long_short_steps = checked("long_short_steps", long_short_steps, 0, 64);
  params.all_voters = all_voters;
  params.vote_cell = checked("vote_cell", vote_cell, 1, 1024);
  params.short_weight = weight256("short_weight", short_weight);
  params.long_weight = weight256("long_weight", long_weight);
  params.radius = checked("radius", radius, 1.0, 4096.0);
  params.peak_threshold = checked("peak_threshold", peak_threshold, 0.0, 1e6);
  params.max_candidates = checked("max_candidates", max_candidates, 1, 65536);
  params.middle_steps = checked("middle_steps", middle_steps, 0, 64);
  set_kappa(kappa, graph.keypoints, params);
  params.oks_cell = oks_cell;
  set_grouping(instance_threshold, nms_radius, nms_radius_min, nms_relative, box_iou, params);
  params.max_instances = places("max_instances", max_instances, shape);
  params.max_distance2 = greatest_distance2(max_distance, graph.keypoints);
  params.majority_all = majority_all;
  params.fit_area = float(checked("fit_area", fit_area, 0.0, 1e6));
  return params;
}

}  // namespace deeperlab::binding
