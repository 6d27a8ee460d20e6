// SPDX-License-Identifier: Apache-2.0
// crf: a fully connected conditional random field by mean field, as Krähenbühl and Koltun (NIPS 2011) and DeepLab (v1
// and v2) have it: every pixel speaks to every other of an image,
//   k(i, j) = w1 · exp(−|p_i − p_j|² / 2σα² − |I_i − I_j|² / 2σβ²) + w2 · exp(−|p_i − p_j|² / 2σγ²),
// Potts, and Q ← softmax(log P + Σ_m w_m K_m Q) is repeated.
//
// The bilateral kernel is filtered on the permutohedral lattice (Adams, Baek and Davis 2010): values of a pixel go to
// the six corners of the simplex around its five features, are blurred along the six axes of the lattice, and come
// back. The vertices are found by sorting, not by hashing, so their order, and with it every sum, is the same on every
// machine. The spatial kernel is separable and needs no lattice: it is filtered along rows and columns of nodes, which
// lie on every pixel, or, if the kernel is wide, two pixels apart. Then a pixel between two of them gives each of them
// half, and hears half of what each of them has to say, which is a kernel of variance 1 px² by itself.
#pragma once

#include <cmath>

#include "deeperlab/argmax.h"
#include "deeperlab/exp.h"
#include "deeperlab/values.h"

namespace deeperlab {

constexpr int crf_features = 5;                // x, y, red, green, blue
constexpr int crf_corners = crf_features + 1;  // of a simplex; the axes of the lattice, too
constexpr int crf_group = 8;                   // floats
constexpr int crf_key_bits = 63;
constexpr int64_t max_crf_pixels = int64_t(1) << 28;  // corners of all pixels are int32
constexpr float least_crf_score = -1e30f;             // of a class that cannot be
constexpr float least_crf_share = -40.0f;  // what has a smaller logarithm is 0, or products would leave float32
// px: what the pixels of such a part of the image say to a vertex is summed by itself, one after the other, then the
// sums of the parts are. Small enough to stay in the cache, and so large that most of its pixels share their vertices.
constexpr int crf_part_rows = 16, crf_part_columns = 64;

// How features become a vertex's key. Five integers that tell its six coordinates, which add up to 0, lie side by side
// in it, those that lead it the place in the image alone: vertices that follow each other belong to the same part of
// it, and what is read for one is still in the cache for the next.
struct CrfKeys {
  float scale[crf_features];  // lattice units for a unit of a feature
  int32_t low[crf_features];  // the least value of each integer
  int shift[crf_features];    // where it lies in the key
  int bits;                   // of the key

  // The integers of coordinates 0 to 4; the last two are 2 and 6 times the features x and y in lattice units, nearly.
  static DEEPERLAB_HD void mix(const int32_t (&at)[crf_features], int32_t (&mixed)[crf_features]) {
    mixed[0] = at[4];
    mixed[1] = at[3];
    mixed[2] = at[2];
    mixed[3] = at[0] - at[1];
    mixed[4] = at[0] + at[1] - 2 * at[2];
  }
  DEEPERLAB_HD uint64_t key(const int32_t (&at)[crf_features]) const {
    int32_t mixed[crf_features];
    mix(at, mixed);
    uint64_t made = 0;
    for (int i = 0; i < crf_features; ++i) {
      made |= uint64_t(mixed[i] - low[i]) << shift[i];
    }
    return made;
  }
  // From a vertex to the one after it along an axis. Keys have room for one more of each coordinate, so nothing is
  // carried.
  DEEPERLAB_HD int64_t step(int axis) const {
    int32_t at[crf_features], mixed[crf_features];
    for (int i = 0; i < crf_features; ++i) {
      at[i] = i == axis ? -crf_features : 1;
    }
    mix(at, mixed);
    int64_t made = 0;
    for (int i = 0; i < crf_features; ++i) {
      made += mixed[i] * (int64_t(1) << shift[i]);
    }
    return made;
  }
};

// What a call is about.
struct Crf {
  View semantic;  // [N, C, h, w] logits or probabilities; of a filter, values [N, C, H, W]
  View image;     // [N, H, W, 3] uint8
  Shape shape;
  CrfKeys keys;
  float w1, w2;     // 0: the kernel is left out
  int step;         // px between the nodes of the spatial kernel, 1 or 2
  float curvature;  // 1 / 2σ² of what the nodes hear from each other, in nodes
  int half_width;   // nodes: three standard deviations, beyond which the spatial weight is left out
  int iterations;
  bool after;       // K / n, else n^-1/2 K n^-1/2, where n = K 1
  bool probable;    // the semantic head holds probabilities
  bool transposed;  // of a filter

  // Nodes of a line of so many pixels.
  DEEPERLAB_HD int nodes(int length) const { return step == 2 ? length / 2 + 1 : length; }
  // How far the spatial kernel reaches along it.
  DEEPERLAB_HD int reach(int length) const { return minimum(half_width, nodes(length) - 1); }
  // Rows of parts, and how many are beside each other in one.
  DEEPERLAB_HD int bands() const { return (shape.height + crf_part_rows - 1) / crf_part_rows; }
  DEEPERLAB_HD int part_columns() const { return (shape.width + crf_part_columns - 1) / crf_part_columns; }
  DEEPERLAB_HD int64_t parts() const { return int64_t(bands()) * part_columns(); }
  DEEPERLAB_HD int64_t part(int y, int x) const {
    return int64_t(y / crf_part_rows) * part_columns() + x / crf_part_columns;
  }
  // The first pixel of a part.
  DEEPERLAB_HD int top(int64_t part) const { return int(part / part_columns()) * crf_part_rows; }
  DEEPERLAB_HD int left(int64_t part) const { return int(part % part_columns()) * crf_part_columns; }
  // The place of a pixel when they are counted part by part, which is the order of their sums.
  DEEPERLAB_HD int64_t place(int y, int x) const {
    const int top = y / crf_part_rows * crf_part_rows, left = x / crf_part_columns * crf_part_columns;
    const int rows = minimum(int{crf_part_rows}, shape.height - top);
    const int columns = minimum(int{crf_part_columns}, shape.width - left);
    return int64_t(top) * shape.width + int64_t(rows) * left + (y - top) * columns + (x - left);
  }
  DEEPERLAB_HD int row() const { return (shape.classes + crf_group - 1) / crf_group * crf_group; }
};

// The simplex around a point: the six coordinates of its corner of remainder 0, the order of what is left, and how
// near each corner is.
template <class V>
struct SimplexOf {
  IntOf<V> base[crf_corners], rank[crf_corners];
  V weight[crf_corners];  // they add up to 1

  // Coordinate i of a corner.
  DEEPERLAB_HD IntOf<V> at(int corner, int i) const {
    using Int = IntOf<V>;
    const auto near = less(rank[i], broadcast<Int>(crf_corners - corner));
    return base[i] + select(near, broadcast<Int>(corner), broadcast<Int>(corner - crf_corners));
  }
};

// `feature` in lattice units. The plane of the lattice is that of the points of six coordinates which add up to 0.
template <class V>
DEEPERLAB_HD inline SimplexOf<V> enclose(const V (&feature)[crf_features]) {
  using Int = IntOf<V>;
  SimplexOf<V> made;
  V at[crf_corners], rest[crf_corners], sum{};
  for (int i = crf_features; i > 0; --i) {
    at[i] = sum - feature[i - 1] * float(i);
    sum = sum + feature[i - 1];
  }
  at[0] = sum;
  Int total{};
  for (int i = 0; i < crf_corners; ++i) {
    const V nearest = round(at[i] * (1.0f / crf_corners));
    made.base[i] = to_int(nearest) * crf_corners;
    made.rank[i] = Int{};
    total = total + to_int(nearest);
    rest[i] = at[i] - nearest * float(crf_corners);
  }
  for (int i = 0; i < crf_corners; ++i) {
    for (int j = i + 1; j < crf_corners; ++j) {
      const Int below = select(less(rest[i], rest[j]), broadcast<Int>(1), Int{});
      made.rank[i] = made.rank[i] + below;
      made.rank[j] = made.rank[j] + (1 - below);
    }
  }
  V sorted[crf_corners];
  for (int i = 0; i < crf_corners; ++i) {  // back to the plane, if rounding has left it
    Int rank = made.rank[i] + total;
    const Int turn = select(less(rank, Int{}), broadcast<Int>(crf_corners),
                            select(less(broadcast<Int>(crf_features), rank), broadcast<Int>(-crf_corners), Int{}));
    made.rank[i] = rank + turn;
    made.base[i] = made.base[i] + turn;
    rest[i] = (at[i] - to_real(made.base[i])) * (1.0f / crf_corners);
  }
  for (int r = 0; r < crf_corners; ++r) {
    sorted[r] = V{};
    for (int i = 0; i < crf_corners; ++i) {
      sorted[r] = select(equal(made.rank[i], broadcast<Int>(r)), rest[i], sorted[r]);
    }
  }
  made.weight[0] = (sorted[crf_features] - sorted[0]) + 1.0f;
  for (int k = 1; k < crf_corners; ++k) {
    made.weight[k] = sorted[crf_features - k] - sorted[crf_corners - k];
  }
  return made;
}

// Feature i of pixel (y, x), in lattice units.
DEEPERLAB_HD inline float crf_feature(const Crf& of, int64_t n, int y, int x, int i) {
  const float value =
      i == 0   ? float(x)
      : i == 1 ? float(y)
               : float(static_cast<const uint8_t*>(of.image.data)[n * of.image.image + y * of.image.row +
                                                                  x * of.image.column + (i - 2) * of.image.channel]);
  return value * of.keys.scale[i];
}

// A blur along one axis; a vertex that is not there holds 0.
template <class V>
DEEPERLAB_HD inline V blur(const V& own, const V& before, const V& after) {
  return own + (before + after) * 0.5f;
}

// What the sum of a kernel's row asks of its pixel: the factor of what it gives (`in`) and of what it gets (`out`).
struct CrfFactors {
  float in, out;
};

DEEPERLAB_HD inline CrfFactors crf_factors(float sum, bool after, bool transposed) {
  if (after) {
    return transposed ? CrfFactors{1.0f / sum, 1.0f} : CrfFactors{1.0f, 1.0f / sum};
  }
  const float root = 1.0f / std::sqrt(sum);
  return {root, root};
}

// The spatial weight at a distance, nodes.
DEEPERLAB_HD inline float spatial_weight(int distance, float curvature) {
  return exp_below_zero(-(float(distance) * float(distance)) * curvature);
}

// The kernel along a line of nodes: at(r) is r of them after the place that it is for; 0 lies beyond the ends.
template <class V, class At>
DEEPERLAB_HD inline V filter_line(const float* weight, int half_width, const At& at) {
  V sum = at(0) * weight[0];
  for (int r = 1; r <= half_width; ++r) {
    sum = sum + (at(-r) + at(r)) * weight[r];
  }
  return sum;
}

// What the pixels of a line give to node i, from give(pixel, part), the whole of what a pixel gives or half of it.
template <class V, class Give>
DEEPERLAB_HD inline V give_node(int i, int step, int length, const Give& give) {
  V sum{};
  for (int k = 0; k < 2 * step - 1; ++k) {  // the pixel on it, the one after it, the one before it
    const int pixel = i * step + (k == 1) - (k == 2);
    if (pixel >= 0 && pixel < length) {
      sum = sum + give(pixel, k == 0 ? 1.0f : 0.5f);
    }
  }
  return sum;
}

// What the nodes of a line say to a pixel, from at(node).
template <class V, class At>
DEEPERLAB_HD inline V hear_nodes(int pixel, int step, const At& at) {
  if (step == 1) {
    return at(pixel);
  }
  const V before = at(pixel / 2);
  return pixel % 2 == 0 ? before : (before + at(pixel / 2 + 1)) * 0.5f;
}

// The sum of the kernel's weights for a pixel of a line: the answer to pixels of 1 each.
DEEPERLAB_HD inline float spatial_sum(int pixel, int length, const Crf& of, const float* weight) {
  const auto given = [&](int i) {  // to node i
    const int at = i * of.step;
    const float halves = float((at + 1 < length) + (at > 0)) * 0.5f;
    return i < 0 || i >= of.nodes(length) ? 0.0f : float(at < length) + (of.step == 2 ? halves : 0.0f);
  };
  const int first = pixel / of.step, last = (pixel + of.step - 1) / of.step;
  float sum = 0.0f;
  for (int i = first; i <= last; ++i) {
    sum += filter_line<float>(weight, of.reach(length), [&](int r) { return given(i + r); });
  }
  return first == last ? sum : sum * 0.5f;
}

// The score of a class that the head gives, from its value at the pixel: a logit, or the logarithm of a probability.
// NaN counts as a class that cannot be.
template <class V>
DEEPERLAB_HD inline V crf_score(const V& value, bool probable) {
  return probable ? -log(1.0f / clamp(value, 0x1p-23f, 1.0f)) : clamp(value, least_crf_score, -least_crf_score);
}

// e^below, of a score that lies so far below the greatest; 0 where it would be less than e^-40.
template <class V>
DEEPERLAB_HD inline V crf_share(const V& below) {
  return select(less(below, broadcast<V>(least_crf_share)), V{}, exp_within(below));
}

// How many vertices the lattice of an image has, how many its parts have together, and the one that has most of them.
struct CrfCounts {
  int64_t vertices, groups;
  int64_t most_of_part;  // known to the CPU alone
};

// What the caller allocates for an image, in turn. What lies where is known to the loops alone.
struct CrfBlocks {
  void *lattice, *links, *values;
  CrfCounts counts;
};

namespace cpu {

// For one image after the other: first the vertices, then, when there is memory for so many, how they are linked, and
// at last the mean field. `sort` is needed for the first two.
int64_t crf_sort_bytes(const Crf& of);
int64_t crf_lattice_bytes(const Crf& of);
int64_t crf_links_bytes(const Crf& of, const CrfCounts& counts);
int64_t crf_values_bytes(const Crf& of, const CrfCounts& counts);
CrfCounts find_vertices(const Crf& of, int64_t n, const CrfBlocks& blocks, void* sort, const Parallel& parallel);
void link_vertices(const Crf& of, const CrfBlocks& blocks, void* sort, const Parallel& parallel);

// out: Q of the image, [C, H, W].
void crf(const Crf& of, int64_t n, const CrfBlocks& blocks, float* out, const Parallel& parallel);

// The message of the kernels, Σ_m w_m K_m v of values v: out [C, H, W].
void crf_filter(const Crf& of, int64_t n, const CrfBlocks& blocks, float* out, const Parallel& parallel);

}  // namespace cpu

namespace cuda {

// The same. find_vertices waits for the device to tell their number; nothing else waits. They return what is wrong with
// the device in words, or nullptr.
int64_t crf_sort_bytes(const Crf& of);
int64_t crf_lattice_bytes(const Crf& of);
int64_t crf_links_bytes(const Crf& of, const CrfCounts& counts);
int64_t crf_values_bytes(const Crf& of, const CrfCounts& counts);
const char* find_vertices(const Crf& of, int64_t n, const CrfBlocks& blocks, void* sort, CrfCounts& counts,
                          Stream stream);
const char* link_vertices(const Crf& of, const CrfBlocks& blocks, void* sort, Stream stream);
const char* crf(const Crf& of, int64_t n, const CrfBlocks& blocks, float* out, Stream stream);
const char* crf_filter(const Crf& of, int64_t n, const CrfBlocks& blocks, float* out, Stream stream);

}  // namespace cuda
}  // namespace deeperlab
