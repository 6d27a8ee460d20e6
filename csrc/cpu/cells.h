// SPDX-License-Identifier: Apache-2.0
// A row of pixels, cell by cell: what a pixel finds around it changes only from node to node.
#pragma once

#include <algorithm>

#include "deeperlab/view.h"

namespace deeperlab::cpu {

// The i-th pixel of a run that begins at `first`. At and past the last node all are alike.
inline Cell pixel_of_run(Cell first, int i) {
  first.past_x = first.past_x > 0 ? first.past_x + i : 0;
  return first;
}

// Calls visit(first, x, length) for runs of pixels [x, x + length) of row y: the pixel on each node, then those between
// it and the next. All pixels of a run have the same corners of non-zero weight. The last node has one run, to the end.
template <class Visit>
void visit_cells(int y, int width, int stride, int h, int w, const Visit& visit) {
  Cell cell = cell_of_pixel(y, 0, stride, h, w);
  int x = 0;
  for (; cell.x < w - 1 && x < width; ++cell.x) {
    cell.past_x = 0;
    visit(cell, x, 1);
    cell.past_x = 1;
    const int between = std::min(stride, width - x) - 1;
    if (between > 0) {
      visit(cell, x + 1, between);
    }
    x += std::min(stride, width - x);
  }
  if (x < width) {
    cell.past_x = 0;
    visit(cell, x, width - x);
  }
}

}  // namespace deeperlab::cpu
