// SPDX-License-Identifier: Apache-2.0
// What a call is about: its sizes, graph, thing classes and parameters.
#pragma once

#include "deeperlab/assign.h"
#include "deeperlab/merge.h"
#include "deeperlab/peaks.h"
#include "deeperlab/refine.h"
#include "deeperlab/rescore.h"
#include "deeperlab/select.h"
#include "deeperlab/trace.h"
#include "deeperlab/vote.h"

namespace deeperlab {

// Each parameter is declared in the header of the stage that computes with it.
struct Params : RefineParams,
                VoteParams,
                PeaksParams,
                TraceParams,
                RescoreParams,
                SelectParams,
                AssignParams,
                MergeParams {};

struct Problem {
  Shape shape;
  Graph graph;
  const Things* things;  // in the memory that the stages work on
  Params params;

  DEEPERLAB_HD int keypoints() const { return graph.keypoints; }
};

}  // namespace deeperlab
