// SPDX-License-Identifier: Apache-2.0
// The fast form of top_down. A mask becomes bits, 64 pixels a word, so that areas and overlaps are counted bits. Along
// a row of pixels a mask is either known from its two samples, or crosses `least` between them: only the latter pixels
// are interpolated, a vector at a time. Of a word that one instance alone has painted its number is kept, of others
// that of each pixel; both maps are written once, at the end (top_down_rows.h). Numbers count only where `taken` has
// bits, so none is cleared beforehand. Words begin where a line of the cache does in the maps, so the first of a row
// may begin before its first pixel.
#pragma once

#include <algorithm>
#include <utility>

#include "deeperlab/scratch.h"
#include "deeperlab/top_down.h"
#include "simd/bits.h"
#include "simd/dispatch.h"
#include "simd/number.h"
#include "simd/stream.h"

namespace deeperlab::cpu {

struct MaskCount {
  int64_t area, overlap;  // px, of a mask; of those, in better instances
};

constexpr uint64_t all_of_word = ~uint64_t(0);

// Bits below `count`, 0 … 64.
constexpr uint64_t low_bits(int64_t count) { return count >= word ? all_of_word : (uint64_t(1) << count) - 1; }

// Sets the bits begin … end − 1 of a row.
inline void set_bits(uint64_t* row, uint64_t begin, uint64_t end) {
  if (begin >= end) {
    return;
  }
  const uint64_t first = begin / word, last = (end - 1) / word;
  const uint64_t from = all_of_word << (begin % word), to = low_bits((end - 1) % word + 1);
  if (first == last) {
    row[first] |= from & to;
    return;
  }
  row[first] |= from;
  std::fill(row + first + 1, row + last, all_of_word);
  row[last] |= to;
}

// Puts a few bits at any place of a row.
inline void or_bits(uint64_t* row, uint64_t at, uint32_t bits) {
  const uint64_t first = at / word, shift = at % word;
  row[first] |= uint64_t(bits) << shift;
  const uint64_t over = uint64_t(bits) >> 1 >> (word - 1 - shift);
  if (over != 0) {
    row[first + 1] |= over;
  }
}

// Bit i: byte i is not 0. Each becomes 0 or 1; the factor moves them side by side into the highest byte.
constexpr uint32_t bits_of_bytes(uint64_t bytes) {
  constexpr uint64_t low = 0x7f7f7f7f7f7f7f7fu;
  const uint64_t ones = ((((bytes & low) + low) | bytes) & ~low) >> 7;
  return uint32_t((ones * 0x0102040810204080u) >> 56);
}

// Writes a value where bits are set: pixels in runs.
template <class T>
void fill_bits(uint64_t bits, T* to, T value) {
  if (bits == all_of_word) {
    std::fill_n(to, word, value);
    return;
  }
  for (int64_t at = 0; bits != 0;) {
    const int skip = __builtin_ctzll(bits);
    bits >>= skip;
    at += skip;
    const int length = ~bits == 0 ? int(word) : __builtin_ctzll(~bits);
    std::fill_n(to + at, length, value);
    bits = length == word ? 0 : bits >> length;
    at += length;
  }
}

// Bits of a row's first word before its first pixel, from where the row of the semantic map lies.
inline int bits_before(const int32_t* row) { return int(-elements_to_line(row) & (word - 1)); }

// What the painter of an image works with.
struct PaintLayout {
  int64_t words;           // of a row
  uint64_t *taken, *mask;  // [H, words] pixels of the instances, and of the mask that is looked at
  int32_t* owner;          // [H, words] the instance that has painted the word, or `several`
  uint16_t* number;        // [H, words · 64] of several the instance of each pixel that is taken
  int32_t* free_class;     // [H, words] see MapRow
  int padded;              // samples of a row with its frame, in whole vectors
  float *sample, *row;     // [m + 2, padded] of a mask with its frame, and a row between two of them
  float* past;             // [W] of each column's PasteCell
  int32_t* start;          // [m + 3] the first column at or past each sample
  int64_t bytes;

  PaintLayout(const TopDown& of, void* block) {
    Scratch scratch(block);
    const int64_t height = of.shape.height, width = of.shape.width, samples = of.side + 2;
    words = (width + 2 * (word - 1)) / word;
    taken = scratch.take<uint64_t>(height * words);
    mask = scratch.take<uint64_t>(height * words);
    owner = scratch.take<int32_t>(height * words);
    number = scratch.take<uint16_t>(height * words * word);
    free_class = scratch.take<int32_t>(height * words);
    padded = int(whole_vectors(samples + 1));
    sample = scratch.take<float>(samples * padded);
    row = scratch.take<float>(padded);
    past = scratch.take<float>(width + widest_lanes);
    start = scratch.take<int32_t>(samples + 1);
    bytes = scratch.bytes();
  }

  static constexpr int32_t several = 0;

  uint64_t* taken_row(int y) const { return taken + y * words; }
  uint64_t* mask_row(int y) const { return mask + y * words; }
  int32_t* owner_row(int y) const { return owner + y * words; }
  int32_t* free_class_row(int y) const { return free_class + y * words; }
  uint16_t* number_row(int y) const { return number + y * words * word; }
};

template <class L, class T>
struct FastPainter {
  using Float = typename L::Float;

  const TopDown& of;
  int64_t n;
  PaintLayout at;
  const int32_t* semantic;  // [H, W] where the map will be written

  // The bits of mask k go to at.mask, where its area is.
  MaskCount measure(int k) const {
    const PasteArea area = paste_area(of, n, k);
    MaskCount found{0, 0};
    if (area.columns.begin >= area.columns.end) {
      return found;
    }
    if constexpr (!is_whole) {
      read_samples(of.mask.plane<T>(n, k));
      find_columns(area.columns);
    }
    for (int y = area.rows.begin; y < area.rows.end; ++y) {
      const int before = bits_before_row(y);
      const int64_t first = (before + area.columns.begin) / word, last = (before + area.columns.end - 1) / word;
      uint64_t* const bits = at.mask_row(y);
      const uint64_t* const taken = at.taken_row(y);
      std::fill(bits + first, bits + last + 1, uint64_t(0));
      if constexpr (is_whole) {
        read_bits(of.mask.plane<T>(n, k), y, before, bits);
      } else {
        paste_row(paste_cell(area.rows, float(y), of.side), before, bits);
      }
      for (int64_t i = first; i <= last; ++i) {
        found.area += __builtin_popcountll(bits[i]);
        found.overlap += __builtin_popcountll(bits[i] & taken[i]);
      }
    }
    return found;
  }

  void paint(int k, int32_t number) const {
    const PasteArea area = paste_area(of, n, k);
    for (int y = area.rows.begin; y < area.rows.end; ++y) {
      const int before = bits_before_row(y);
      const uint64_t* const bits = at.mask_row(y);
      uint64_t* const taken = at.taken_row(y);
      int32_t* const owner = at.owner_row(y);
      const int64_t last = (before + area.columns.end - 1) / word;
      for (int64_t i = (before + area.columns.begin) / word; i <= last; ++i) {
        const uint64_t free = bits[i] & ~taken[i];
        if (free == 0) {
          continue;
        }
        if (taken[i] == 0) {
          owner[i] = number;
        } else {
          uint16_t* const numbers = at.number_row(y) + i * word;
          if (owner[i] != PaintLayout::several) {
            std::fill_n(numbers, word, uint16_t(std::exchange(owner[i], PaintLayout::several)));
          }
          fill_bits(free, numbers, uint16_t(number));
        }
        taken[i] |= free;
      }
    }
  }

 private:
  static constexpr bool is_whole = std::is_same_v<T, uint8_t>;

  int bits_before_row(int y) const { return bits_before(semantic + int64_t(y) * of.shape.width); }

  void read_samples(const Plane<T>& mask) const {
    std::fill_n(at.sample, (of.side + 2) * at.padded, 0.0f);
    with_density(mask.column == 1, [&](auto dense) {
      for (int y = 0; y < of.side; ++y) {
        const T* const from = mask.data + y * mask.row;
        float* const to = at.sample + (y + 1) * at.padded + 1;
        for (int x = 0; x < of.side; ++x) {
          to[x] = to_float(from[dense.value ? x : x * mask.column]);
        }
      }
    });
  }

  void find_columns(const PasteAxis& columns) const {
    using Int = typename L::Int;
    Float along;
    for (int i = 0; i < L::count; ++i) {
      along[i] = float(i);
    }
    int cell = 0;
    at.start[0] = columns.begin;
    for (int x = columns.begin; x < columns.end; x += L::count) {  // past the end too, where nobody looks
      const PasteCellOf<Float> found = paste_cell(columns, along + float(x), of.side);
      store(at.past + x, found.past);
      while (cell < found.before[L::count - 1]) {
        const int past_cell = __builtin_ctz(bits_of(less(broadcast<Int>(cell), found.before)));
        at.start[++cell] = std::min(x + past_cell, columns.end);
      }
    }
    std::fill(at.start + cell + 1, at.start + of.side + 2, columns.end);
  }

  // The bits of a row of pixels, where none is set. An edge is a sample that reaches `least` where the one before it
  // does not, or the reverse. The frame reaches it nowhere, so edges come in pairs.
  void paste_row(const PasteCell& between, int before, uint64_t* bits) const {
    const float* const above = at.sample + between.before * at.padded;
    const Float least = broadcast<Float>(of.least);
    int begin = 0;  // of the samples that reach it; 0: none yet
    for (int first = 0; first < at.padded; first += int(word)) {
      uint64_t edges = begin > 0;
      for (int i = first; i < std::min(first + int(word), at.padded); i += L::count) {
        const Float value = blend_alike(load<Float>(above + i), load<Float>(above + at.padded + i), between.past);
        store(at.row + i, value);
        const auto reaches = uint64_t(bits_of(less_equal(least, value)));
        edges ^= reaches << (i - first) ^ reaches << (i - first + 1);
      }
      for (; edges != 0; edges &= edges - 1) {
        const int edge = first + __builtin_ctzll(edges);
        if (begin > 0) {
          set_bits(bits, before + at.start[begin], before + at.start[edge - 1]);
        }
        begin = begin > 0 ? 0 : edge;
        cross(edge - 1, least, before, bits);
      }
    }
  }

  // The pixels between a sample that reaches `least` and one that does not.
  void cross(int sample, const Float& least, int before, uint64_t* bits) const {
    const Float left = broadcast<Float>(at.row[sample]), right = broadcast<Float>(at.row[sample + 1]);
    const int end = at.start[sample + 1];
    for (int x = at.start[sample]; x < end; x += L::count) {
      const uint32_t in = bits_of(less_equal(least, blend(left, right, load<Float>(at.past + x))));
      or_bits(bits, before + x, in & uint32_t(low_bits(end - x)));
    }
  }

  // The bits of a row of a mask of the whole image, where none is set.
  void read_bits(const Plane<T>& mask, int y, int before, uint64_t* bits) const {
    const T* const from = mask.data + y * mask.row;
    int x = 0;
    if (mask.column == 1) {
      for (uint64_t eight; x + 8 <= of.shape.width; x += 8) {
        memcpy(&eight, from + x, sizeof eight);
        if (eight != 0) {  // mostly nothing
          or_bits(bits, before + x, bits_of_bytes(eight));
        }
      }
    }
    for (; x < of.shape.width; ++x) {
      or_bits(bits, before + x, from[x * mask.column] != 0);
    }
  }
};

}  // namespace deeperlab::cpu
