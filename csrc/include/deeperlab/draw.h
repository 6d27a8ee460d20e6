// SPDX-License-Identifier: Apache-2.0
// draw: a panoptic map over its image, for the eye. Every weight is a number of 256ths and all arithmetic is exact.
#pragma once

#include "deeperlab/types.h"

namespace deeperlab {

// (category, instance) of a pixel: what belongs to one segment has both in common.
struct Key {
  int32_t category, instance;

  // Instance 0 is none. A negative category is void, whatever its instance.
  DEEPERLAB_HD bool thing() const { return category >= 0 && instance != 0; }
};

DEEPERLAB_HD inline bool operator==(Key a, Key b) { return a.category == b.category && a.instance == b.instance; }
DEEPERLAB_HD inline bool operator!=(Key a, Key b) { return !(a == b); }

struct Color {
  uint8_t rgb[3];
};

// How a map is painted.
struct Paint {
  const Color* shades;       // [categories, shades_each]: the first is the stuff's, the others go round the instances
  int categories;            // without a color, as void: >= this
  int shades_each;           // >= 2
  int stuff, thing, border;  // weights, 0 .. 256
  Color line;                // color of the borders
  int width;                 // of the borders, px
};

DEEPERLAB_HD inline int weight_of(Key key, const Paint& paint) {
  const bool colored = key.category >= 0 && key.category < paint.categories;
  return !colored ? 0 : key.thing() ? paint.thing : paint.stuff;
}

// Where a color is asked for, the key has one: its weight is above 0.
DEEPERLAB_HD inline Color shade_of(Key key, const Paint& paint) {
  const uint32_t each = uint32_t(paint.shades_each);
  const uint32_t shade = key.thing() ? 1 + (uint32_t(key.instance) - 1) % (each - 1) : 0;
  return paint.shades[int64_t(key.category) * each + shade];
}

// What a color of this weight adds to every pixel, rounding included; with the base's part it fits 16 bits.
DEEPERLAB_HD inline uint16_t share(uint8_t color, int weight) { return uint16_t(color * weight + 128); }

DEEPERLAB_HD inline uint8_t blend(uint8_t base, int weight, uint16_t share) {
  return uint8_t(uint16_t(base * (256 - weight) + share) >> 8);
}

// A thing's pixel is on its border where, up to the line's width away, the pixel to the right or below is of another
// segment, or the one to the left or above is of no thing: between two things that touch there is one line, not two.
DEEPERLAB_HD inline bool ends_before(Key key, Key right_or_below) { return key != right_or_below; }
DEEPERLAB_HD inline bool begins_after(Key left_or_above) { return !left_or_above.thing(); }

// What is drawn.
struct SegmentMaps {
  const int32_t *category, *instance;  // [height, width]
  int height, width;

  DEEPERLAB_HD Key at(int y, int x) const {
    return {category[int64_t(y) * width + x], instance[int64_t(y) * width + x]};
  }
};

namespace cpu {

struct Parallel;

int64_t draw_scratch_bytes(int height, int width);

// image, out: RGB [height, width]. `out` may not overlap the others.
void draw(const uint8_t* image, const SegmentMaps& maps, const Paint& paint, uint8_t* out, void* scratch,
          const Parallel& parallel);

}  // namespace cpu
}  // namespace deeperlab
