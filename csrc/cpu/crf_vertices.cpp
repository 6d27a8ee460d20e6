// SPDX-License-Identifier: Apache-2.0
// The vertices of crf's lattice, by sorting. Pixels beside each other share most of theirs, so what is sorted are the
// vertices that parts of the image have, each of them once.
#include <algorithm>
#include <utility>

#include "crf_lattice_fast.h"

namespace deeperlab::cpu {
namespace {

constexpr int digit_bits = 11, digits = 1 << digit_bits;
constexpr int64_t keys_of_task = int64_t(1) << 16;
constexpr int pixels_of_part = 682, entries_of_part = pixels_of_part * crf_corners;

// A vertex of a part of the image.
struct Group {
  int32_t vertex;
  int32_t next;  // how many entries it has; then where the next of them goes among those of the vertex
};

struct SortRoom {
  uint64_t* key[2];   // [6P] in turns
  int32_t* place[2];  // [6P] of the group in `group`, in turns
  Group* group;       // [6P] those of a part begin where its entries do
  int32_t* before;    // [parts + 1] groups of the parts before
  int32_t* count;     // [tasks, digits]
  int64_t parts, bytes;

  SortRoom(const Crf& of, void* block) {
    Scratch scratch(block);
    const int64_t entries = of.shape.pixels() * crf_corners;
    parts = (entries + entries_of_part - 1) / entries_of_part;
    for (int i = 0; i < 2; ++i) {
      key[i] = scratch.take<uint64_t>(entries);
      place[i] = scratch.take<int32_t>(entries);
    }
    group = scratch.take<Group>(entries);
    before = scratch.take<int32_t>(parts + 1);
    count = scratch.take<int32_t>(tasks(entries) * digits);
    bytes = scratch.bytes();
  }
  static int64_t tasks(int64_t keys) { return (keys + keys_of_task - 1) / keys_of_task; }
};

// Where the task or part of that number begins and ends.
struct Stretch {
  int64_t begin, end;
  Stretch(int64_t i, int64_t length, int64_t all) : begin(i * length), end(std::min(begin + length, all)) {}
};

// The vertices of a part by their keys, which are numbered as they come.
class KnownVertices {
 public:
  // The number of a key, and whether it is new.
  std::pair<int, bool> number(uint64_t key) {
    for (int slot = int(key * 0x9e3779b97f4a7c15 >> (64 - slot_bits));; slot = (slot + 1) & (slots - 1)) {
      if (number_[slot] == 0) {
        key_[slot] = key;
        number_[slot] = uint16_t(++known_);
        return {known_ - 1, true};
      }
      if (key_[slot] == key) {
        return {number_[slot] - 1, false};
      }
    }
  }
  int known() const { return known_; }

 private:
  static constexpr int slot_bits = 13, slots = 1 << slot_bits;
  static_assert(entries_of_part < slots);
  uint64_t key_[slots];
  uint16_t number_[slots] = {};  // 0: free, else one more than the key's
  int known_ = 0;
};

// Finds the groups of a part, and of which group each entry is.
template <class L>
int group_part(const Crf& of, int64_t n, const Lattice& lattice, const SortRoom& room, const Stretch& entries) {
  uint64_t keys[entries_of_part];
  enclose_pixels<L>(of, n, entries.begin / crf_corners, entries.end / crf_corners, lattice.slice + entries.begin, keys);
  KnownVertices vertices;
  Group* const group = room.group + entries.begin;
  const auto number = [&](int64_t i) {
    if (i >= crf_corners && keys[i] == keys[i - crf_corners]) {  // as the pixel before
      return int(lattice.vertex[entries.begin + i - crf_corners] - entries.begin);
    }
    const auto [found, is_new] = vertices.number(keys[i]);
    if (is_new) {
      room.key[0][entries.begin + found] = keys[i];
      group[found].next = 0;
    }
    return found;
  };
  for (int64_t i = 0; i < entries.end - entries.begin; ++i) {
    const int found = number(i);
    lattice.vertex[entries.begin + i] = int32_t(entries.begin + found);
    ++group[found].next;
  }
  return vertices.known();
}

// One digit of all keys: from key[from] to key[1 − from], equal ones in their order. False: it is the same in all.
bool sort_digit(const SortRoom& room, int64_t keys, int shift, int from, const Parallel& parallel) {
  const auto digit_of = [shift](uint64_t key) { return int(key >> shift) & (digits - 1); };
  const int64_t tasks = SortRoom::tasks(keys);
  parallel_for(parallel, tasks, 1, [&](int64_t i) {
    int32_t* const count = room.count + i * digits;
    std::fill(count, count + digits, 0);
    const Stretch stretch(i, keys_of_task, keys);
    for (int64_t at = stretch.begin; at < stretch.end; ++at) {
      ++count[digit_of(room.key[from][at])];
    }
  });
  int32_t before = 0;
  for (int digit = 0; digit < digits; ++digit) {
    const int32_t first = before;
    for (int64_t i = 0; i < tasks; ++i) {
      before += std::exchange(room.count[i * digits + digit], before);
    }
    if (before - first == keys) {
      return false;
    }
  }
  parallel_for(parallel, tasks, 1, [&](int64_t i) {
    int32_t* const next = room.count + i * digits;
    const Stretch stretch(i, keys_of_task, keys);
    for (int64_t at = stretch.begin; at < stretch.end; ++at) {
      const uint64_t key = room.key[from][at];
      const int32_t to = next[digit_of(key)]++;
      room.key[1 - from][to] = key;
      room.place[1 - from][to] = room.place[from][at];
    }
  });
  return true;
}

// Numbers the vertices of sorted groups, and tells each group where its entries go. Returns how many vertices there
// are; their keys are key[1 − from].
int32_t number_vertices(const Lattice& lattice, const SortRoom& room, int64_t groups, int from) {
  const uint64_t* const key = room.key[from];
  uint64_t* const unique = room.key[1 - from];
  int32_t vertices = 0, entries = 0;
  for (int64_t i = 0; i < groups; ++i) {
    if (i == 0 || key[i] != key[i - 1]) {
      lattice.first[vertices] = entries;
      unique[vertices++] = key[i];
    }
    Group& group = room.group[room.place[from][i]];
    group.vertex = vertices;
    entries += std::exchange(group.next, entries);
  }
  lattice.first[vertices] = entries;
  return vertices;
}

}  // namespace

int64_t crf_sort_bytes(const Crf& of) { return SortRoom(of, nullptr).bytes; }
int64_t crf_lattice_bytes(const Crf& of) { return Lattice::lay_out(of, nullptr).bytes; }
int64_t crf_links_bytes(const Crf&, int64_t vertices) { return Links::lay_out(vertices, nullptr).bytes; }

int64_t find_vertices(const Crf& of, int64_t n, const CrfBlocks& blocks, void* sort, const Parallel& parallel) {
  const Lattice lattice = Lattice::lay_out(of, blocks.lattice);
  const SortRoom room(of, sort);
  const int64_t entries = of.shape.pixels() * crf_corners;
  const auto visit_parts = [&](const auto& task) {
    parallel_for(parallel, room.parts, 1, [&](int64_t i) { task(i, Stretch(i, entries_of_part, entries)); });
  };
  visit_parts([&](int64_t i, const Stretch& part) {
    with_widths(parallel.simd,
                [&](auto lanes, auto) { room.before[i] = group_part<decltype(lanes)>(of, n, lattice, room, part); });
  });
  if (parallel.stopped(parallel)) {
    return 0;
  }
  int32_t groups = 0;
  for (int64_t i = 0; i < room.parts; ++i) {
    groups += std::exchange(room.before[i], groups);
  }
  room.before[room.parts] = groups;
  visit_parts([&](int64_t i, const Stretch& part) {  // those of all parts, one after the other
    for (int32_t to = room.before[i]; to < room.before[i + 1]; ++to) {
      room.place[1][to] = int32_t(part.begin + (to - room.before[i]));
      room.key[1][to] = room.key[0][room.place[1][to]];
    }
  });
  int from = 1;
  for (int shift = 0; shift < of.keys.bits; shift += digit_bits) {
    if (sort_digit(room, groups, shift, from, parallel)) {
      from = 1 - from;
    }
  }
  if (parallel.stopped(parallel)) {
    return 0;
  }
  const int32_t vertices = number_vertices(lattice, room, groups, from);
  if (from == 0) {  // where link_vertices looks
    std::copy(room.key[1], room.key[1] + vertices, room.key[0]);
  }
  visit_parts([&](int64_t, const Stretch& part) {
    for (int64_t entry = part.begin; entry < part.end; ++entry) {
      Group& group = room.group[lattice.vertex[entry]];
      lattice.vertex[entry] = group.vertex;
      lattice.pixel[group.next] = int32_t(entry / crf_corners);
      lattice.splat[group.next++] = lattice.slice[entry];
    }
  });
  return vertices;
}

void link_vertices(const Crf& of, const CrfBlocks& blocks, void* sort, const Parallel& parallel) {
  const Links links = Links::lay_out(blocks.vertices, blocks.links);
  const uint64_t* const key = SortRoom(of, sort).key[0];
  parallel_for(parallel, SortRoom::tasks(links.vertices) * crf_corners, 1, [&](int64_t task) {
    const int axis = int(task % crf_corners);
    const Stretch part(task / crf_corners, keys_of_task, links.vertices);
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
