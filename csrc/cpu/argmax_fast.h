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

// The logits of a node side by side, `classes` of them and at least a vector: the last vector overlaps the one before.
// Calls visit(first, values) for the vectors.
template <class L, class T, class Visit>
void visit_row(const T* row, int classes, const Visit& visit) {
  for (int c = 0; c < classes; c += L::count) {
    const int first = std::min(c, classes - L::count);
    visit(first, load_floats<typename L::Float, true>(row + first, 1));
  }
}

// Lane by lane; NaN counts as -inf. What lies `ahead` elements further is called for meanwhile.
template <class L, class T>
typename L::Float greatest_of_row(const T* row, int classes, int64_t ahead) {
  auto most = broadcast<typename L::Float>(-infinity);
  visit_row<L>(row, classes, [&](int first, const auto& values) {
    __builtin_prefetch(row + first + ahead, 0, 3);
    most = maximum(values, most);
  });
  return most;
}

// The same without up to four classes.
template <class L, class T>
typename L::Float greatest_of_others(const T* row, int classes, const int32_t (&known)[4]) {
  using Int = typename L::Int;
  auto most = broadcast<typename L::Float>(-infinity);
  Int along;
  for (int i = 0; i < L::count; ++i) {
    along[i] = i;
  }
  visit_row<L>(row, classes, [&](int first, const auto& values) {
    const Int c = along + first;
    const auto is_known = (equal(c, broadcast<Int>(known[0])) | equal(c, broadcast<Int>(known[1]))) |
                          (equal(c, broadcast<Int>(known[2])) | equal(c, broadcast<Int>(known[3])));
    most = maximum(select(is_known, broadcast<typename L::Float>(-infinity), values), most);
  });
  return most;
}

// The first class whose logit is `best`, the greatest; 0 where all are NaN.
template <class L, class T>
int32_t first_of_row(const T* row, int classes, float best) {
  for (int c = 0; c < classes; c += 64) {
    const int group = std::min(c, std::max(classes - 64, 0));
    uint64_t found = 0;
    visit_row<L>(row + group, std::min(classes - group, 64), [&](int first, const auto& values) {
      found |= uint64_t(bits_of(equal(values, broadcast<typename L::Float>(best)))) << first;
    });
    if (found != 0) {
      return group + __builtin_ctzll(found);
    }
  }
  return 0;
}

// What a row of nodes knows beside its labels: no class but the label exceeds `second`, none but the label and `runner`
// exceeds `third`.
struct Rivals {
  int32_t* runner;
  float *second, *third;
};

// The best classes of `lanes` nodes so far. NaN may raise `second` and `third`, which remain bounds.
template <class L>
struct NodeRanks {
  using Float = typename L::Float;
  using Int = typename L::Int;
  Float best = broadcast<Float>(-infinity), second = best, third = best;
  Int chosen{}, runner{};

  void offer(const Float& value, int c) {
    const auto first = less(best, value), ahead = less(second, value);
    third = maximum(minimum(value, second), third);
    second = maximum(minimum(value, best), second);
    best = select(first, value, best);
    runner = select(first, chosen, select(ahead, broadcast<Int>(c), runner));
    chosen = select(first, broadcast<Int>(c), chosen);
  }
  void store_to(int32_t* label, const Rivals& rivals, int64_t x) const {
    store(label + x, chosen);
    store(rivals.runner + x, runner);
    store(rivals.second + x, second);
    store(rivals.third + x, third);
  }
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
