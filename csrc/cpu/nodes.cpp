// SPDX-License-Identifier: Apache-2.0
#include "deeperlab/nodes.h"

#include <algorithm>
#include <numeric>

#include "deeperlab/scratch.h"
#include "simd/dispatch.h"
#include "simd/number.h"

namespace deeperlab::cpu {
namespace {

// Whether a thing pixel of cell (y, x) finds no thing node among its corners of non-zero weight: then the others count.
// Sides whose corners agree have no such pixel, nor has what lies between four corners of which one is a thing. Past
// the last nodes, pixels are like those on them.
bool needs_all_corners(const int32_t* node_label, const int32_t* label, const Things& things, const Shape& shape, int y,
                       int x) {
  const bool right = x + 1 < shape.grid_w, down = y + 1 < shape.grid_h;
  const int32_t* corner = node_label + int64_t(y) * shape.grid_w + x;
  const int32_t a = corner[0], b = corner[right];
  const int32_t c = corner[down * shape.grid_w], d = corner[down * shape.grid_w + right];
  const bool a_thing = things.has(a), b_thing = things.has(b), c_thing = things.has(c);
  const bool inside = !a_thing && !b_thing && !c_thing && !things.has(d) && (a != b || a != c || a != d);
  const bool top = !a_thing && !b_thing && a != b, left = !a_thing && !c_thing && a != c;
  if (!inside && !top && !left) {
    return false;
  }
  const int64_t s = shape.stride;
  const int64_t rows = std::min<int64_t>(down ? s : 1, shape.height - y * s);
  const int64_t columns = std::min<int64_t>(right ? s : 1, shape.width - x * s);
  for (int64_t v = 0; v < rows; ++v) {
    for (int64_t u = 0; u < columns; ++u) {
      const bool alone = u == 0 ? v > 0 && left : v == 0 ? top : inside;
      if (alone && things.has(label[(y * s + v) * shape.width + x * s + u])) {
        return true;
      }
    }
  }
  return false;
}

// Row y of an image: 1 where a node is chosen.
void mark_row(const int32_t* node_label, const int32_t* label, const Things& things, const Shape& shape, int y,
              Simd simd, int32_t* row) {
  const int h = shape.grid_h, w = shape.grid_w;
  const int32_t* labels = node_label + int64_t(y) * w;
  int32_t known = -1;  // label of the node before: mostly this one's too
  bool thing = false;
  for (int x = 0; x < w; ++x) {
    thing = labels[x] == known ? thing : things.has(labels[x]);
    known = labels[x];
    row[x] = thing;
  }
  for (int cell_y = std::max(y - 1, 0); cell_y <= y; ++cell_y) {  // the cells that this row's nodes are corners of
    const int32_t* top = node_label + int64_t(cell_y) * w;
    const int32_t* bottom = cell_y + 1 < h ? top + w : top;
    const auto mark_corners = [&](int x) {
      if (needs_all_corners(node_label, label, things, shape, cell_y, x)) {
        row[x] = row[std::min(x + 1, w - 1)] = 1;
      }
    };
    int x = 0;
    if (simd != Simd::plain) {
      with_simd(simd, [&](auto lanes) {
        using Int = typename decltype(lanes)::Int;
        for (; x + lanes.count < w; x += lanes.count) {
          const Int here = load<Int>(top + x);
          const auto alike = equal(here, load<Int>(top + x + 1)) & equal(here, load<Int>(bottom + x)) &
                             equal(here, load<Int>(bottom + x + 1));
          visit_bits(all_bits<Int> & ~bits_of(alike), [&](int i) { mark_corners(x + i); });
        }
      });
    }
    for (; x < w; ++x) {
      mark_corners(x);
    }
  }
}

// The columns of the nodes marked, in the place of the marks. Returns how many.
int32_t list_marked(int32_t* row, int w, Simd simd) {
  int32_t count = 0;
  int x = 0;
  if (simd != Simd::plain) {
    with_simd(simd, [&](auto lanes) {
      using Int = typename decltype(lanes)::Int;
      for (; x + lanes.count <= w; x += lanes.count) {
        const uint32_t marked = all_bits<Int> & ~bits_of(equal(load<Int>(row + x), Int{}));
        if (marked == all_bits<Int>) {
          std::iota(row + count, row + count + lanes.count, x);
          count += lanes.count;
        } else {
          visit_bits(marked, [&](int i) { row[count++] = x + i; });
        }
      }
    });
  }
  for (; x < w; ++x) {
    const bool marked = row[x] != 0;
    row[count] = x;
    count += marked;
  }
  return count;
}

// Fills `before`.
void add_up(const Shape& shape, const Nodes& nodes) {
  for (int64_t n = 0; n < shape.images; ++n) {
    int64_t* before = nodes.before + n * (shape.grid_h + 1);
    before[0] = 0;
    for (int y = 0; y < shape.grid_h; ++y) {
      before[y + 1] = before[y] + nodes.count[n * shape.grid_h + y];
    }
  }
}

Nodes lay_out(const Shape& shape, Scratch& scratch) {
  const int64_t rows = int64_t(shape.images) * shape.grid_h;
  int32_t* column = scratch.take<int32_t>(rows * shape.grid_w);
  int32_t* count = scratch.take<int32_t>(rows);
  int64_t* before = scratch.take<int64_t>(rows + shape.images);
  return {column, count, before};
}

}  // namespace

int64_t nodes_scratch_bytes(const Shape& shape) {
  Scratch scratch(nullptr);
  lay_out(shape, scratch);
  return scratch.bytes();
}

Nodes lay_out_nodes(const Shape& shape, void* block) {
  Scratch scratch(block);
  return lay_out(shape, scratch);
}

void list_all_nodes(const Shape& shape, const Nodes& nodes, const Parallel& parallel) {
  parallel_rows(parallel, shape.images, shape.grid_h, shape.grid_w, [&](int64_t n, int y) {
    int32_t* row = nodes.column + (n * shape.grid_h + y) * shape.grid_w;
    std::iota(row, row + shape.grid_w, 0);
    nodes.count[n * shape.grid_h + y] = shape.grid_w;
  });
  add_up(shape, nodes);
}

void refine_nodes_that_matter(const Heads& heads, const Problem& problem, const NodeMaps& nodes, const int32_t* label,
                              const Targets& targets, const Parallel& parallel) {
  const Shape& shape = problem.shape;
  if (may_leave_out_nodes(heads.semantic, problem.params)) {
    parallel_rows(parallel, shape.images, shape.grid_h, shape.grid_w, [&](int64_t n, int y) {
      int32_t* row = targets.nodes.column + n * shape.nodes() + int64_t(y) * shape.grid_w;
      mark_row(nodes.label + n * shape.nodes(), label + n * shape.pixels(), *problem.things, shape, y, parallel.simd,
               row);
      targets.nodes.count[n * shape.grid_h + y] = list_marked(row, shape.grid_w, parallel.simd);
    });
    add_up(shape, targets.nodes);
    if (refine(heads, problem, targets, parallel)) {
      return;
    }
  }
  list_all_nodes(shape, targets.nodes, parallel);
  refine(heads, problem, targets, parallel);
}

}  // namespace deeperlab::cpu
