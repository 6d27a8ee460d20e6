// SPDX-License-Identifier: Apache-2.0
// The instances of a map, found in one pass over its runs of equal pixels, and where their keypoints lie.
#pragma once

#include <algorithm>

#include "cpu/row_runs.h"
#include "deeperlab/encode.h"
#include "simd/dispatch.h"

namespace deeperlab::cpu {

// What is known of the instances of one image. Their places are their ranks by id.
struct MapInstances {
  int64_t* starts;      // [W + 1] columns where runs of equal pixels begin
  uint32_t* table;      // [slots] 1 + index of an instance in the order of discovery, 0: free
  int64_t* id;          // [M] by index
  PixelSums* sums;      // [M] by index
  int32_t* index;       // [M] by place
  int32_t* place;       // [M] by index, 1-based
  Pixel* point;         // [P, M] by place
  int32_t* by_row;      // [P, M] places, from the topmost keypoint down
  int32_t* node_index;  // [h, w] 1 + index of the node's own instance, 0: none
};

struct MapInstancesLayout {
  MapInstances first;  // of image 0
  int64_t slots;
  int64_t bytes;

  MapInstancesLayout(const Encoding& of, void* block) : slots(slots_for(of.room)) {
    Scratch scratch(block);
    const int64_t n = of.images, m = of.room, points = m * of.graph.keypoints;
    first.starts = scratch.take<int64_t>(n * (of.width + 1));
    first.table = scratch.take<uint32_t>(n * slots);
    first.id = scratch.take<int64_t>(n * m);
    first.sums = scratch.take<PixelSums>(n * m);
    first.index = scratch.take<int32_t>(n * m);
    first.place = scratch.take<int32_t>(n * m);
    first.point = scratch.take<Pixel>(n * points);
    first.by_row = scratch.take<int32_t>(n * points);
    first.node_index = scratch.take<int32_t>(n * of.nodes());
    bytes = scratch.bytes();
  }

  MapInstances image(const Encoding& of, int64_t n) const {
    const int64_t m = of.room, points = m * of.graph.keypoints;
    return {first.starts + n * (of.width + 1),
            first.table + n * slots,
            first.id + n * m,
            first.sums + n * m,
            first.index + n * m,
            first.place + n * m,
            first.point + n * points,
            first.by_row + n * points,
            first.node_index + n * of.nodes()};
  }
};

// Where an id is in the table, or would be.
inline uint32_t& slot_of(const MapInstances& found, int64_t slots, int64_t id) {
  int64_t slot = first_slot(id, slots);
  while (found.table[slot] != 0 && found.id[found.table[slot] - 1] != id) {
    slot = (slot + 1) & (slots - 1);
  }
  return found.table[slot];
}

// Adds columns x0 … x1 of row y; rows come from the top.
inline void add_run(PixelSums& sums, int y, int x0, int x1) {
  const Sum columns = sum_of_columns(x0, x1);
  const auto add = [](Sum& to, const Sum& more) { to = {to.total + more.total, to.count + more.count}; };
  if (sums.x.count == 0) {
    sums = {x0, y, x1, y, {}, {}, {}, {}, {}, {}};
  }
  if (y > sums.y1) {
    sums.y1 = y;
    sums.bottom = {};
  }
  if (x0 < sums.x0) {
    sums.x0 = x0;
    sums.left = {};
  }
  if (x1 > sums.x1) {
    sums.x1 = x1;
    sums.right = {};
  }
  add(sums.x, columns);
  add(sums.y, {y * columns.count, columns.count});
  add(sums.bottom, columns);
  if (y == sums.y0) {
    add(sums.top, columns);
  }
  if (x0 == sums.x0) {
    add(sums.left, {y, 1});
  }
  if (x1 == sums.x1) {
    add(sums.right, {y, 1});
  }
}

constexpr int ceil_divide(int a, int b) { return (a + b - 1) / b; }  // a >= 0

// One pass over the runs of an image: its instances, and whose the nodes are. Returns their number, or a Fault.
template <class T, class RowRuns>
int32_t find_instances(const Encoding& of, int64_t n, const MapInstances& found, int64_t slots,
                       const Parallel& parallel, const RowRuns& row_runs) {
  const Plane<T> map = of.instance.plane<T>(n, 0);
  int32_t count = 0;
  bool negative = false;
  std::fill(found.table, found.table + slots, 0u);
  for (int y = 0; y < of.height && !stops_at(y, parallel); ++y) {
    const int64_t runs = row_runs(y, found.starts);
    int32_t* const nodes = y % of.stride == 0 ? found.node_index + int64_t(y / of.stride) * of.grid_w : nullptr;
    for (int64_t i = 0; i < runs; ++i) {
      const int x0 = int(found.starts[i]), end = int(found.starts[i + 1]);
      const int64_t id = map.data[y * map.row + x0 * map.column];
      negative |= id < 0;
      uint32_t index = 0;
      if (id > 0) {
        uint32_t& slot = slot_of(found, slots, id);
        if (slot == 0) {
          if (count == of.room) {
            return too_many;
          }
          found.id[count] = id;
          found.sums[count].x.count = 0;
          slot = uint32_t(++count);
        }
        index = slot;
        add_run(found.sums[index - 1], y, x0, end - 1);
      }
      if (nodes != nullptr) {
        std::fill(nodes + ceil_divide(x0, of.stride), nodes + ceil_divide(end, of.stride), int32_t(index));
      }
    }
  }
  return negative ? negative_id : count;
}

template <class T>
int32_t find_instances(const Encoding& of, int64_t n, const MapInstances& found, int64_t slots,
                       const Parallel& parallel) {
  const View& view = of.instance;
  const int64_t bytes = sizeof(T);
  const IdMap map{static_cast<const char*>(view.data) + n * view.image * bytes, int(bytes), true, view.row * bytes,
                  view.column * bytes};
  const auto find = [&](const auto& row_runs) { return find_instances<T>(of, n, found, slots, parallel, row_runs); };
  if (parallel.simd == Simd::plain) {
    return find([&](int y, int64_t* to) { return plain_row_runs({&map, 1, of.height, of.width}, y, to); });
  }
  int32_t count = 0;
  with_simd(parallel.simd, [&](auto lanes) {
    count = find([&](int y, int64_t* to) { return row_runs<decltype(lanes), 1>(&map, y, of.width, to); });
  });
  return count;
}

// Ranks the instances by id and places their keypoints. False: a position that is too far away.
inline bool place_keypoints(const Encoding& of, int64_t n, const MapInstances& found, int64_t slots, int32_t count) {
  const int keypoints = of.graph.keypoints;
  for (int32_t i = 0; i < count; ++i) {
    found.index[i] = i;
  }
  std::sort(found.index, found.index + count, [&](int32_t a, int32_t b) { return found.id[a] < found.id[b]; });
  for (int32_t i = 0; i < count; ++i) {
    const int32_t index = found.index[i];
    found.place[index] = i + 1;
    for (int k = 0; k < keypoints; ++k) {
      found.point[int64_t(k) * of.room + i] = found.sums[index].at(of.place[k]);
    }
  }
  for (int64_t row = of.rows; row-- > 0;) {  // the first row of an id counts
    const int64_t id = of.ids[n * of.rows + row];
    const Pixel* const given = of.points + (n * of.rows + row) * keypoints;
    if (id < 0 || (id > 0 && std::any_of(given, given + keypoints, is_far))) {
      return false;
    }
    const uint32_t index = id == 0 ? 0 : slot_of(found, slots, id);
    for (int k = 0; k < keypoints && index != 0; ++k) {
      found.point[int64_t(k) * of.room + found.place[index - 1] - 1] = given[k];
    }
  }
  for (int k = 0; k < keypoints; ++k) {
    const Pixel* const point = found.point + int64_t(k) * of.room;
    int32_t* const by_row = found.by_row + int64_t(k) * of.room;
    for (int32_t i = 0; i < count; ++i) {
      by_row[i] = i;
    }
    std::sort(by_row, by_row + count, [&](int32_t a, int32_t b) { return point[a].y < point[b].y; });
  }
  return true;
}

inline void list_instances(const Encoding& of, int64_t n, const MapInstances& found, int32_t count,
                           const TargetMaps& out) {
  const int keypoints = of.graph.keypoints;
  int64_t* const ids = out.ids + n * of.room;
  Point* const points = out.keypoints + n * of.room * keypoints;
  for (int32_t i = 0; i < count; ++i) {
    ids[i] = found.id[found.index[i]];
    for (int k = 0; k < keypoints; ++k) {
      points[int64_t(i) * keypoints + k] = offset(found.point[int64_t(k) * of.room + i], {0, 0});
    }
  }
  std::fill(ids + count, ids + of.room, 0);
  std::fill(points + int64_t(count) * keypoints, points + int64_t(of.room) * keypoints, Point{0.0f, 0.0f});
}

}  // namespace deeperlab::cpu
