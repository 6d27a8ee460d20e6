// SPDX-License-Identifier: Apache-2.0
#include "deeperlab/overlap.h"

#include <algorithm>
#include <cstring>

#include "deeperlab/scratch.h"

namespace deeperlab::cpu {
namespace {

constexpr int64_t word = 8;  // pixels whose `begins` are looked at together

struct Layout {
  uint8_t* begins;   // [width, rounded up] 1 where a run begins: in some map the pixel differs from its left neighbour
  uint32_t* places;  // [slots] 1 + place of a combination in the list, 0 if free; a power of two, at most half full
  int64_t slots;
  int shift;  // 64 − log2(slots)
  int64_t bytes;
};

Layout lay_out(int64_t width, int64_t capacity, void* block) {
  Scratch scratch(block);
  int64_t slots = 16;
  int shift = 60;
  for (; slots < 2 * capacity; slots *= 2) {
    --shift;
  }
  uint8_t* begins = scratch.take<uint8_t>((width + word - 1) / word * word);
  uint32_t* places = scratch.take<uint32_t>(slots);
  return {begins, places, slots, shift, scratch.bytes()};
}

template <class T>
T load(const char* data) {
  T value;
  memcpy(&value, data, sizeof value);
  return value;
}

int64_t load_id(const IdMap& map, const char* data) {
  switch (map.bytes) {
    case 1:
      return map.is_signed ? int64_t(load<int8_t>(data)) : int64_t(load<uint8_t>(data));
    case 2:
      return map.is_signed ? int64_t(load<int16_t>(data)) : int64_t(load<uint16_t>(data));
    case 4:
      return map.is_signed ? int64_t(load<int32_t>(data)) : int64_t(load<uint32_t>(data));
    default:
      return load<int64_t>(data);
  }
}

// The loop of every pixel; it has no branch, so that compilers vectorise it where `column` is the size of T.
template <class T>
[[gnu::always_inline]] inline void mark(const char* __restrict row, int64_t column, int64_t width,
                                        uint8_t* __restrict begins) {
  for (int64_t x = 1; x < width; ++x) {
    begins[x] |= uint8_t(load<T>(row + x * column) != load<T>(row + (x - 1) * column));
  }
}

#if defined(__x86_64__)
// The same in wider registers: two maps of 1441² int32 in 0.55 ms, what it takes to read them, instead of 0.66 ms.
template <class T>
[[gnu::target("avx2")]] void mark_avx2(const char* row, int64_t width, uint8_t* begins) {
  mark<T>(row, sizeof(T), width, begins);
}
#endif

template <class T>
void mark_any(const char* row, int64_t column, int64_t width, uint8_t* begins) {
  if (column != int64_t(sizeof(T))) {
    return mark<T>(row, column, width, begins);
  }
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2")) {
    return mark_avx2<T>(row, width, begins);
  }
#endif
  mark<T>(row, sizeof(T), width, begins);
}

void mark_runs(const IdMap& map, int64_t y, int64_t width, uint8_t* begins) {
  const char* row = map.data + y * map.row;
  switch (map.bytes) {
    case 1:
      return mark_any<uint8_t>(row, map.column, width, begins);
    case 2:
      return mark_any<uint16_t>(row, map.column, width, begins);
    case 4:
      return mark_any<uint32_t>(row, map.column, width, begins);
    default:
      return mark_any<uint64_t>(row, map.column, width, begins);
  }
}

template <int maps>
struct Table {
  const Layout layout;
  int64_t capacity;
  uint64_t odd;
  int64_t* ids;
  int64_t* pixels;
  int64_t size = 0;

  // The place of a combination, a new one if need be; -1 where there is no room.
  int64_t place_of(const int64_t* key) {
    for (uint64_t slot = slot_of<maps>(key, odd, layout.shift);; slot = (slot + 1) & uint64_t(layout.slots - 1)) {
      const int64_t place = int64_t(layout.places[slot]) - 1;
      if (place >= 0) {
        if (memcmp(key, ids + place * maps, maps * sizeof(int64_t)) == 0) {
          return place;
        }
        continue;
      }
      if (size == capacity) {
        return -1;
      }
      std::copy(key, key + maps, ids + size * maps);
      pixels[size] = 0;
      layout.places[slot] = uint32_t(++size);
      return size - 1;
    }
  }
};

template <int maps>
int64_t count_runs(const IdMap* map, int64_t height, int64_t width, Table<maps> table) {
  uint8_t* const begins = table.layout.begins;
  table.pixels[0] = 0;
  const int64_t words = (width + word - 1) / word;
  for (int64_t y = 0; y < height && width > 0; ++y) {
    std::fill(begins, begins + words * word, uint8_t(0));
    begins[0] = 1;
    for (int m = 0; m < maps; ++m) {
      mark_runs(map[m], y, width, begins);
    }
    int64_t place = 0, begin = 0;  // of the run at hand
    for (int64_t i = 0; i < words; ++i) {
      uint64_t marks = load<uint64_t>(reinterpret_cast<const char*>(begins) + i * word);
      for (; marks != 0; marks &= marks - 1) {
        const int64_t x = i * word + __builtin_ctzll(marks) / 8;
        int64_t key[maps];
        for (int m = 0; m < maps; ++m) {
          key[m] = load_id(map[m], map[m].data + y * map[m].row + x * map[m].column);
        }
        table.pixels[place] += x - begin;  // none for the first of a row
        place = table.place_of(key);
        if (place < 0) {
          return -1;
        }
        begin = x;
      }
    }
    table.pixels[place] += width - begin;
  }
  return table.size;
}

}  // namespace

int64_t overlap_scratch_bytes(int64_t width, int64_t capacity) { return lay_out(width, capacity, nullptr).bytes; }

int64_t overlap(const IdMap* maps, int count, int64_t height, int64_t width, int64_t capacity, uint64_t odd,
                int64_t* ids, int64_t* pixels, void* scratch) {
  const Layout layout = lay_out(width, capacity, scratch);
  std::fill(layout.places, layout.places + layout.slots, 0u);
  switch (count) {
    case 1:
      return count_runs<1>(maps, height, width, {layout, capacity, odd, ids, pixels});
    case 2:
      return count_runs<2>(maps, height, width, {layout, capacity, odd, ids, pixels});
    case 3:
      return count_runs<3>(maps, height, width, {layout, capacity, odd, ids, pixels});
    default:
      return count_runs<4>(maps, height, width, {layout, capacity, odd, ids, pixels});
  }
}

}  // namespace deeperlab::cpu
