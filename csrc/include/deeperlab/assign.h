// SPDX-License-Identifier: Apache-2.0
// assign: every node, then every thing pixel, takes its instance (section 3.4).
#pragma once

#include "deeperlab/instance.h"
#include "deeperlab/values.h"

namespace deeperlab {

struct AssignParams {
  float max_distance2;  // greatest sum of P squared distances, px²; +inf: no cut-off
};

// Adds what one keypoint contributes to the distance between a node's predicted keypoints and an instance's (px²).
DEEPERLAB_HD inline float add_distance(float distance, Point predicted, Point keypoint) {
  return distance + squared_distance(predicted, keypoint);
}

// The least and the greatest that add_distance adds for predictions anywhere in a box, by the same operations: rounding
// is monotonic, so these bound the floats themselves.
DEEPERLAB_HD inline float add_least_distance(float distance, const Box& predicted, Point keypoint) {
  const float left = predicted.x0 - keypoint.x, right = keypoint.x - predicted.x1;
  const float above = predicted.y0 - keypoint.y, below = keypoint.y - predicted.y1;
  const float dx = left > right ? left : right, dy = above > below ? above : below;
  const Point outside{dx > 0.0f ? dx : 0.0f, dy > 0.0f ? dy : 0.0f};
  return distance + squared_distance(outside, {0.0f, 0.0f});
}

DEEPERLAB_HD inline float add_greatest_distance(float distance, const Box& predicted, Point keypoint) {
  const float left = keypoint.x - predicted.x0, right = predicted.x1 - keypoint.x;
  const float above = keypoint.y - predicted.y0, below = predicted.y1 - keypoint.y;
  const Point farthest{left > right ? left : right, above > below ? above : below};
  return distance + squared_distance(farthest, {0.0f, 0.0f});
}

// What a corner of a pixel's cell says. rank: how well it qualifies, see assign_pixel.
struct Corner {
  int32_t instance;
  float distance;
  int64_t weight;
  int rank;
};

// A thing pixel's instance from the corners of its cell. Eligible are the thing nodes of the pixel's own class
// (rank 2); if there are none, the thing nodes (1); if none, all (0); never a node without an instance. The instance
// with the largest summed bilinear weight wins, in integers; ties go to the one with the nearer eligible corner,
// then to the smaller number. 0: none is eligible, the pixel is an orphan. Interpolating the embedding instead would
// mix in meaningless offsets at every border.
DEEPERLAB_HD inline int32_t assign_pixel(const NodeMaps& nodes, const Things& things, int32_t label, Cell cell,
                                         int stride, int w) {
  Corner corners[4];
  int count = 0, best_rank = -1;
  for (int dy = 0; dy <= (cell.past_y > 0); ++dy) {
    for (int dx = 0; dx <= (cell.past_x > 0); ++dx) {
      const int64_t node = int64_t(cell.y + dy) * w + cell.x + dx;
      if (nodes.instance[node] > 0) {
        const int64_t weight =
            int64_t(dy ? cell.past_y : stride - cell.past_y) * (dx ? cell.past_x : stride - cell.past_x);
        const int rank = nodes.label[node] == label ? 2 : things.has(nodes.label[node]) ? 1 : 0;
        corners[count++] = {nodes.instance[node], nodes.distance[node], weight, rank};
        best_rank = rank > best_rank ? rank : best_rank;
      }
    }
  }
  Corner best{0, 0.0f, 0, 0};
  for (int i = 0; i < count; ++i) {
    if (corners[i].rank != best_rank) {
      continue;
    }
    Corner total = corners[i];  // each instance is summed up at each of its corners: at most four
    for (int j = 0; j < count; ++j) {
      if (j != i && corners[j].rank == best_rank && corners[j].instance == total.instance) {
        total.weight += corners[j].weight;
        total.distance = corners[j].distance < total.distance ? corners[j].distance : total.distance;
      }
    }
    const bool better = total.weight != best.weight       ? total.weight > best.weight
                        : total.distance != best.distance ? total.distance < best.distance
                                                          : total.instance < best.instance;
    best = better ? total : best;
  }
  return best.instance;
}

namespace cpu {

int64_t assign_scratch_bytes(const Problem& problem);

// targets, nodes.label, pixels.label, found -> nodes.instance, nodes.distance, pixels.instance. A node takes the
// instance of least distance, keypoints in index order; the first minimum wins, NaN never.
void assign(const Targets& targets, const Instances& found, const Problem& problem, const NodeMaps& nodes,
            const PixelMaps& pixels, void* scratch, const Parallel& parallel);

}  // namespace cpu

namespace cuda {

// Which nodes have a target, and which are asked for an instance; the others have none.
struct Asked {
  const Point* target;    // [N, P, h, w] of thing nodes (of all, if all cast long votes)
  const uint8_t* speaks;  // [N, h, w] 1: asked though it may be no thing, argmax.h
  const int32_t* far;     // 1: all are asked, refine.h
  bool all;               // all are asked
};

// For nodes; pixels follow in merge.
void assign(const Heads& heads, const Problem& problem, const Asked& asked, const Instances& found,
            const NodeMaps& nodes, Stream stream);

}  // namespace cuda
}  // namespace deeperlab
