// SPDX-License-Identifier: Apache-2.0
#include "deeperlab/draw.h"

#include <algorithm>
#include <cstring>

#include "simd/bits.h"
#include "simd/dispatch.h"
#include "deeperlab/scratch.h"

namespace deeperlab::cpu {
namespace {

// The key of a pixel, read once: the maps are the caller's, and another thread may write to them between the check of a
// category and its use as an index.
Key key_of(const SegmentMaps& maps, int y, int x) {
  const int64_t at = int64_t(y) * maps.width + x;
  return {__atomic_load_n(maps.category + at, __ATOMIC_RELAXED), __atomic_load_n(maps.instance + at, __ATOMIC_RELAXED)};
}

// The plain form: what is on a border is asked of every pixel.
bool on_border(const SegmentMaps& maps, int y, int x, int line) {
  const Key key = maps.at(y, x);
  bool border = false;
  for (int distance = 1; distance <= line; ++distance) {
    border |= x + distance < maps.width && ends_before(key, maps.at(y, x + distance));
    border |= y + distance < maps.height && ends_before(key, maps.at(y + distance, x));
    border |= x >= distance && begins_after(maps.at(y, x - distance));
    border |= y >= distance && begins_after(maps.at(y - distance, x));
  }
  return border && key.thing();
}

void draw_line(const Paint& paint, uint8_t* pixel) {
  for (int c = 0; c < 3; ++c) {
    pixel[c] = blend(pixel[c], paint.border, share(paint.line.rgb[c], paint.border));
  }
}

void draw_row(const uint8_t* image, const SegmentMaps& maps, int y, const Paint& paint, uint8_t* out) {
  for (int x = 0; x < maps.width; ++x) {
    const int64_t at = 3 * (int64_t(y) * maps.width + x);
    const Key key = key_of(maps, y, x);
    const int weight = weight_of(key, paint);
    const Color color = weight > 0 ? shade_of(key, paint) : Color{};
    for (int c = 0; c < 3; ++c) {
      out[at + c] = blend(image[at + c], weight, share(color.rgb[c], weight));
    }
    if (on_border(maps, y, x, paint.width)) {
      draw_line(paint, out + at);
    }
  }
}

// Three bits of each pixel; 0 past the end of a row.
struct Planes {
  uint64_t* begins;  // all [height, words]: of another segment than the pixel to the left; the first pixel begins, too
  uint64_t* breaks;  // of another segment than the pixel above
  uint64_t* things;
  int words;
  int64_t bytes;

  Planes(int height, int width, void* block) {
    Scratch scratch(block);
    words = int((width + word - 1) / word);
    begins = scratch.take<uint64_t>(int64_t(height) * words);
    breaks = scratch.take<uint64_t>(int64_t(height) * words);
    things = scratch.take<uint64_t>(int64_t(height) * words);
    bytes = scratch.bytes();
  }
};

// Bit i of `count`: the pixel i on from `at` is of another segment than the one `step` before it.
uint64_t differ(const SegmentMaps& maps, int64_t at, int64_t step, int count) {
  uint64_t bits = 0;
  for (int i = 0; i < count; ++i, ++at) {
    bits |= uint64_t(maps.category[at] != maps.category[at - step] || maps.instance[at] != maps.instance[at - step])
            << i;
  }
  return bits;
}

template <class L>
uint64_t differ(const SegmentMaps& maps, int64_t at, int64_t step) {
  using Int = typename L::Int;
  Int any[word / L::count];
  for (int i = 0; i < word / L::count; ++i, at += L::count) {
    any[i] = (load<Int>(maps.category + at) ^ load<Int>(maps.category + at - step)) |
             (load<Int>(maps.instance + at) ^ load<Int>(maps.instance + at - step));
  }
  return bits_of_word<L>(any);
}

uint64_t things(const SegmentMaps& maps, int64_t at, int count) {
  uint64_t bits = 0;
  for (int i = 0; i < count; ++i, ++at) {
    bits |= uint64_t(Key{maps.category[at], maps.instance[at]}.thing()) << i;
  }
  return bits;
}

template <class L>
uint64_t things(const SegmentMaps& maps, int64_t at) {
  using Int = typename L::Int;
  Int any[word / L::count];
  for (int i = 0; i < word / L::count; ++i, at += L::count) {
    any[i] = (load<Int>(maps.category + at) >= 0) & load<Int>(maps.instance + at);
  }
  return bits_of_word<L>(any);
}

template <class L>
void mark_row(const SegmentMaps& maps, int y, const Planes& planes) {
  const int64_t row = int64_t(y) * maps.width, to = int64_t(y) * planes.words;
  for (int i = 0; i < planes.words; ++i) {
    // A word that the row's end cuts short is read where it ends there, and shifted; it overlaps the one before.
    const int x = i * int(word), rest = maps.width - x;
    uint64_t begins, breaks, thing;
    if (maps.width <= word) {
      begins = differ(maps, row + x + 1, 1, rest - 1) << 1;
      breaks = y > 0 ? differ(maps, row + x, maps.width, rest) : 0;
      thing = things(maps, row + x, rest);
    } else {
      const int past = std::max(0, int(word) - rest);
      const int64_t at = row + x - past;
      begins = i > 0 ? differ<L>(maps, at, 1) >> past : differ<L>(maps, at + 1, 1) << 1;
      breaks = y > 0 ? differ<L>(maps, at, maps.width) >> past : 0;
      thing = things<L>(maps, at) >> past;
    }
    planes.begins[to + i] = begins | uint64_t(i == 0);
    planes.breaks[to + i] = breaks;
    planes.things[to + i] = thing;
  }
}

// Whose pixels lie on a border, of word i of row y: every question is asked of 64 at once. A pixel is of another
// segment than one up to the line's width away exactly where, on the way there, some pixel is of another than the one
// before it.
uint64_t border_bits(const Planes& planes, int height, int y, int i, int line) {
  const int64_t at = int64_t(y) * planes.words + i;
  const uint64_t thing = planes.things[at];
  if (thing == 0) {
    return 0;
  }
  const uint64_t begins = planes.begins[at], after = i + 1 < planes.words ? planes.begins[at + 1] : 0;
  const uint64_t nothing = ~thing, before = i > 0 ? ~planes.things[at - 1] : 0;
  uint64_t border = 0;
  for (int distance = 1; distance <= line; ++distance) {
    border |= distance < word ? begins >> distance | after << (word - distance) : after;
    border |= distance < word ? nothing << distance | before >> (word - distance) : before;
  }
  for (int distance = 1; distance <= std::min(line, height - 1 - y); ++distance) {
    border |= planes.breaks[at + int64_t(distance) * planes.words];
  }
  for (int distance = 1; distance <= std::min(line, y); ++distance) {
    border |= ~planes.things[at - int64_t(distance) * planes.words];
  }
  return border & thing;
}

// All bits set at 2, 5, 8, ...: from 2 − c on, where bytes are of channel c.
template <int lanes>
struct EveryThird {
  uint16_t on[3 * lanes + 2] = {};

  constexpr EveryThird() {
    for (int i = 2; i < 3 * lanes + 2; i += 3) {
      on[i] = 0xffff;
    }
  }
};
template <int lanes>
constexpr EveryThird<lanes> every_third;

// Tints the first `bytes` of a row's `rest`. It goes on to the end of a chunk where the row does: what follows in the
// row is drawn later.
template <class L>
void tint(const uint8_t* image, int64_t bytes, int64_t rest, Color color, int weight, uint8_t* out) {
  constexpr int lanes = 2 * L::count, chunk = 3 * lanes;
  using Bytes = Vector<uint8_t, lanes>;
  using Shorts = Vector<uint16_t, lanes>;
  Shorts shares[3] = {};
  for (int i = 0; i < 3; ++i) {
    for (int c = 0; c < 3; ++c) {
      shares[i] |= load<Shorts>(every_third<lanes>.on + i * lanes + 2 - c) & share(color.rgb[c], weight);
    }
  }
  const uint16_t keep = uint16_t(256 - weight);
  const auto paint = [&](const uint8_t* from, uint8_t* to) {
    for (int i = 0; i < 3; ++i) {
      const Shorts base = __builtin_convertvector(load<Bytes>(from + i * lanes), Shorts);
      store(to + i * lanes, __builtin_convertvector((base * keep + shares[i]) >> 8, Bytes));
    }
  };
  int64_t at = 0;
  for (; at < bytes && at + chunk <= rest; at += chunk) {
    paint(image + at, out + at);
  }
  for (; at < bytes; at += chunk) {
    uint8_t last[chunk] = {};
    memcpy(last, image + at, size_t(std::min<int64_t>(chunk, bytes - at)));
    paint(last, last);
    memcpy(out + at, last, size_t(std::min<int64_t>(chunk, bytes - at)));
  }
}

template <class L>
void paint_row(const uint8_t* image, const SegmentMaps& maps, int y, const Paint& paint, const Planes& planes,
               uint8_t* out) {
  const auto run = [&](int begin, int end) {
    // A run of the next row begins near this one; without its key at hand 1441² takes 2.0 ms, not 1.7.
    const int64_t below = int64_t(std::min(y + 1, maps.height - 1)) * maps.width + begin;
    __builtin_prefetch(maps.category + below);
    __builtin_prefetch(maps.instance + below);
    const Key key = key_of(maps, y, begin);
    const int weight = weight_of(key, paint);
    const Color color = weight > 0 ? shade_of(key, paint) : Color{};
    tint<L>(image + 3 * begin, 3 * (end - begin), 3 * (maps.width - begin), color, weight, out + 3 * begin);
  };
  int begin = 0;
  for (int i = 0; i < planes.words; ++i) {
    uint64_t begins = planes.begins[int64_t(y) * planes.words + i] & ~uint64_t(i == 0);
    for (; begins != 0; begins &= begins - 1) {
      const int end = i * int(word) + __builtin_ctzll(begins);
      run(begin, end);
      begin = end;
    }
  }
  run(begin, maps.width);
  for (int i = 0; i < planes.words && paint.width > 0; ++i) {
    uint64_t border = border_bits(planes, maps.height, y, i, paint.width);
    for (; border != 0; border &= border - 1) {
      draw_line(paint, out + 3 * (i * int(word) + __builtin_ctzll(border)));
    }
  }
}

}  // namespace

int64_t draw_scratch_bytes(int height, int width) { return Planes(height, width, nullptr).bytes; }

void draw(const uint8_t* image, const SegmentMaps& maps, const Paint& paint, uint8_t* out, void* scratch,
          const Parallel& parallel) {
  const int height = maps.height, width = maps.width;
  if (parallel.simd == Simd::plain) {
    return parallel_rows(parallel, 1, height, width, [&](int64_t, int y) { draw_row(image, maps, y, paint, out); });
  }
  const Planes planes(height, width, scratch);
  parallel_rows(parallel, 1, height, width, [&](int64_t, int y) {
    with_simd(parallel.simd, [&](auto lanes) { mark_row<decltype(lanes)>(maps, y, planes); });
  });
  parallel_rows(parallel, 1, height, width, [&](int64_t, int y) {
    const int64_t row = 3 * int64_t(y) * width;
    with_simd(parallel.simd,
              [&](auto lanes) { paint_row<decltype(lanes)>(image + row, maps, y, paint, planes, out + row); });
  });
}

}  // namespace deeperlab::cpu
