// SPDX-License-Identifier: Apache-2.0
// The vertices of crf's lattice, by sorting.
#include <algorithm>
#include <utility>

#include "crf_fast.h"
#include "deeperlab/crf.h"

namespace deeperlab::cpu {
namespace {

// The entries are sorted by key in parts, each by a task of its own: how many there are changes nothing, as equal keys
// keep their order.
constexpr int digit_bits = 11, digits = 1 << digit_bits;
constexpr int64_t entries_of_part = int64_t(1) << 16;

struct SortRoom {
  uint64_t* key[2];   // [6P] in turns
  int32_t* entry[2];  // [6P]
  int32_t* count;     // [parts, digits]
  int64_t parts, bytes;

  SortRoom(const Crf& of, void* block) {
    Scratch scratch(block);
    const int64_t entries = of.shape.pixels() * crf_corners;
    parts = (entries + entries_of_part - 1) / entries_of_part;
    for (int i = 0; i < 2; ++i) {
      key[i] = scratch.take<uint64_t>(entries);
      entry[i] = scratch.take<int32_t>(entries);
    }
    count = scratch.take<int32_t>(parts * digits);
    bytes = scratch.bytes();
  }
};

// The entries of a part.
struct Part {
  int64_t begin, end;
  Part(int64_t i, int64_t entries) : begin(i * entries_of_part), end(std::min(begin + entries_of_part, entries)) {}
};

// One digit of all keys: from key[from] to key[1 − from]. False: it is the same in all.
bool sort_digit(const SortRoom& room, int64_t entries, int shift, int from, const Parallel& parallel) {
  const auto digit_of = [shift](uint64_t key) { return int(key >> shift) & (digits - 1); };
  parallel_for(parallel, room.parts, 1, [&](int64_t i) {
    int32_t* const count = room.count + i * digits;
    std::fill(count, count + digits, 0);
    const Part part(i, entries);
    for (int64_t at = part.begin; at < part.end; ++at) {
      ++count[digit_of(room.key[from][at])];
    }
  });
  int32_t before = 0;
  for (int digit = 0; digit < digits; ++digit) {
    const int32_t first = before;
    for (int64_t i = 0; i < room.parts; ++i) {
      before += std::exchange(room.count[i * digits + digit], before);
    }
    if (before - first == entries) {
      return false;
    }
  }
  parallel_for(parallel, room.parts, 1, [&](int64_t i) {
    int32_t* const next = room.count + i * digits;
    const Part part(i, entries);
    for (int64_t at = part.begin; at < part.end; ++at) {
      const uint64_t key = room.key[from][at];
      const int32_t to = next[digit_of(key)]++;
      room.key[1 - from][to] = key;
      room.entry[1 - from][to] = room.entry[from][at];
    }
  });
  return true;
}

}  // namespace

int64_t crf_sort_bytes(const Crf& of) { return SortRoom(of, nullptr).bytes; }

int64_t find_vertices(const Crf& of, int64_t n, const Lattice& lattice, void* sort, const Parallel& parallel) {
  const SortRoom room(of, sort);
  const int64_t entries = of.shape.pixels() * crf_corners;
  parallel_rows(parallel, 1, of.shape.height, of.shape.width, [&](int64_t, int y) {
    with_widths(parallel.simd, [&](auto lanes, auto) {
      enclose_row<decltype(lanes)>(of, n, y, lattice.slice, room.key[0], room.entry[0]);
    });
  });
  int from = 0;
  for (int shift = 0; shift < of.keys.bits; shift += digit_bits) {
    if (sort_digit(room, entries, shift, from, parallel)) {
      from = 1 - from;
    }
  }
  const uint64_t* const key = room.key[from];
  const auto is_new = [&](int64_t i) { return i == 0 || key[i] != key[i - 1]; };
  parallel_for(parallel, room.parts, 1, [&](int64_t i) {
    const Part part(i, entries);
    room.count[i] = 0;
    for (int64_t at = part.begin; at < part.end; ++at) {
      room.count[i] += is_new(at);
    }
  });
  int32_t vertices = 0;
  for (int64_t i = 0; i < room.parts; ++i) {
    vertices += std::exchange(room.count[i], vertices);
  }
  uint64_t* const unique = room.key[1 - from];
  parallel_for(parallel, room.parts, 1, [&](int64_t i) {
    const Part part(i, entries);
    int32_t vertex = room.count[i];
    for (int64_t at = part.begin; at < part.end; ++at) {
      const int32_t entry = room.entry[from][at];
      if (is_new(at)) {
        lattice.first[vertex] = int32_t(at);
        unique[vertex++] = key[at];
      }
      lattice.vertex[entry] = vertex;
      lattice.pixel[at] = entry / crf_corners;
      lattice.splat[at] = lattice.slice[entry];
    }
  });
  if (parallel.stopped(parallel)) {
    return 0;
  }
  lattice.first[vertices] = int32_t(entries);
  if (from == 0) {  // where link_vertices looks
    std::copy(unique, unique + vertices, room.key[0]);
  }
  return vertices;
}

void link_vertices(const Crf& of, const Links& links, void* sort, const Parallel& parallel) {
  const uint64_t* const key = SortRoom(of, sort).key[0];
  const int64_t parts = (links.vertices + entries_of_part - 1) / entries_of_part;
  parallel_for(parallel, parts * crf_corners, 1, [&](int64_t task) {
    const int axis = int(task % crf_corners);
    const Part part(task / crf_corners, links.vertices);
    const uint64_t *const end = key + links.vertices, step = uint64_t(of.keys.step(axis));
    for (const int side : {0, 1}) {  // both lists ascend, so one walk finds all
      const auto wanted = [&](int64_t v) { return side == 0 ? key[v] - step : key[v] + step; };
      const uint64_t* at = std::lower_bound(key, end, wanted(part.begin));
      for (int64_t v = part.begin; v < part.end; ++v) {
        for (; at < end && *at < wanted(v); ++at) {
        }
        links.of(axis, v + 1)[side] = at < end && *at == wanted(v) ? int32_t(at - key) + 1 : 0;
      }
    }
  });
}

}  // namespace deeperlab::cpu
