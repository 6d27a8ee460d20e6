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

struct Corners {
  float a, b, c, d;  // top left, top right, bottom left, bottom right
};

// The best of what lanes of pixels have been offered.
template <class L>
struct BestLanes {
  typename L::Float score;
  typename L::Int label;

  // The score of a class, interpolated at pixels i … of a cell as `sample` of view.h does it.
  void offer(const CellPixels& pixels, int i, const Corners& at, int32_t candidate) {
    using Float = typename L::Float;
    using Int = typename L::Int;
    const Float fx = load<Float>(pixels.fx + i), fy = load<Float>(pixels.fy + i);
    const Float gx = 1.0f - fx, gy = 1.0f - fy;
    const auto on_column = equal(fx, Float{}), on_row = equal(fy, Float{});
    const Float top = choose(on_column, all<Float>(at.a), at.a * gx + at.b * fx);
    const Float bottom = choose(on_column, all<Float>(at.c), at.c * gx + at.d * fx);
    const Float value = choose(on_row, top, top * gy + bottom * fy);
    const Int own = all<Int>(candidate), earlier = choose(less(own, label), own, label);
    label = choose(equal(value, score), earlier, choose(less(score, value), own, label));
    score = choose(less(score, value), value, score);
  }
};

// Offers a cell its first classes; returns the least score that its pixels reach.
template <class L>
float begin_cell(const CellPixels& pixels, const Corners* scores, const int32_t* classes, int count, MixedCell& cell) {
  using Float = typename L::Float;
  Float least = all<Float>(infinity);
  for (int i = 0; i < pixels.padded; i += L::count) {
    BestLanes<L> best{all<Float>(-infinity), {}};
    for (int k = 0; k < count; ++k) {
      best.offer(pixels, i, scores[k], classes[k]);
    }
    store(cell.score + i, best.score);
    store(cell.label + i, best.label);
    least = min_lanes(best.score, least);
  }
  return least_lane(least);
}

template <class L>
void offer_cell(const CellPixels& pixels, const Corners& scores, int32_t candidate, MixedCell& cell) {
  for (int i = 0; i < pixels.padded; i += L::count) {
    BestLanes<L> best{load<typename L::Float>(cell.score + i), load<typename L::Int>(cell.label + i)};
    best.offer(pixels, i, scores, candidate);
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
  Float most = all<Float>(-infinity);
  for (int k = 0; k < 4; ++k) {
    const Rivals& at = k < 2 ? above : below;
    const auto runner = load<typename L::Int>(at.runner + x + k % 2);
    const Float third = load<Float>(at.third + x + k % 2);
    Float bound = load<Float>(at.second + x + k % 2);
    for (const auto& known : labels) {
      bound = choose(equal(runner, known), third, bound);
    }
    most = max_lanes(bound, most);
  }
  return most;
}

}  // namespace deeperlab::cpu
