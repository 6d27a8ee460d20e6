// SPDX-License-Identifier: Apache-2.0
// runs: maps as horizontal runs of equal pixels, of which there are far fewer than pixels.
#pragma once

#include <cstdint>

namespace deeperlab {

constexpr int max_maps = 4;  // (category, instance) of a prediction and of a ground truth

// An integer map [H, W] of any type; strides in bytes, of any sign, and memory need not be aligned.
struct IdMap {
  const char* data;
  int bytes;  // of one id: 1, 2, 4 or 8
  bool is_signed;
  int64_t row, column;
};

struct IdMaps {
  const IdMap* map;  // 1 to max_maps of one size
  int number;
  int64_t height, width;
};

// Runs that cover the maps, row by row: the first pixel, counted through the flattened map, how many pixels, and row
// and column of the first.
struct Runs {
  int64_t *start, *length, *y, *x;  // [capacity]
  int64_t capacity;
};

// Columns x0 … x1 − 1 and rows y0 … y1 − 1; all 0 where there is no pixel.
struct PixelBox {
  int64_t x0, y0, x1, y1;
};

namespace cpu {

struct Parallel;

int64_t runs_scratch_bytes(int64_t width);

// The longest runs within which no map changes. Returns how many there are, and writes as many as there is room for.
// One thread looks for them.
int64_t find_runs(const IdMaps& maps, const Runs& found, void* scratch, const Parallel& parallel);

// The tight boxes of the pixels of labels 0 … count − 1, given the label of every run. False for any other label.
bool pixel_boxes(const Runs& runs, const int64_t* label, int64_t count, PixelBox* box);

// Gives every pixel the value of its run; the runs cover `out`.
void spread(const int64_t* length, const int32_t* value, int64_t runs, int32_t* out);

}  // namespace cpu
}  // namespace deeperlab
