// SPDX-License-Identifier: Apache-2.0
// The fast form of argmax in cells whose corners have several labels: classes are offered to all pixels together.
#pragma once

#include "cells.h"
#include "deeperlab/argmax.h"

namespace deeperlab::cpu {

// The best class so far at each pixel of a mixed cell. Classes come in any order, so ties must look at the class.
struct MixedCell {
  float score[max_cell_pixels];
  int32_t label[max_cell_pixels];
};

// Offers a class to pixels i … of a cell; `scores` are those of its corners.
template <class V>
void offer_pixels(const CellPixels& pixels, int i, const CornersOf<float>& scores, int32_t candidate, BestOf<V>& best) {
  const CornersOf<V> at{broadcast<V>(scores.top_left), broadcast<V>(scores.top_right), broadcast<V>(scores.bottom_left),
                        broadcast<V>(scores.bottom_right)};
  best.offer(interpolate(at, load<V>(pixels.fx + i), load<V>(pixels.fy + i)), candidate);
}

// Offers a cell its first classes; returns the least score that its pixels reach.
template <class L>
float begin_cell(const CellPixels& pixels, const CornersOf<float>* scores, const int32_t* classes, int count,
                 MixedCell& cell) {
  using Float = typename L::Float;
  Float least = broadcast<Float>(infinity);
  for (int i = 0; i < pixels.padded; i += L::count) {
    BestOf<Float> best;
    for (int k = 0; k < count; ++k) {
      offer_pixels(pixels, i, scores[k], classes[k], best);
    }
    store(cell.score + i, best.score);
    store(cell.label + i, best.label);
    least = minimum(best.score, least);
  }
  return least_lane(least);
}

template <class L>
void offer_cell(const CellPixels& pixels, const CornersOf<float>& scores, int32_t candidate, MixedCell& cell) {
  for (int i = 0; i < pixels.padded; i += L::count) {
    BestOf<typename L::Float> best{load<typename L::Float>(cell.score + i), load<typename L::Int>(cell.label + i)};
    offer_pixels(pixels, i, scores, candidate, best);
    store(cell.score + i, best.score);
    store(cell.label + i, best.label);
  }
}

// What a row of nodes knows beside its labels: no class but the label exceeds `second`, none but the label and `runner`
// exceeds `third`.
struct Rivals {
  int32_t* runner;
  float *second, *third;
};

// The greatest score, at any corner of cells x …, of a class that is the label of none; `labels` are their corners'.
template <class L>
typename L::Float most_of_others(const typename L::Int (&labels)[4], const Rivals& above, const Rivals& below,
                                 int64_t x) {
  using Float = typename L::Float;
  Float most = broadcast<Float>(-infinity);
  for (int k = 0; k < 4; ++k) {
    const Rivals& at = k < 2 ? above : below;
    const auto runner = load<typename L::Int>(at.runner + x + k % 2);
    const Float third = load<Float>(at.third + x + k % 2);
    Float bound = load<Float>(at.second + x + k % 2);
    for (const auto& known : labels) {
      bound = select(equal(runner, known), third, bound);
    }
    most = maximum(bound, most);
  }
  return most;
}

}  // namespace deeperlab::cpu
