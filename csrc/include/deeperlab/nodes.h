// SPDX-License-Identifier: Apache-2.0
// Which nodes matter: those that can make a difference to the panoptic map. The instance stages look at no others.
//
// Where pixels have their label from the nodes (argmax of logits), a pixel between nodes of one class takes its
// instance from nodes of that class, and every thing node has an instance if there is one. Then only thing nodes
// matter, and the corners of cells with a thing pixel that no thing node speaks for. All nodes matter where labels come
// from elsewhere, where all nodes vote, where a thing node may stay without an instance because all lie beyond
// max_distance, and where some target lies so far away that its distance to every instance overflows.
#pragma once

#include <cmath>

#include "deeperlab/problem.h"

namespace deeperlab {

// Whether some nodes may be left out, as far as the arguments tell; the targets have the last word (refine.h, is_near).
inline bool may_leave_out_nodes(const View& semantic, const Params& params) {
  return is_floating(semantic.type) && !params.all_voters && !(params.max_distance2 < HUGE_VALF);
}

namespace cpu {

int64_t nodes_scratch_bytes(const Shape& shape);
Nodes lay_out_nodes(const Shape& shape, void* scratch);

// Lists every node: what a stage by itself works on.
void list_all_nodes(const Shape& shape, const Nodes& nodes, const Parallel& parallel);

// refine, of the nodes that matter, which become targets.nodes. Reads nodes.label, nodes.rule_pixels and label [N, H,
// W].
void refine_nodes_that_matter(const Heads& heads, const Problem& problem, const NodeMaps& nodes, const int32_t* label,
                              const Targets& targets, const Parallel& parallel);

}  // namespace cpu
}  // namespace deeperlab
