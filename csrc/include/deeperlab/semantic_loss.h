// SPDX-License-Identifier: Apache-2.0
// semantic_loss: the weighted bootstrapped cross-entropy of Eq. 1 on upsampled logits, which never are in memory: each
// pixel interpolates its own from the nodes around it, once for the greatest and once more for the sum of the
// exponentials, and the gradient does so again for the pixels that count.
#pragma once

#include "deeperlab/argmax.h"
#include "deeperlab/exp.h"
#include "deeperlab/values.h"

namespace deeperlab {

// What a label may be beside a class.
constexpr int32_t no_label = -1;     // no pixel of the loss
constexpr int32_t some_stuff = -2;   // one of some classes
constexpr int32_t wrong_label = -3;  // none of these: the loss becomes NaN

// What the loss is of.
struct SemanticLoss {
  View logits;  // [N, C, h, w]
  View labels;  // [N, H, W] integers
  View weight;  // [N, H, W] float32
  Shape shape;
  const ClassSet* stuff;  // the classes of `some_stuff`, in the memory that the loops work on
  bool has_stuff;
  double top_k;  // the share of an image's labeled pixels that count
};

// What is known of every pixel, [N, H, W].
struct PixelLosses {
  float* loss;     // −log p of the label; −1: no pixel of the loss
  float* log_sum;  // log Σ e^score, over all classes
};

// The least and the greatest label.
struct LabelRange {
  int64_t least = no_label, most = no_label;
};

// Which pixels of an image count: those with a loss above that of `key`, and of those with this loss the ones up to
// pixel `last`, row by row. `count` in all, 0 in an image without labels.
struct Cut {
  int32_t key, last, count;
};

constexpr int32_t no_key = 0x7fffffff;  // above that of every loss

DEEPERLAB_HD inline int32_t loss_label(int64_t label, const SemanticLoss& of) {
  const bool known = (label >= 0 && label < of.shape.classes) || label == no_label;
  return known || (label == some_stuff && of.has_stuff) ? int32_t(label) : wrong_label;
}

// Σ e^score over some classes = sum · e^most, where `most` is the greatest score. It comes first; NaN does not raise
// it, and makes the sum NaN.
template <class V>
struct ScoreSum {
  V most = broadcast<V>(-infinity);
  V sum{};

  DEEPERLAB_HD void raise(const V& score) { most = maximum(score, most); }
  DEEPERLAB_HD void add(const V& score) { sum = sum + exp_below_zero(score - most); }
  DEEPERLAB_HD V log_sum() const { return most + log(sum); }
};

// −log of the share that `chosen`, some of the classes or one, has in `all`. Never below 0, so that its bits are an
// integer of the same order; NaN is one NaN, above all.
template <class V>
DEEPERLAB_HD inline V loss_of_share(const ScoreSum<V>& all, const ScoreSum<V>& chosen) {
  const V loss = log(all.sum) - ((chosen.most - all.most) + log(chosen.sum));
  return select(equal(loss, loss), maximum(loss, V{}), broadcast<V>(not_a_number));
}

// The share of a score in a sum.
template <class V>
DEEPERLAB_HD inline V share_of(const V& score, const V& log_sum) {
  return exp_below_zero(minimum(V{}, score - log_sum));
}

// Its share among the classes of `some_stuff`, for a pixel whose loss is `loss`.
template <class V>
DEEPERLAB_HD inline V share_of_stuff(const V& score, const V& log_sum, const V& loss) {
  return exp_below_zero(minimum(V{}, (score - log_sum) + loss));
}

// K, of so many labeled pixels.
DEEPERLAB_HD inline int32_t hardest_count(int32_t labeled, double top_k) {
  const double share = top_k * double(labeled);
  const int32_t whole = int32_t(share);
  return double(whole) < share ? whole + 1 : whole;
}

DEEPERLAB_HD inline bool counts(float loss, int64_t pixel, const Cut& cut) {
  const int32_t key = bit_cast<int32_t>(loss);
  return key > cut.key || (key == cut.key && pixel <= cut.last);
}

// Σ weight · loss over the pixels of a row that count, one after the other, in float64.
DEEPERLAB_HD inline double sum_row(const SemanticLoss& of, const PixelLosses& pixels, const Cut& cut, int64_t n,
                                   int y) {
  const Plane<float> weight = of.weight.plane<float>(n, 0);
  const int64_t first = int64_t(y) * of.shape.width;
  const float* loss = pixels.loss + n * of.shape.pixels() + first;
  double sum = 0.0;
  for (int x = 0; x < of.shape.width; ++x) {
    if (counts(loss[x], first + x, cut)) {
      sum += double(weight(y, x)) * double(loss[x]);
    }
  }
  return sum;
}

// Of an image, from the sums of its rows, in this order.
DEEPERLAB_HD inline float mean_loss(const double* row_sum, int rows, const Cut& cut) {
  double sum = 0.0;
  for (int y = 0; y < rows; ++y) {
    sum += row_sum[y];
  }
  return cut.count == 0 ? 0.0f : float(sum / double(cut.count));
}

// How a search for the cut goes: the bits of a loss, 11, 10 and 10 at a time.
constexpr int cut_bins = 1 << 11;

struct CutDigit {
  int shift, bits;

  // Whether the bits before these are those of `key`; all are, at the first.
  DEEPERLAB_HD bool follows(int32_t key, int32_t value) const {
    return value >= 0 && (shift + bits == 31 || value >> (shift + bits) == key >> (shift + bits));
  }
  DEEPERLAB_HD int bin(int32_t value) const { return (value >> shift) & ((1 << bits) - 1); }
};

DEEPERLAB_HD inline CutDigit cut_digit(int i) {
  return i == 0 ? CutDigit{20, 11} : i == 1 ? CutDigit{10, 10} : CutDigit{0, 10};
}

// Goes down the bins of a digit to the one with the `left`-th greatest loss; what lies above it is taken off `left`.
DEEPERLAB_HD inline void descend(const int32_t* bins, CutDigit digit, int32_t& left, int32_t& key) {
  int bin = (1 << digit.bits) - 1;
  for (; bins[bin] < left; --bin) {
    left -= bins[bin];
  }
  key |= bin << digit.shift;
}

// The gradient of a pixel's loss with respect to the scores, a class at a time: factor · (share − share of the label).
template <class V>
DEEPERLAB_HD inline V score_gradient(const V& factor, const V& share, const V& wanted) {
  return factor * (share - wanted);
}

// What the pixels of a cell say to its corners: the transpose of `interpolate`. Columns of pixels one after the other,
// in each the rows one after the other.
template <class V>
struct ColumnGradient {
  V top{}, bottom{};

  DEEPERLAB_HD void add(const V& gradient, float fy) {
    if (fy == 0.0f) {  // as in `blend`, nothing of the other end
      top = top + gradient;
    } else {
      top = top + gradient * (1.0f - fy);
      bottom = bottom + gradient * fy;
    }
  }
};

template <class V>
DEEPERLAB_HD inline void add_column(const ColumnGradient<V>& column, const V& fx, CornersOf<V>& corners) {
  const V rest = 1.0f - fx;
  corners.top_left = corners.top_left + column.top * rest;
  corners.bottom_left = corners.bottom_left + column.bottom * rest;
  corners.top_right = corners.top_right + select(equal(fx, V{}), V{}, column.top * fx);
  corners.bottom_right = corners.bottom_right + select(equal(fx, V{}), V{}, column.bottom * fx);
}

// The gradient of a node: what the two cells above it say, and the two below. A cell that does not exist says 0.
DEEPERLAB_HD inline float node_gradient(const CornersOf<float>& above_left, const CornersOf<float>& above,
                                        const CornersOf<float>& left, const CornersOf<float>& own) {
  return (above_left.bottom_right + above.bottom_left) + (left.top_right + own.top_left);
}

template <class T>
struct PixelScores {
  const View& logits;
  int64_t n;
  Between at;

  DEEPERLAB_HD float operator()(int c) const { return sample(logits.plane<T>(n, c), at); }
};

// Of the classes for which has(c).
template <class Scores, class Has>
DEEPERLAB_HD inline ScoreSum<float> sum_scores(const Scores& scores, int classes, const Has& has) {
  ScoreSum<float> sum;
  for (int c = 0; c < classes; ++c) {
    if (has(c)) {
      sum.raise(scores(c));
    }
  }
  for (int c = 0; c < classes; ++c) {
    if (has(c)) {
      sum.add(scores(c));
    }
  }
  return sum;
}

// Loss and log Σ e^score of pixel (y, x).
template <class T>
DEEPERLAB_HD inline void find_loss(const SemanticLoss& of, int64_t n, int y, int x, const PixelLosses& pixels) {
  const int64_t pixel = n * of.shape.pixels() + int64_t(y) * of.shape.width + x;
  const int32_t wanted = loss_label(integer_at(of.labels, n, y, x), of);
  if (wanted == no_label) {
    pixels.loss[pixel] = -1.0f;
    pixels.log_sum[pixel] = 0.0f;
    return;
  }
  const Cell cell = cell_of_pixel(y, x, of.shape.stride, of.shape.grid_h, of.shape.grid_w);
  const PixelScores<T> scores{of.logits, n, between_corners(cell, of.shape.stride)};
  const ScoreSum<float> all = sum_scores(scores, of.shape.classes, [](int) { return true; });
  ScoreSum<float> chosen{not_a_number, 1.0f};
  if (wanted >= 0) {
    chosen.most = scores(wanted);
  } else if (wanted == some_stuff) {
    chosen = sum_scores(scores, of.shape.classes, [&](int c) { return of.stuff->has(c); });
  }
  pixels.loss[pixel] = loss_of_share(all, chosen);
  pixels.log_sum[pixel] = all.log_sum();
}

// What the gradient is of.
struct SemanticLossBackward {
  SemanticLoss of;
  PixelLosses pixels;
  const Cut* cut;         // [N]
  const float* gradient;  // of the images' losses, [N]
};

// What the gradient of a pixel needs: its label, `no_label` where it does not count; its weight times the gradient of
// the image's loss / K; and what is known of it.
struct PixelGradient {
  int32_t wanted;
  float factor, loss, log_sum;
};

DEEPERLAB_HD inline PixelGradient pixel_gradient(const SemanticLossBackward& all, int64_t n, int y, int x) {
  const SemanticLoss& of = all.of;
  const int64_t pixel = int64_t(y) * of.shape.width + x, at = n * of.shape.pixels() + pixel;
  const Cut cut = all.cut[n];
  if (!counts(all.pixels.loss[at], pixel, cut)) {
    return {no_label, 0.0f, 0.0f, 0.0f};
  }
  const float weight = of.weight.plane<float>(n, 0)(y, x);
  return {loss_label(integer_at(of.labels, n, y, x), of), all.gradient[n] / float(cut.count) * weight,
          all.pixels.loss[at], all.pixels.log_sum[at]};
}

// What the pixels of cell (y, x) say to its corners of class c; nothing where there is no such cell.
template <class T>
DEEPERLAB_HD inline CornersOf<float> cell_gradient(const SemanticLossBackward& all, int64_t n, int c, int y, int x) {
  const SemanticLoss& of = all.of;
  const Shape& shape = of.shape;
  const Plane<T> plane = of.logits.plane<T>(n, c);
  CornersOf<float> corners{};
  if (y < 0 || x < 0) {
    return corners;
  }
  const int64_t top = int64_t(y) * shape.stride, left = int64_t(x) * shape.stride;
  const int rows = int(minimum<int64_t>(shape.stride, shape.height - top));  // may be negative: none
  const int columns = int(minimum<int64_t>(shape.stride, shape.width - left));
  for (int dx = 0; dx < columns && rows > 0; ++dx) {
    ColumnGradient<float> sum;
    Cell cell{y, x, 0, x < shape.grid_w - 1 ? dx : 0};
    for (int dy = 0; dy < rows; ++dy) {
      const PixelGradient pixel = pixel_gradient(all, n, int(top) + dy, int(left) + dx);
      if (pixel.wanted != no_label) {
        cell.past_y = y < shape.grid_h - 1 ? dy : 0;
        const Between at = between_corners(cell, shape.stride);
        const float score = sample(plane, at);
        float wanted = pixel.wanted == c ? 1.0f : 0.0f;
        if (pixel.wanted == some_stuff && of.stuff->has(c)) {
          wanted = share_of_stuff(score, pixel.log_sum, pixel.loss);
        }
        sum.add(score_gradient(pixel.factor, share_of(score, pixel.log_sum), wanted), at.fy);
      }
    }
    add_column(sum, between_corners(cell, shape.stride).fx, corners);
  }
  return corners;
}

namespace cpu {

LabelRange label_range(const SemanticLoss& of);

int64_t semantic_loss_scratch_bytes(const Shape& shape);

// loss: [N]; cut: [N].
void semantic_loss(const SemanticLoss& of, const PixelLosses& pixels, Cut* cut, float* loss, void* scratch,
                   const Parallel& parallel);

// out: the gradient of the logits, [N, C, h, w].
void semantic_loss_backward(const SemanticLossBackward& of, float* out, void* scratch, const Parallel& parallel);

}  // namespace cpu

namespace cuda {

int64_t semantic_loss_scratch_bytes(const Shape& shape);

// The same. Nothing waits for the device. Returns what is wrong with it in words, or nullptr.
const char* semantic_loss(const SemanticLoss& of, const PixelLosses& pixels, Cut* cut, float* loss, void* scratch,
                          Stream stream);
const char* semantic_loss_backward(const SemanticLossBackward& of, float* out, void* scratch, Stream stream);

}  // namespace cuda
}  // namespace deeperlab
