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
// Memory is touched for so many groups as there are, which are few beside entries.
struct SortRoom {
  uint64_t* key[2];   // [6P] in turns; at first those of a part begin where its entries would, part by part
  int32_t* group[2];  // [6P] in turns
  int32_t* from;      // [1] which of the two is sorted
  int32_t* count;     // [tasks, digits]
  int64_t bytes;

  SortRoom(const Crf& of, void* block) {
    Scratch scratch(block);
    const int64_t entries = of.shape.pixels() * crf_corners;
    for (int i = 0; i < 2; ++i) {
      key[i] = scratch.take<uint64_t>(entries);
      group[i] = scratch.take<int32_t>(entries);
    }
    from = scratch.take<int32_t>(1);
    count = scratch.take<int32_t>(tasks(entries) * digits);
    bytes = scratch.bytes();
  }
  static int64_t tasks(int64_t keys) { return (keys + keys_of_task - 1) / keys_of_task; }
};

// Where the task of that number begins and ends.
struct Stretch {
  int64_t begin, end;
  Stretch(int64_t i, int64_t length, int64_t all) : begin(i * length), end(std::min(begin + length, all)) {}
};

// The vertices of a part by their keys, which are numbered as they come.
class KnownVertices {
 public:
  explicit KnownVertices(uint64_t* keys) : keys_(keys) {}

  int number(uint64_t key) {
    for (int slot = int(key * 0x9e3779b97f4a7c15 >> (64 - slot_bits));; slot = (slot + 1) & (slots - 1)) {
      if (number_[slot] == 0) {
        keys_[known_] = key;
        number_[slot] = uint16_t(++known_);
        return known_ - 1;
      }
      if (keys_[number_[slot] - 1] == key) {
        return number_[slot] - 1;
      }
    }
  }
  int known() const { return known_; }

 private:
  static constexpr int slot_bits = 14, slots = 1 << slot_bits;
  static_assert(crf_part_rows * crf_part_columns * crf_corners < slots);
  uint64_t* keys_;
  uint16_t number_[slots] = {};  // 0: free, else one more than the key's
  int known_ = 0;
};

// Where the keys of a part begin.
uint64_t* keys_of_part(const Crf& of, const SortRoom& room, int64_t part) {
  return room.key[0] + of.place(of.top(part), of.left(part)) * crf_corners;
}

// Finds the groups of a part, and of which group each entry is. Returns how many there are.
template <class L>
int group_part(const Crf& of, int64_t n, const Lattice& lattice, const SortRoom& room, int64_t part) {
  const Part at(of, part);
  const int entries = at.columns() * crf_corners;
  KnownVertices vertices(keys_of_part(of, room, part));
  for (int y = at.top; y < at.bottom; ++y) {
    const int64_t first = at.place(y, at.left) * crf_corners;
    uint64_t keys[crf_part_columns * crf_corners];
    enclose_pixels<L>(of, n, y, at.left, at.right, lattice.weight + first, keys);
    uint16_t* const group = lattice.group + first;
    for (int i = 0; i < entries; ++i) {
      const bool as_before = i >= crf_corners && keys[i] == keys[i - crf_corners];  // the pixel's
      group[i] = as_before ? group[i - crf_corners] : uint16_t(vertices.number(keys[i]));
    }
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
      room.group[1 - from][to] = room.group[from][at];
    }
  });
  return true;
}

}  // namespace

int64_t crf_sort_bytes(const Crf& of) { return SortRoom(of, nullptr).bytes; }
int64_t crf_lattice_bytes(const Crf& of) { return Lattice::lay_out(of, nullptr).bytes; }
int64_t crf_links_bytes(const Crf&, const CrfCounts& counts) { return Links::lay_out(counts, nullptr).bytes; }

CrfCounts find_vertices(const Crf& of, int64_t n, const CrfBlocks& blocks, void* sort, const Parallel& parallel) {
  const Lattice lattice = Lattice::lay_out(of, blocks.lattice);
  const SortRoom room(of, sort);
  parallel_for(parallel, of.parts(), 1, [&](int64_t part) {
    with_widths(parallel.simd, [&](auto lanes, auto) {
      lattice.before[part] = group_part<decltype(lanes)>(of, n, lattice, room, part);
    });
  });
  if (parallel.stopped(parallel)) {
    return {};
  }
  int32_t groups = 0, most = 0;
  for (int64_t part = 0; part < of.parts(); ++part) {
    most = std::max(most, lattice.before[part]);
    groups += std::exchange(lattice.before[part], groups);
  }
  lattice.before[of.parts()] = groups;
  parallel_for(parallel, of.parts(), 1, [&](int64_t part) {  // those of all parts, one after the other
    const uint64_t* from = keys_of_part(of, room, part);
    for (int32_t to = lattice.before[part]; to < lattice.before[part + 1]; ++to) {
      room.group[1][to] = to;
      room.key[1][to] = *from++;
    }
  });
  int from = 1;
  for (int shift = 0; shift < of.keys.bits; shift += digit_bits) {
    if (sort_digit(room, groups, shift, from, parallel)) {
      from = 1 - from;
    }
  }
  if (parallel.stopped(parallel)) {
    return {};
  }
  *room.from = from;
  const uint64_t* const key = room.key[from];
  return {std::unique_copy(key, key + groups, room.key[1 - from]) - room.key[1 - from], groups, most};
}

void link_vertices(const Crf& of, const CrfBlocks& blocks, void* sort, const Parallel& parallel) {
  const Links links = Links::lay_out(blocks.counts, blocks.links);
  const SortRoom room(of, sort);
  const int64_t groups = blocks.counts.groups;
  const uint64_t *const sorted = room.key[*room.from], *const key = room.key[1 - *room.from];
  const int32_t* const group = room.group[*room.from];
  parallel_for(parallel, SortRoom::tasks(groups), 1, [&](int64_t task) {
    const Stretch part(task, keys_of_task, groups);
    int64_t vertex = std::lower_bound(key, key + links.vertices, sorted[part.begin]) - key;
    for (int64_t i = part.begin; i < part.end; ++i) {
      vertex += key[vertex] != sorted[i];
      if (i == 0 || sorted[i] != sorted[i - 1]) {
        links.first[vertex] = int32_t(i);
      }
      links.group[i] = group[i];
      links.vertex[group[i]] = int32_t(vertex + 1);
    }
  });
  links.first[links.vertices] = int32_t(groups);
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
