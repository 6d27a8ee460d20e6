// SPDX-License-Identifier: Apache-2.0
// top_down: the masks that a detector gives and a semantic map become one panoptic map (Kirillov et al., Panoptic
// Segmentation, section 7; its details as panopticapi and Detectron2 publish them).
#pragma once

#include "deeperlab/argmax.h"
#include "deeperlab/values.h"
#include "deeperlab/view.h"

namespace deeperlab {

// How the m × m probabilities of a mask are laid over its box. detectron2: the box as it is, samples at the centers of
// pixels. torchvision: a box of whole pixels, wider by one sample on each side.
enum class Paste : uint8_t { detectron2, torchvision };

constexpr int max_mask_side = 256;        // m
constexpr float farthest_box = 1 << 24;   // px: a float32 holds every pixel up to here
constexpr int most_detections = 1 << 16;  // K

// N images with K detections each, and what is made of them.
struct TopDown {
  Shape shape;
  View semantic;         // logits [N, C, h, w], or labels [N, H, W]
  View mask;             // probabilities [N, K, m, m], or uint8 [N, K, H, W]
  const float* box;      // [N, K, 4] px: x0, y0, x1, y1; of probabilities
  const float* score;    // [N, K]
  const int32_t* label;  // [N, K]
  int detections;        // K
  int side;              // m; 0: masks of the whole image
  int room;              // M
  Paste paste;
  float least;  // probability of a pixel in a mask; more than 0
  double score_threshold, overlap_threshold;
  int64_t stuff_area;     // px
  const Things* things;   // the classes of detections
  const ClassSet* stuff;  // the classes of the semantic map that fill what is left
};

// Whether a detection is looked at. On a device nobody tells what is wrong with one: it is left out.
DEEPERLAB_HD inline bool is_candidate(const TopDown& of, int64_t n, int k) {
  const int64_t at = n * of.detections + k;
  const int32_t label = of.label[at];
  bool holds = double(of.score[at]) >= of.score_threshold;  // a NaN is no candidate
  holds = holds && label < of.shape.classes && of.things->has(label);
  for (int i = 0; i < 4 && of.side > 0; ++i) {
    holds = holds && of.box[4 * at + i] >= -farthest_box && of.box[4 * at + i] <= farthest_box;
  }
  return holds;
}

// Whether a mask of `area` pixels becomes an instance, `overlap` of which belong to better ones already.
DEEPERLAB_HD inline bool is_accepted(int64_t area, int64_t overlap, double overlap_threshold) {
  return area > 0 && !(double(overlap) / double(area) > overlap_threshold);
}

// Along one axis, the pixels [begin, end) that a mask may reach, and where they fall among its samples: at
// (pixel + 1/2 − origin) · scale + shift. Samples count from 1; 0 and m + 1 are a frame of zeros.
struct PasteAxis {
  int begin, end;
  float origin, scale, shift;
};

DEEPERLAB_HD inline PasteAxis paste_axis(const TopDown& of, float low, float high, int length) {
  const auto samples = float(of.side);
  if (of.paste == Paste::detectron2) {
    const float width = high - low;
    if (!(width > 0.0f)) {
      return {0, 0, 0.0f, 0.0f, 0.0f};
    }
    const float margin = width * 0.5f / samples;  // half a sample: there the mask falls to zero
    const auto begin = int(clamp(low - margin - 1.0f, 0.0f, float(length)));
    const auto end = int(clamp(high + margin + 1.0f, 0.0f, float(length)));
    return {begin, end, low, samples / width, 0.5f};
  }
  const float center = (high + low) * 0.5f, half = (high - low) * 0.5f * ((samples + 2.0f) / samples);
  const auto first = int(center - half), last = int(center + half);  // towards zero
  const int width = last - first + 1;
  const int begin = first < 0 ? 0 : first > length ? length : first;
  const int end = last < 0 ? 0 : last < length ? last + 1 : length;
  return {begin, end < begin ? begin : end, float(first), (samples + 2.0f) / float(width < 1 ? 1 : width), -0.5f};
}

// The pixels that a mask may reach.
struct PasteArea {
  PasteAxis rows, columns;
};

DEEPERLAB_HD inline PasteArea paste_area(const TopDown& of, int64_t n, int k) {
  if (of.side == 0) {
    return {{0, of.shape.height, 0.0f, 0.0f, 0.0f}, {0, of.shape.width, 0.0f, 0.0f, 0.0f}};
  }
  const float* const box = of.box + 4 * (n * of.detections + k);
  return {paste_axis(of, box[1], box[3], of.shape.height), paste_axis(of, box[0], box[2], of.shape.width)};
}

// Between which samples a pixel falls: `before` and the one after it, 0 … m.
template <class V>
struct PasteCellOf {
  IntOf<V> before;
  V past;  // [0, 1]
};
using PasteCell = PasteCellOf<float>;

template <class V>
DEEPERLAB_HD inline PasteCellOf<V> paste_cell(const PasteAxis& axis, const V& pixel, int side) {
  const V at = clamp((pixel + 0.5f - axis.origin) * axis.scale + axis.shift, 0.0f, float(side + 1));
  const IntOf<V> before = minimum(to_int(at), broadcast<IntOf<V>>(side));
  return {before, at - to_real(before)};
}

// A sample of a mask, or of its frame.
template <class T>
DEEPERLAB_HD inline float mask_sample(const Plane<T>& mask, int side, int y, int x) {
  return y >= 1 && x >= 1 && y <= side && x <= side ? mask(y - 1, x - 1) : 0.0f;
}

// Whether a pixel is in a mask: bilinear, first along y, then along x. Between two values of a row that both reach
// `least`, or both do not, all pixels do as they do, by definition: no rounding decides there.
template <class T>
DEEPERLAB_HD inline bool is_in_mask(const Plane<T>& mask, const PasteCell& row, const PasteCell& column, int side,
                                    float least) {
  float value[2];
  for (int i = 0; i < 2; ++i) {
    value[i] = blend(mask_sample(mask, side, row.before, column.before + i),
                     mask_sample(mask, side, row.before + 1, column.before + i), row.past);
  }
  const bool left = value[0] >= least, right = value[1] >= least;
  return left == right ? left : blend(value[0], value[1], column.past) >= least;
}

// The same of pixel (y, x), for any kind of mask.
template <class T>
DEEPERLAB_HD inline bool is_in_mask(const TopDown& of, const PasteArea& area, const Plane<T>& mask, int y, int x) {
  const PasteCell row = paste_cell(area.rows, float(y), of.side), column = paste_cell(area.columns, float(x), of.side);
  return is_in_mask(mask, row, column, of.side, of.least);
}

DEEPERLAB_HD inline bool is_in_mask(const TopDown&, const PasteArea&, const Plane<uint8_t>& mask, int y, int x) {
  return mask.data[y * mask.row + x * mask.column] != 0;
}

// Calls f with a value of the element type of the masks.
template <class F>
void with_mask_type(const TopDown& of, F&& f) {
  if (of.side == 0) {
    return f(uint8_t{});
  }
  with_float_type(of.mask.type, f);
}

namespace cpu {

// What is wrong with the first detection that cannot be looked at.
struct DetectionFault {
  enum Kind { none, score, box, label } kind;
  int64_t image;
  int detection;
};
DetectionFault find_fault(const TopDown& of);

int64_t top_down_scratch_bytes(const TopDown& of);

// Gives out.semantic, out.instance, out.found but for its keypoints, out.category, out.area and out.class_area. Of
// equal scores the first detection comes first.
void top_down(const TopDown& of, const Panoptic& out, void* scratch, const Parallel& parallel);

}  // namespace cpu

namespace cuda {

// Nothing waits for the device. Returns what is wrong with it in words, or nullptr.
int64_t top_down_scratch_bytes(const TopDown& of);
const char* top_down(const TopDown& of, const Panoptic& out, void* scratch, Stream stream);

}  // namespace cuda
}  // namespace deeperlab
