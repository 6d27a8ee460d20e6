// SPDX-License-Identifier: Apache-2.0
// unfilter: the filters of PNG undone (section 9 of its specification), and its bytes made numbers.
#pragma once

#include <cstdint>
#include <cstdlib>

namespace deeperlab {

// How a row of a PNG was filtered: each byte is a difference to the one of the pixel to the left, of the row above, …
enum class Filter : uint8_t { none, sub, up, average, paeth };

// The neighbor that is nearest to left + above − corner; ties go to the left, then to the one above.
inline uint8_t paeth(uint8_t left, uint8_t above, uint8_t corner) {
  const int to_left = std::abs(above - corner), to_above = std::abs(left - corner);
  const int to_corner = std::abs(left + above - 2 * corner);
  if (to_left <= to_above && to_left <= to_corner) {
    return left;
  }
  return to_above <= to_corner ? above : corner;
}

// The stream of a PNG once it is inflated: rows of the filter's number and width · pixel_bytes filtered bytes.
struct FilteredRows {
  const uint8_t* data;
  int64_t height, width;
  int pixel_bytes;  // 1: 8 bits; 2: 16 bits, the high byte first; 3: red, green, blue
};

namespace cpu {

int64_t unfilter_scratch_bytes(int64_t width, int pixel_bytes);

// Writes height · width numbers: uint8_t of one byte, uint16_t of two, int32_t R + 256 G + 65536 B of three. Returns
// false where a row names no filter; what is written then has no meaning.
bool unfilter(const FilteredRows& rows, void* numbers, void* scratch);

}  // namespace cpu
}  // namespace deeperlab
