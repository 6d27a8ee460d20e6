// SPDX-License-Identifier: Apache-2.0
#include "nodes.h"

#include <algorithm>
#include <numeric>

#include "deeperlab/scratch.h"
#include "lanes.h"

namespace deeperlab::cpu {
namespace {

// Whether a node differs from one of its (up to eight) neighbours: then it is a corner of a mixed cell.
bool on_border(const int32_t* label, int y, int x, int h, int w) {
  const int32_t own = label[int64_t(y) * w + x];
  for (int v = std::max(y - 1, 0); v <= std::min(y + 1, h - 1); ++v) {
    for (int u = std::max(x - 1, 0); u <= std::min(x + 1, w - 1); ++u) {
      if (label[int64_t(v) * w + u] != own) {
        return true;
      }
    }
  }
  return false;
}

// Fills `before`.
void add_up(const Shape& shape, const Nodes& nodes) {
  for (int64_t n = 0; n < shape.images; ++n) {
    int64_t* before = nodes.before + n * (shape.h + 1);
    before[0] = 0;
    for (int y = 0; y < shape.h; ++y) {
      before[y + 1] = before[y] + nodes.count[n * shape.h + y];
    }
  }
}

Nodes lay_out(const Shape& shape, Scratch& scratch) {
  const int64_t rows = int64_t(shape.images) * shape.h;
  int32_t* column = scratch.take<int32_t>(rows * shape.w);
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

void choose_all(const Shape& shape, const Nodes& nodes, const Parallel& parallel) {
  parallel_rows(parallel, shape.images, shape.h, shape.w, [&](int64_t n, int y) {
    int32_t* row = nodes.column + (n * shape.h + y) * shape.w;
    std::iota(row, row + shape.w, 0);
    nodes.count[n * shape.h + y] = shape.w;
  });
  add_up(shape, nodes);
}

void choose_nodes(const int32_t* node_label, const Things& things, const Shape& shape, const Nodes& nodes,
                  const Parallel& parallel) {
  parallel_rows(parallel, shape.images, shape.h, shape.w, [&](int64_t n, int y) {
    const int32_t* label = node_label + n * shape.h * shape.w;
    const int32_t* own = label + int64_t(y) * shape.w;
    int32_t* row = nodes.column + (n * shape.h + y) * shape.w;
    int32_t count = 0;
    const auto choose = [&](int x) {
      row[count] = x;
      count += things.has(own[x]) || on_border(label, y, x, shape.h, shape.w);
    };
    const auto choose_block = [&](auto lanes, int x) {
      using Int = typename decltype(lanes)::Int;
      const Int here = load<Int>(own + x);
      uint32_t inside = all_bits<Int>;  // all neighbours have the node's label
      for (const int32_t* at : {own - shape.w, own, own + shape.w}) {
        for (int dx = -1; dx <= 1; ++dx) {
          inside &= bits_of(equal(here, load<Int>(at + x + dx)));
        }
      }
      if (inside == all_bits<Int>) {  // then the nodes of the block are alike
        if (things.has(here[0])) {
          std::iota(row + count, row + count + lanes.count, x);
          count += lanes.count;
        }
        return;
      }
      for (int i = 0; i < lanes.count; ++i) {
        row[count] = x + i;
        count += !(inside >> i & 1u) || things.has(here[i]);
      }
    };
    int x = 0;
    if (parallel.simd != Simd::plain && y > 0 && y + 1 < shape.h) {
      choose(x++);
      with_simd(parallel.simd, [&](auto lanes) {
        for (; x + lanes.count < shape.w; x += lanes.count) {
          choose_block(lanes, x);
        }
      });
    }
    for (; x < shape.w; ++x) {
      choose(x);
    }
    nodes.count[n * shape.h + y] = count;
  });
  add_up(shape, nodes);
}

}  // namespace deeperlab::cpu
