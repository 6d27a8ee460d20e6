// SPDX-License-Identifier: Apache-2.0
// Keypoints, directed edges, and the breadth-first paths that lead from a seed to all others (section 3.4).
#pragma once

#include "deeperlab/types.h"

namespace deeperlab {

constexpr int max_keypoints = 32;
constexpr int max_edges = 256;

struct Graph {
  int keypoints, edges;
  uint8_t source[max_edges], target[max_edges];
};

// paths.edge[seed][0 .. keypoints − 2]: the edges from `seed` in the order they are followed.
struct Paths {
  uint8_t edge[max_keypoints][max_keypoints - 1];
};

// Breadth-first with a queue, a node's edges in index order. False: some keypoint cannot be reached.
inline bool breadth_first_paths(const Graph& graph, Paths& paths) {
  for (int seed = 0; seed < graph.keypoints; ++seed) {
    int queue[max_keypoints] = {seed};
    uint32_t reached = 1u << seed;
    int length = 1;
    for (int head = 0; head < length; ++head) {
      for (int e = 0; e < graph.edges; ++e) {
        const int target = graph.target[e];
        if (graph.source[e] == queue[head] && !(reached >> target & 1u)) {
          reached |= 1u << target;
          paths.edge[seed][length - 1] = uint8_t(e);
          queue[length++] = target;
        }
      }
    }
    if (length != graph.keypoints) {
      return false;
    }
  }
  return true;
}

}  // namespace deeperlab
