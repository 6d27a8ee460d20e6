// SPDX-License-Identifier: Apache-2.0
#include "deeperlab/draw.h"

#include <algorithm>
#include <type_traits>

#include "parallel.h"

namespace deeperlab::cpu {
namespace {

// Pixels that are looked at together: most are alike, and alike they need no look at each.
constexpr int block = 16;

// A row of the maps, of `width` pixels.
struct Row {
  const int32_t *category, *instance;
  int width;

  Key operator[](int x) const { return {category[x], instance[x]}; }
  Row down(int64_t rows) const { return {category + rows * width, instance + rows * width, width}; }
};

// ends_before and begins_after as integers, 0 for false: vectors have no use for a bool.
int32_t differ(Key a, Key b) { return (a.category ^ b.category) | (a.instance ^ b.instance); }
int32_t nothing(Key key) { return int32_t(begins_after(key)); }

// The end of the run of one segment that begins at x.
int run_end(const Row& row, int x) {
  const Key key = row[x];
  for (; x + block <= row.width; x += block) {
    int32_t any = 0;
    for (int i = 0; i < block; ++i) {
      any |= differ(row[x + i], key);
    }
    if (any != 0) {
      break;
    }
  }
  while (x < row.width && row[x] == key) {
    ++x;
  }
  return x;
}

// Tints `pixels` pixels. The last chunk overlaps the one before: the period of the shares divides its length.
void tint(const uint8_t* image, int pixels, Colour colour, int weight, uint8_t* out) {
  constexpr int chunk = 3 * block;
  const int bytes = 3 * pixels;
  uint16_t shares[chunk];
  const uint16_t red = share(colour.rgb[0], weight);
  const uint16_t green = share(colour.rgb[1], weight);
  const uint16_t blue = share(colour.rgb[2], weight);
  for (int i = 0; i < chunk; i += 3) {
    shares[i] = red;
    shares[i + 1] = green;
    shares[i + 2] = blue;
  }
  if (bytes < chunk) {
    for (int i = 0; i < bytes; ++i) {
      out[i] = blend(image[i], weight, shares[i]);
    }
    return;
  }
  for (int begin = 0; begin < bytes; begin += chunk) {
    const int at = std::min(begin, bytes - chunk);
    for (int i = 0; i < chunk; ++i) {
      out[at + i] = blend(image[at + i], weight, shares[i]);
    }
  }
}

// How many pixels of a thing's run, from its beginning, lie on a border on the left.
int left_border(const Row& row, int begin, int width) {
  for (int distance = 1; distance <= std::min(width, begin); ++distance) {
    if (begins_after(row[begin - distance])) {
      return width - distance + 1;
    }
  }
  return 0;
}

// Which of the `count` pixels of a run from x on lie on an upper or lower border, as values other than 0; whether any.
template <class Count>
bool vertical_borders(const Row& row, int x, Count count, int above, int below, int32_t* edge) {
  const Key key = row[x];
  for (int i = 0; i < count; ++i) {
    edge[i] = 0;
  }
  for (int distance = 1; distance <= below; ++distance) {
    const Row other = row.down(distance);
    for (int i = 0; i < count; ++i) {
      edge[i] |= differ(key, other[x + i]);
    }
  }
  for (int distance = 1; distance <= above; ++distance) {
    const Row other = row.down(-distance);
    for (int i = 0; i < count; ++i) {
      edge[i] |= nothing(other[x + i]);
    }
  }
  int32_t any = 0;
  for (int i = 0; i < count; ++i) {
    any |= edge[i];
  }
  return any != 0;
}

// Draws the lines on the borders of a thing's run; `above` and `below`: how many rows there are, up to their width.
void border(const Row& row, int begin, int end, int above, int below, const Paint& paint, uint8_t* out) {
  const auto line = [&](int x) {
    for (int c = 0; c < 3; ++c) {
      uint8_t& value = out[3 * x + c];
      value = blend(value, paint.border, share(paint.line.rgb[c], paint.border));
    }
  };
  const int left = std::min(end, begin + left_border(row, begin, paint.width));
  const int right = end < row.width ? std::max(left, end - paint.width) : end;
  for (int x = begin; x < left; ++x) {
    line(x);
  }
  for (int x = right; x < end; ++x) {
    line(x);
  }
  int32_t edge[block];
  for (int x = left; x < right; x += block) {
    const int count = std::min(block, right - x);
    const std::integral_constant<int, block> whole;  // a length that the compiler knows makes vectors of the loops
    const bool any = count == block ? vertical_borders(row, x, whole, above, below, edge)
                                    : vertical_borders(row, x, count, above, below, edge);
    for (int i = 0; any && i < count; ++i) {
      if (edge[i] != 0) {
        line(x + i);
      }
    }
  }
}

}  // namespace

void draw(const uint8_t* image, const int32_t* category, const int32_t* instance, int height, int width,
          const Paint& paint, uint8_t* out, const Parallel& parallel) {
  parallel_rows(parallel, 1, height, width, [&](int, int y) {
    const int64_t start = int64_t(y) * width;
    const Row row{category + start, instance + start, width};
    const int above = std::min(paint.width, y), below = std::min(paint.width, height - 1 - y);
    const uint8_t* from = image + 3 * start;
    uint8_t* to = out + 3 * start;
    for (int begin = 0, end; begin < width; begin = end) {
      end = run_end(row, begin);
      const Key key = row[begin];
      const int weight = weight_of(key, paint);
      if (weight > 0) {
        tint(from + 3 * begin, end - begin, shade_of(key, paint), weight, to + 3 * begin);
      } else {
        std::copy_n(from + 3 * begin, 3 * (end - begin), to + 3 * begin);
      }
      if (key.thing() && paint.width > 0) {
        border(row, begin, end, above, below, paint, to);
      }
    }
  });
}

}  // namespace deeperlab::cpu
