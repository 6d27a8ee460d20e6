// SPDX-License-Identifier: Apache-2.0
// peaks: local maxima of the score maps become candidate keypoints (section 3.4).
#pragma once

#include <cmath>

#include "deeperlab/instance.h"
#include "deeperlab/vote.h"

namespace deeperlab {

struct PeaksParams {
  double radius;          // px, of a keypoint's disk
  double peak_threshold;  // share of an ideal disk's votes
  int max_candidates;     // K
};

// Least score of a peak, in units of the score map (vote.h): a share of what one ideal disk of voters adds up to, never
// 0.
inline int64_t peak_limit(const Shape& shape, const PeaksParams& params, const VoteGrid& grid) {
  const double radius = params.radius / shape.stride;  // nodes
  const double limit = params.peak_threshold * 256.0 * double(int64_t(1) << grid.fraction_bits) *
                       3.14159265358979323846 * radius * radius;
  const double bounded = limit < 0x1p62 ? std::ceil(limit) : 0x1p62;  // above any score
  return bounded < 1.0 ? 1 : int64_t(bounded);
}

// Whether cell (y, x) beats its neighbors; among equals the lower raster index wins.
DEEPERLAB_HD inline bool is_peak(const int64_t* votes, int y, int x, const VoteGrid& grid) {
  const int64_t here = votes[int64_t(y) * grid.columns + x];
  for (int dy = -1; dy <= 1; ++dy) {
    for (int dx = -1; dx <= 1; ++dx) {
      const int ny = y + dy, nx = x + dx;
      if ((dy == 0 && dx == 0) || ny < 0 || nx < 0 || ny >= grid.rows || nx >= grid.columns) {
        continue;
      }
      const int64_t there = votes[int64_t(ny) * grid.columns + nx];
      const bool earlier = dy < 0 || (dy == 0 && dx < 0);
      if (there > here || (there == here && earlier)) {
        return false;
      }
    }
  }
  return true;
}

// Centroid of the votes in the 3 × 3 cells around a peak, in px. The sums are exact: at most
// 9 · 2^39 · (2^20 + 2^16) px (see `checked_votes`).
DEEPERLAB_HD inline Point centroid(const int64_t* votes, int y, int x, const VoteGrid& grid) {
  int64_t sum = 0, sum_y = 0, sum_x = 0;
  for (int ny = y > 0 ? y - 1 : 0; ny <= y + 1 && ny < grid.rows; ++ny) {
    for (int nx = x > 0 ? x - 1 : 0; nx <= x + 1 && nx < grid.columns; ++nx) {
      const int64_t here = votes[int64_t(ny) * grid.columns + nx];
      sum += here;
      sum_y += here * (int64_t(grid.cell) * ny);
      sum_x += here * (int64_t(grid.cell) * nx);
    }
  }
  return {float(double(sum_x) / double(sum)), float(double(sum_y) / double(sum))};
}

namespace cpu {

int64_t peaks_scratch_bytes(const Problem& problem);

// votes [N, P, rows, columns] -> seeds, best score first, ties by (kind, y, x). truncated[n]: there were more.
void peaks(const int64_t* votes, const Problem& problem, const Seeds& seeds, bool* truncated, void* scratch,
           const Parallel& parallel);

}  // namespace cpu

namespace cuda {

int64_t peaks_scratch_bytes(const Problem& problem);

void peaks(const int64_t* votes, const Problem& problem, const Seeds& seeds, bool* truncated, void* scratch,
           Stream stream);

}  // namespace cuda
}  // namespace deeperlab
