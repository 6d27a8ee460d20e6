// SPDX-License-Identifier: Apache-2.0
#include "deeperlab/unfilter.h"

#include <algorithm>
#include <cstring>

#include "simd/number.h"
#include "deeperlab/scratch.h"

namespace deeperlab::cpu {
namespace {

constexpr int64_t margin = 8;  // bytes 0 before each row: its first pixel has neighbors of 0

// Two rows of bytes, unfiltered: the one above, and the one that is made.
struct Layout {
  uint8_t* above;
  uint8_t* row;
  int64_t bytes;
};

Layout lay_out(int64_t row_bytes, void* block) {
  Scratch scratch(block);
  uint8_t* const above = scratch.take<uint8_t>(margin + row_bytes);
  uint8_t* const row = scratch.take<uint8_t>(margin + row_bytes);
  return {above, row, scratch.bytes()};
}

// How many of the bytes are 0 before one is not.
int64_t count_zeros(const uint8_t* bytes, int64_t count) {
  int64_t i = 0;
  while (i + 8 <= count && load<uint64_t>(bytes + i) == 0) {
    i += 8;
  }
  while (i < count && bytes[i] == 0) {
    ++i;
  }
  return i;
}

// Where the left neighbor equals the corner, Paeth's predictor is the byte above, whatever that is. So while the
// differences are 0 the row repeats the one above, and label maps are mostly that.
template <int size>
void undo_paeth(const uint8_t* in, const uint8_t* above, uint8_t* row, int64_t bytes) {
  for (int64_t i = 0; i < bytes;) {
    if (in[i] == 0 && memcmp(row + i - size, above + i - size, size) == 0) {
      const int64_t same = count_zeros(in + i, bytes - i) / size * size;
      memcpy(row + i, above + i, size_t(same));
      i += same;
      if (i == bytes) {
        break;
      }
    }
    for (int c = 0; c < size; ++c, ++i) {
      row[i] = uint8_t(in[i] + paeth(row[i - size], above[i], above[i - size]));
    }
  }
}

template <int size>
bool undo(Filter filter, const uint8_t* in, const uint8_t* above, uint8_t* row, int64_t bytes) {
  switch (filter) {
    case Filter::none:
      memcpy(row, in, size_t(bytes));
      return true;
    case Filter::sub:
      for (int64_t i = 0; i < bytes; ++i) {
        row[i] = uint8_t(in[i] + row[i - size]);
      }
      return true;
    case Filter::up:
      for (int64_t i = 0; i < bytes; ++i) {
        row[i] = uint8_t(in[i] + above[i]);
      }
      return true;
    case Filter::average:
      for (int64_t i = 0; i < bytes; ++i) {
        row[i] = uint8_t(in[i] + (row[i - size] + above[i]) / 2);
      }
      return true;
    case Filter::paeth:
      undo_paeth<size>(in, above, row, bytes);
      return true;
  }
  return false;
}

void to_numbers(const uint8_t* row, int64_t width, uint8_t* numbers) { memcpy(numbers, row, size_t(width)); }

void to_numbers(const uint8_t* row, int64_t width, uint16_t* numbers) {
  for (int64_t x = 0; x < width; ++x) {
    numbers[x] = uint16_t(row[2 * x] << 8 | row[2 * x + 1]);
  }
}

void to_numbers(const uint8_t* row, int64_t width, int32_t* numbers) {
  for (int64_t x = 0; x < width; ++x) {
    numbers[x] = row[3 * x] | row[3 * x + 1] << 8 | row[3 * x + 2] << 16;
  }
}

// Of a row and the one above, by its bytes and its numbers: label maps mostly repeat them, and a copy is quicker.
template <int size, class Number>
void to_numbers_beside(const uint8_t* row, const uint8_t* above, int64_t width, const Number* known, Number* numbers) {
  constexpr int64_t pixels = 16, words = pixels * size / 8;
  int64_t x = 0;
  for (; x + pixels <= width; x += pixels) {
    uint64_t differs = 0;
    for (int64_t i = 0; i < words; ++i) {
      differs |= load<uint64_t>(row + x * size + 8 * i) ^ load<uint64_t>(above + x * size + 8 * i);
    }
    if (differs == 0) {
      memcpy(numbers + x, known + x, pixels * sizeof(Number));
    } else {
      to_numbers(row + x * size, pixels, numbers + x);
    }
  }
  to_numbers(row + x * size, width - x, numbers + x);
}

template <int size, class Number>
bool unfilter_rows(const FilteredRows& rows, Number* numbers, void* scratch) {
  const int64_t bytes = rows.width * size;
  const Layout layout = lay_out(bytes, scratch);
  uint8_t *above = layout.above + margin, *row = layout.row + margin;
  memset(layout.above, 0, size_t(margin + bytes));
  memset(layout.row, 0, size_t(margin));
  const uint8_t* in = rows.data;
  for (int64_t y = 0; y < rows.height; ++y, in += 1 + bytes) {
    if (!undo<size>(Filter(in[0]), in + 1, above, row, bytes)) {
      return false;
    }
    Number* const here = numbers + y * rows.width;
    if (size < 3 || y == 0) {
      to_numbers(row, rows.width, here);
    } else {
      to_numbers_beside<size>(row, above, rows.width, here - rows.width, here);
    }
    std::swap(above, row);
  }
  return true;
}

}  // namespace

int64_t unfilter_scratch_bytes(int64_t width, int pixel_bytes) { return lay_out(width * pixel_bytes, nullptr).bytes; }

bool unfilter(const FilteredRows& rows, void* numbers, void* scratch) {
  switch (rows.pixel_bytes) {
    case 1:
      return unfilter_rows<1>(rows, static_cast<uint8_t*>(numbers), scratch);
    case 2:
      return unfilter_rows<2>(rows, static_cast<uint16_t*>(numbers), scratch);
    default:
      return unfilter_rows<3>(rows, static_cast<int32_t*>(numbers), scratch);
  }
}

}  // namespace deeperlab::cpu
