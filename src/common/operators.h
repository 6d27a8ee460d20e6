// SPDX-License-Identifier: Apache-2.0
// The operators: what each takes and gives. Their parameters follow from the table of parameters.h.
#pragma once

#include <algorithm>

#include "parameters.h"

namespace deeperlab::binding {

// What an operator takes by keyword.
struct Option {
  std::string name;
  Kind kind;
  const Parameter* parameter;  // null: of the problem, not of the table
};

struct Operator {
  std::string name;
  std::vector<std::string> arrays;  // in order
  std::vector<Option> options;
  int results;

  // As torch writes it.
  std::string schema() const {
    std::ostringstream text;
    text << name << '(';
    for (const std::string& array : arrays) {
      text << "Tensor " << array << ", ";
    }
    text << '*';
    for (const Option& option : options) {
      text << ", " << kind_names[int(option.kind)] << ' ' << option.name;
    }
    text << ") -> ";
    for (int i = 0; i < results; ++i) {
      text << (i > 0 ? ", " : results > 1 ? "(" : "") << "Tensor";
    }
    text << (results > 1 ? ")" : "");
    return text.str();
  }
};

inline Kind kind_of_option(const std::string& name) {
  return name == "things" || name == "edges" || name == "stuff"                                    ? Kind::integers
         : name == "nodes" || name == "size"                                                       ? Kind::sizes
         : name == "offsets" || name == "after" || name == "probabilities" || name == "transposed" ? Kind::flag
         : name == "top_k" || name == "disk_radius" || name == "w1" || name == "w2"                ? Kind::real
         : name.rfind("sigma_", 0) == 0                                                            ? Kind::real
         : name == "mask_threshold" || name == "score_threshold" || name == "overlap_threshold"    ? Kind::real
         : name == "keypoints" || name == "paste"                                                  ? Kind::word
                                                                                                   : Kind::integer;
}

// N images, C classes, P keypoints, E edges, h × w nodes, H × W image, K = max_candidates, M = max_instances.
// docs/definition.md says what each computes; python/deeperlab/stages/reference.py has shapes and units.
inline const std::vector<Operator>& operators() {
  static const std::vector<Operator> all = [] {
    struct Signature {
      const char* name;
      std::vector<std::string> arrays, options;
      int results;
    };
    const Signature signatures[] = {
        // -> semantic, instance [N, H, W] int32; keypoints [N, M, P, 2] float32 (x, y in px); score [N, M] float32;
        //    category, area [N, M], class_area [N, C], count [N] int32; truncated [N] bool
        {"fuse",
         {"semantic", "heatmap", "short_range", "middle_range", "long_range"},
         {"things", "num_classes", "edges", "stride", "size"},
         9},
        // -> node_label [N, h, w], label [N, H, W] int32
        {"argmax", {"semantic"}, {"num_classes", "stride", "nodes", "size"}, 2},
        // -> target [N, P, h, w, 2] float32, (x, y) in px
        {"refine", {"long_range", "short_range"}, {"stride"}, 1},
        // -> votes [N, P, rows, columns] int64, in 1/256 of the fixed-point unit
        {"vote", {"heatmap", "short_range", "target", "node_label"}, {"things", "stride", "size"}, 1},
        // -> candidate [N, K, 3] int32 (kind, y, x), position [N, K, 2] float32 (px), count [N] int32, truncated [N]
        {"peaks", {"votes"}, {"stride", "nodes"}, 4},
        // -> keypoints [N, K, P, 2] float32 (px)
        {"trace", {"position", "candidate", "count", "middle_range", "short_range"}, {"edges", "stride", "size"}, 1},
        // -> keypoint_score [N, K, P], score [N, K] float32
        {"rescore", {"keypoints", "count", "votes", "heatmap"}, {"stride"}, 2},
        // -> keypoints [N, M, P, 2], score [N, M] float32, count [N] int32, truncated [N] bool
        {"select", {"candidate", "count", "keypoints", "keypoint_score", "score"}, {}, 4},
        // -> node_instance [N, h, w] int32, node_distance [N, h, w] float32 (px^2), instance [N, H, W] int32
        {"assign", {"target", "node_label", "label", "keypoints", "count"}, {"things", "stride"}, 3},
        // -> semantic [N, H, W], category, area [N, M], class_area [N, C] int32
        {"merge",
         {"label", "instance", "node_label", "node_instance", "node_distance", "keypoints", "count"},
         {"things", "num_classes"},
         4},
        // Before the stages, of a head [N, channels, h, w] on a half-pixel grid -> [N, channels, h + 1, w + 1] float32
        {"resample", {"head"}, {"stride", "offsets"}, 1},
        // For training -> loss [N], pixel_loss, log_sum [N, H, W] float32, cut [N, 3] int32
        {"semantic_loss", {"logits", "labels", "weight"}, {"stride", "top_k", "stuff"}, 4},
        // Its gradient -> [N, C, h, w] float32
        {"semantic_loss_backward",
         {"logits", "labels", "weight", "pixel_loss", "log_sum", "cut", "gradient"},
         {"stride", "stuff"},
         1},
        // For training, of ids [N, H, W], ignored pixels uint8 [N, H, W] or [0, 0, 0], and keypoints of whole objects
        // (ids
        // int64 [N, K], points int32 [N, K, P, 2] px); `keypoints` names places on a mask -> the fields of
        // deeperlab.targets.Targets, where I = max_instances; count [N] int32, or below 0 a Fault of encode.h
        {"encode",
         {"instance", "ignore", "ids", "points"},
         {"edges", "keypoints", "disk_radius", "stride", "max_instances"},
         11},
        // The top-down merge, of K detections: boxes [N, K, 4] px, scores [N, K] float32, labels [N, K] int32, masks
        // [N, K, m, m] of probabilities or [N, K, H, W] uint8; `stuff` are the classes of `semantic` that fill what is
        // left -> semantic, instance [N, H, W] int32; score [N, M] float32; category, area [N, M], class_area [N, C],
        // count [N] int32; truncated [N] bool
        {"top_down",
         {"semantic", "masks", "boxes", "scores", "labels"},
         {"things", "stuff", "num_classes", "stride", "size", "paste", "mask_threshold", "score_threshold",
          "overlap_threshold", "stuff_area", "max_instances"},
         8},
        // Probabilities by a fully connected CRF, of logits or probabilities [N, C, h, w] and an image uint8
        // [N, H, W, 3] -> [N, C, H, W] float32
        {"crf",
         {"semantic", "image"},
         {"stride", "w1", "sigma_alpha", "sigma_beta", "w2", "sigma_gamma", "iterations", "after", "probabilities"},
         1},
        // What its kernels say, of values [N, C, H, W] float32 -> [N, C, H, W] float32
        {"crf_filter",
         {"values", "image"},
         {"w1", "sigma_alpha", "sigma_beta", "w2", "sigma_gamma", "after", "transposed"},
         1},
    };
    std::vector<Operator> made;
    for (const Signature& signature : signatures) {
      Operator made_one{signature.name, signature.arrays, {}, signature.results};
      for (const std::string& option : signature.options) {
        made_one.options.push_back({option, kind_of_option(option), nullptr});
      }
      for (const Parameter& parameter : parameters()) {
        const auto is_this = [&](const char* stage) { return stage == made_one.name; };
        if (made_one.name == "fuse" || std::any_of(parameter.stages.begin(), parameter.stages.end(), is_this)) {
          made_one.options.push_back({parameter.name, parameter.kind, &parameter});
        }
      }
      made.push_back(made_one);
    }
    return made;
  }();
  return all;
}

inline const Operator& operator_named(const std::string& name) {
  return *std::find_if(operators().begin(), operators().end(),
                       [&](const Operator& candidate) { return candidate.name == name; });
}

}  // namespace deeperlab::binding
