// SPDX-License-Identifier: Apache-2.0
// argmax: the class of every node and of every pixel (section 3.3, the semantic head).
#pragma once

#include "deeperlab/values.h"
#include "deeperlab/view.h"

namespace deeperlab {

// A running argmax over classes in any order. Ties go to the lower class, NaN counts as -inf, all -inf is class 0.
template <class V>
struct BestOf {
  V score = broadcast<V>(-infinity);
  IntOf<V> label{};

  DEEPERLAB_HD void offer(const V& value, int32_t candidate) {
    const IntOf<V> offered = broadcast<IntOf<V>>(candidate);
    const IntOf<V> among_equals = select(equal(value, score), minimum(offered, label), label);
    label = select(less(score, value), offered, among_equals);
    score = maximum(value, score);
  }
};
using Best = BestOf<float>;

// Where a pixel lies between the nodes, from integers: exact remainders, one division each.
DEEPERLAB_HD inline Between between_corners(Cell cell, int stride) {
  return {cell.y, cell.x, float(cell.past_y) / float(stride), float(cell.past_x) / float(stride)};
}

// Interpolated scores of a class whose corners all lie below this cannot reach `score`, nor what every pixel of a cell
// reaches whose corners do: rounding is monotonic, so they leave the range of their corners by the rounding of the
// weights at most, 6 · 2^-24 of it (subnormals: 2^-147).
DEEPERLAB_HD inline float out_of_reach(float score) {
  return score - ((score < 0.0f ? -score : score) * 0x1p-20f + 0x1p-120f);
}

// Whether a class may reach a score somewhere in a cell: not if all its corners lie below. True where one is NaN.
DEEPERLAB_HD inline bool may_reach(const CornersOf<float>& at, float score) {
  return !(at.top_left < score && at.top_right < score && at.bottom_left < score && at.bottom_right < score);
}

// Integer labels: what is no class is void, -1: no thing, in no segment.
DEEPERLAB_HD inline int32_t valid_label(int64_t label, int classes) {
  return label >= 0 && label < classes ? int32_t(label) : -1;
}

namespace cpu {

int64_t argmax_scratch_bytes(const Problem& problem);

// semantic: logits [N, C, h, w], or integer labels [N, H, W] whose node label is the label at the node's pixel,
// clamped to the image. Gives nodes.label [N, h, w] and label [N, H, W].
void argmax(const View& semantic, const Problem& problem, const NodeMaps& nodes, int32_t* label, void* scratch,
            const Parallel& parallel);

}  // namespace cpu

namespace cuda {

// The same. speaks [N, h, w]: 1 where a node that may be no thing is a corner of a thing pixel that has no thing among
// its corners (logits only).
void argmax(const View& semantic, const Problem& problem, const NodeMaps& nodes, int32_t* label, uint8_t* speaks,
            Stream stream);

}  // namespace cuda
}  // namespace deeperlab
