// SPDX-License-Identifier: Apache-2.0
// The nodes that the instance stages look at, row by row: a list of columns for each row.
#pragma once

#include "deeperlab/params.h"
#include "simd/parallel.h"

namespace deeperlab::cpu {

// Row y of image n holds the entries column[(n · h + y) · w + i], i < count[n · h + y]. What is computed for the
// entries of an image, keypoint by keypoint, is packed at the front of its share of an array [N, P, h · w]: less memory
// to touch.
struct Nodes {
  int32_t* column;  // [N, h, w] ascending within a row
  int32_t* count;   // [N, h]
  int64_t* before;  // [N, h + 1] entries in the rows before; the last is their number

  int64_t total(const Shape& shape, int64_t n) const { return before[n * (shape.h + 1) + shape.h]; }
  // Index of the first entry of row y, for keypoint k.
  int64_t packed(const Shape& shape, int keypoints, int64_t n, int k, int y) const {
    return n * keypoints * shape.h * shape.w + k * total(shape, n) + before[n * (shape.h + 1) + y];
  }
};

int64_t nodes_scratch_bytes(const Shape& shape);
Nodes lay_out_nodes(const Shape& shape, void* scratch);

// Every node: what a stage by itself works on.
void choose_all(const Shape& shape, const Nodes& nodes, const Parallel& parallel);

// Those that can make a difference to the panoptic map where pixels have their label from the nodes (argmax of logits)
// and every thing node has an instance if there is one: thing nodes, and the corners of cells with a thing pixel that
// no thing node speaks for.
void choose_nodes(const int32_t* node_label, const int32_t* label, const Things& things, const Shape& shape,
                  const Nodes& nodes, const Parallel& parallel);

}  // namespace deeperlab::cpu
