// SPDX-License-Identifier: Apache-2.0
// The nodes that the instance stages look at, row by row: a list of columns for each row.
#pragma once

#include "deeperlab/params.h"
#include "parallel.h"

namespace deeperlab::cpu {

// Row y of image n holds entries 0 .. count[n · h + y] − 1; entry i, here and in whatever goes with the list, is number
// (n · h + y) · w + i, so that rows are filled on their own.
struct Nodes {
  int32_t* column;  // [N, h, w] ascending within a row
  int32_t* count;   // [N, h]
};

// Every node: what a stage by itself works on.
void choose_all(const Shape& shape, const Nodes& nodes, const Parallel& parallel);

// Those that can make a difference to the panoptic map where pixels have their label from the nodes (argmax of logits):
// thing nodes, and the corners of mixed cells, next to which a thing pixel may be.
void choose_nodes(const int32_t* node_label, const Things& things, const Shape& shape, const Nodes& nodes,
                  const Parallel& parallel);

}  // namespace deeperlab::cpu
