// SPDX-License-Identifier: Apache-2.0
#include "deeperlab/runs.h"

#include <algorithm>

#include "cpu/row_runs.h"
#include "simd/dispatch.h"
#include "deeperlab/scratch.h"

namespace deeperlab::cpu {
namespace {

int64_t* starts_in(int64_t width, void* block, int64_t& bytes) {
  Scratch scratch(block);
  int64_t* starts = scratch.take<int64_t>(width + 1);
  bytes = scratch.bytes();
  return starts;
}

template <class RowRuns>
int64_t find(const IdMaps& maps, const Runs& found, int64_t* starts, const Parallel& parallel,
             const RowRuns& row_runs) {
  int64_t total = 0;
  for (int64_t y = 0; y < maps.height && !stops_at(y, parallel); ++y) {
    const int64_t number = row_runs(y, starts), room = std::min(number, std::max<int64_t>(0, found.capacity - total));
    for (int64_t i = 0; i < room; ++i) {
      found.start[total + i] = y * maps.width + starts[i];
      found.length[total + i] = starts[i + 1] - starts[i];
      found.y[total + i] = y;
      found.x[total + i] = starts[i];
    }
    total += number;
  }
  return total;
}

template <int number>
int64_t find_fast(const IdMaps& maps, const Runs& found, int64_t* starts, const Parallel& parallel) {
  int64_t total = 0;
  with_simd(parallel.simd, [&](auto lanes) {
    total = find(maps, found, starts, parallel, [&](int64_t y, int64_t* to) {
      return row_runs<decltype(lanes), number>(maps.map, y, maps.width, to);
    });
  });
  return total;
}

}  // namespace

int64_t runs_scratch_bytes(int64_t width) {
  int64_t bytes;
  starts_in(width, nullptr, bytes);
  return bytes;
}

int64_t find_runs(const IdMaps& maps, const Runs& found, void* scratch, const Parallel& parallel) {
  int64_t bytes;
  int64_t* const starts = starts_in(maps.width, scratch, bytes);
  if (maps.width == 0) {
    return 0;
  }
  if (parallel.simd == Simd::plain) {
    return find(maps, found, starts, parallel, [&](int64_t y, int64_t* to) { return plain_row_runs(maps, y, to); });
  }
  switch (maps.number) {
    case 1:
      return find_fast<1>(maps, found, starts, parallel);
    case 2:
      return find_fast<2>(maps, found, starts, parallel);
    case 3:
      return find_fast<3>(maps, found, starts, parallel);
    default:
      return find_fast<4>(maps, found, starts, parallel);
  }
}

bool pixel_boxes(const Runs& runs, const int64_t* label, int64_t count, PixelBox* box) {
  std::fill(box, box + count, PixelBox{});
  for (int64_t i = 0; i < runs.capacity; ++i) {
    if (label[i] < 0 || label[i] >= count) {
      return false;
    }
    PixelBox& one = box[label[i]];
    const int64_t x = runs.x[i], end = x + runs.length[i], y = runs.y[i];
    const bool first = one.x1 == 0;  // a run has a pixel
    one = {first ? x : std::min(one.x0, x), first ? y : std::min(one.y0, y), std::max(one.x1, end),
           std::max(one.y1, y + 1)};
  }
  return true;
}

void spread(const int64_t* length, const int32_t* value, int64_t runs, int32_t* out) {
  for (int64_t i = 0; i < runs; ++i) {
    out = std::fill_n(out, length[i], value[i]);
  }
}

}  // namespace deeperlab::cpu
