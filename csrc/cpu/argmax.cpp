// SPDX-License-Identifier: Apache-2.0
#include "deeperlab/argmax.h"

#include <algorithm>

#include "cells.h"
#include "parallel.h"

namespace deeperlab::cpu {
namespace {

template <class T>
void argmax_logits(const View& logits, const Shape& shape, int32_t* node_label, int32_t* label,
                   const Parallel& parallel) {
  parallel_rows(parallel, shape.images, shape.h, shape.w, [&](int64_t n, int y) {
    int32_t* row = node_label + (n * shape.h + y) * shape.w;
    for (int x = 0; x < shape.w; ++x) {
      Best best = no_class();
      for (int c = 0; c < shape.classes; ++c) {
        best.offer(logits.plane<T>(n, c)(y, x), c);
      }
      row[x] = best.label;
    }
  });
  parallel_rows(parallel, shape.images, shape.height, shape.width, [&](int64_t n, int y) {
    const int32_t* nodes = node_label + n * shape.h * shape.w;
    int32_t* row = label + (n * shape.height + y) * shape.width;
    visit_cells(y, shape.width, shape.stride, shape.h, shape.w, [&](Cell first, int x, int length) {
      if (corners_agree(nodes, shape.w, first)) {  // then their label is the pixel's, by definition
        std::fill(row + x, row + x + length, nodes[int64_t(first.y) * shape.w + first.x]);
        return;
      }
      for (int i = 0; i < length; ++i) {
        const Between at = between_corners(pixel_of_run(first, i), shape.stride);
        Best best = no_class();
        for (int c = 0; c < shape.classes; ++c) {
          best.offer(sample(logits.plane<T>(n, c), at), c);
        }
        row[x + i] = best.label;
      }
    });
  });
}

template <class I>
void copy_labels(const View& labels, const Shape& shape, int32_t* node_label, int32_t* label,
                 const Parallel& parallel) {
  parallel_rows(parallel, shape.images, shape.height, shape.width, [&](int64_t n, int y) {
    const I* from = static_cast<const I*>(labels.data) + n * labels.image + y * labels.row;
    int32_t* row = label + (n * shape.height + y) * shape.width;
    for (int x = 0; x < shape.width; ++x) {
      row[x] = valid_label(int64_t(from[x * labels.column]), shape.classes);
    }
  });
  parallel_rows(parallel, shape.images, shape.h, shape.w, [&](int64_t n, int i) {
    const int64_t y = std::min<int64_t>(int64_t(shape.stride) * i, shape.height - 1);
    const int32_t* from = label + (n * shape.height + y) * shape.width;
    int32_t* row = node_label + (n * shape.h + i) * shape.w;
    for (int j = 0; j < shape.w; ++j) {
      row[j] = from[std::min<int64_t>(int64_t(shape.stride) * j, shape.width - 1)];
    }
  });
}

}  // namespace

void argmax(const View& semantic, const Shape& shape, int32_t* node_label, int32_t* label, const Parallel& parallel) {
  if (is_floating(semantic.type)) {
    with_float_type(semantic.type, [&](auto element) {
      argmax_logits<decltype(element)>(semantic, shape, node_label, label, parallel);
    });
  } else {
    with_integer_type(semantic.type, [&](auto element) {
      copy_labels<decltype(element)>(semantic, shape, node_label, label, parallel);
    });
  }
}

}  // namespace deeperlab::cpu
