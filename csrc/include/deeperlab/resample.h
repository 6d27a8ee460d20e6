// SPDX-License-Identifier: Apache-2.0
// resample: heads whose nodes have half-pixel centers, onto the nodes of the stages. Node i of a grid of half-pixel
// centers lies at pixel s·i + (s − 1)/2, ours at s·i; ours are one more along each axis, so that the image ends between
// the last two.
#pragma once

#include "deeperlab/values.h"
#include "deeperlab/view.h"

namespace deeperlab {

// What is resampled.
struct Resampling {
  View head;  // [N, channels, h, w]
  int64_t images, channels;
  int grid_h, grid_w, stride;
  bool offsets;  // channels 2k and 2k + 1 are the x and the y of offsets (px) from their node

  DEEPERLAB_HD int rows() const { return grid_h + 1; }
  DEEPERLAB_HD int columns() const { return grid_w + 1; }
};

// One of our nodes seen from the given ones, along one axis.
struct BetweenCenters {
  int node, before;   // given nodes
  float before_part;  // weight of `before`, [0, 1/2); the rest is that of `node`
  float moved;        // how far our node lies before its place among those that it is blended of, px
};

// Ours lie (s − 1)/2 px before the given node of the same number. The first and the last have a given node on one side
// only, and take it whole.
DEEPERLAB_HD inline BetweenCenters between_centers(int i, int nodes, int stride) {
  const float ahead = float(stride - 1) * 0.5f;  // px
  if (i == 0) {
    return {0, 0, 0.0f, ahead};
  }
  return i == nodes ? BetweenCenters{nodes - 1, nodes - 1, 0.0f, ahead - float(stride)}
                    : BetweenCenters{i, i - 1, ahead / float(stride), 0.0f};
}

// The part of a node that moves with it: an offset is keypoint − node, so it grows by as much as its node moves ahead.
// −0 adds nothing, not even to −0.
DEEPERLAB_HD inline float moved_by(const Resampling& of, int64_t channel, const BetweenCenters& row,
                                   const BetweenCenters& column) {
  return !of.offsets ? -0.0f : channel % 2 == 0 ? column.moved : row.moved;
}

// What a node of ours takes of `at`: the given node of its number, the ones before it to the left and above.
template <class V>
DEEPERLAB_HD inline V between_given(const CornersOf<V>& at, const V& left_part, const V& upper_part, float moved) {
  return interpolate<V>(at, left_part, upper_part) + moved;
}

// Node (y, x) of ours.
template <class T>
DEEPERLAB_HD inline float resample_node(const Resampling& of, int64_t n, int64_t channel, int y, int x) {
  const BetweenCenters row = between_centers(y, of.grid_h, of.stride),
                       column = between_centers(x, of.grid_w, of.stride);
  const Plane<T> at = of.head.plane<T>(n, channel);
  return between_given<float>({at(row.node, column.node), at(row.node, column.before), at(row.before, column.node),
                               at(row.before, column.before)},
                              column.before_part, row.before_part, moved_by(of, channel, row, column));
}

namespace cpu {

// out: [N, channels, h + 1, w + 1].
void resample(const Resampling& of, float* out, const Parallel& parallel);

}  // namespace cpu

namespace cuda {

// Nothing waits for the device. Returns what is wrong with it in words, or nullptr.
const char* resample(const Resampling& of, float* out, Stream stream);

}  // namespace cuda
}  // namespace deeperlab
