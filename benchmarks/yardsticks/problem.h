// SPDX-License-Identifier: Apache-2.0
// What both programs take and give: one image in row-major planes, numbers as FuseParams names them. plain.py lays out
// the same two structs.
#pragma once

#include <cstdint>
#include <vector>

#include "deeperlab/types.h"

struct Problem {
  const void* semantic;      // [C, h, w]
  const void* heatmap;       // [P, h, w]
  const void* short_range;   // [2P, h, w] px
  const void* middle_range;  // [2E, h, w] px
  const void* long_range;    // [2P, h, w] px
  const uint8_t* thing;      // [C]
  const int32_t* edges;      // [E, 2]
  int32_t is_half;           // heads are float16, else float32
  int32_t classes, keypoints, num_edges;
  int32_t h, w, stride;
  int32_t height, width;
  int32_t long_steps, long_short_steps, all_voters, vote_cell;
  int32_t max_candidates, middle_steps, oks_cell, max_instances, majority_all;
  double short_weight, long_weight, radius, peak_threshold, kappa, instance_threshold;
  double nms_radius, nms_radius_min, nms_relative, box_iou, max_distance, fit_area;
};

struct Answer {
  int32_t* semantic;    // [H, W]
  int32_t* instance;    // [H, W]
  float* keypoints;     // [M, P, 2] px
  float* score;         // [M]
  int32_t* category;    // [M]
  int32_t* area;        // [M]
  int32_t* class_area;  // [C]
  int32_t* count;       // [1]
  uint8_t* truncated;   // [1]
};

struct Point {
  float x, y;  // px
};

struct Candidate {
  int k, y, x;  // vote cell
  Point position;
  std::vector<Point> keypoints;
  std::vector<float> keypoint_score;
  float score;
};

struct Box {
  float x0, y0, x1, y1;  // px

  float area() const { return (x1 - x0) * (y1 - y0); }
};

inline Box box_of(const std::vector<Point>& keypoints) {
  Box box = {keypoints[0].x, keypoints[0].y, keypoints[0].x, keypoints[0].y};
  for (const Point& p : keypoints) {
    box.x0 = p.x < box.x0 ? p.x : box.x0;
    box.y0 = p.y < box.y0 ? p.y : box.y0;
    box.x1 = p.x > box.x1 ? p.x : box.x1;
    box.y1 = p.y > box.y1 ? p.y : box.y1;
  }
  return box;
}

// A head as float32; float16 is widened into `storage` first.
inline const float* widened(const Problem& in, const void* head, int channels, std::vector<float>& storage) {
  if (!in.is_half) {
    return static_cast<const float*>(head);
  }
  const auto* values = static_cast<const deeperlab::Half*>(head);
  storage.resize(size_t(channels) * in.h * in.w);
  for (size_t i = 0; i < storage.size(); ++i) {
    storage[i] = deeperlab::to_float(values[i]);
  }
  return storage.data();
}

// The edges that lead from a seed to all other keypoints, breadth-first.
inline std::vector<int> path_from(const Problem& in, int seed) {
  std::vector<int> reached = {seed}, path;
  for (size_t next = 0; next < reached.size(); ++next) {
    for (int e = 0; e < in.num_edges; ++e) {
      const int target = in.edges[2 * e + 1];
      bool known = false;
      for (const int k : reached) {
        known = known || k == target;
      }
      if (in.edges[2 * e] == reached[next] && !known) {
        reached.push_back(target);
        path.push_back(e);
      }
    }
  }
  return path;
}

// q >= 0 ? q : 0 first, so that NaN becomes 0.
inline float clamp(float q, float last) {
  q = q >= 0.0f ? q : 0.0f;
  return q <= last ? q : last;
}

// A neighbor of weight zero is not read.
inline float blend(float a, float b, float f) { return f == 0.0f ? a : a * (1.0f - f) + b * f; }

// Bilinear sample of a plane [h, w] at (x, y) nodes.
inline float sample(const float* field, int h, int w, float x, float y) {
  x = clamp(x, float(w - 1));
  y = clamp(y, float(h - 1));
  const int x0 = int(x), y0 = int(y);
  const float fx = x - float(x0), fy = y - float(y0);
  const int x1 = x0 + (fx > 0.0f), y1 = y0 + (fy > 0.0f);
  const float *upper = field + size_t(y0) * w, *lower = field + size_t(y1) * w;
  return blend(blend(upper[x0], upper[x1], fx), blend(lower[x0], lower[x1], fx), fy);
}

// q += offset number k of the planes [2P or 2E, h, w], so often.
inline Point follow(const float* fields, int k, Point q, int h, int w, float stride, int steps) {
  const size_t plane = size_t(h) * w;
  for (int step = 0; step < steps; ++step) {
    const float x = q.x / stride, y = q.y / stride;
    q.x += sample(fields + (2 * k) * plane, h, w, x, y);
    q.y += sample(fields + (2 * k + 1) * plane, h, w, x, y);
  }
  return q;
}
