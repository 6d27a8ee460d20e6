// SPDX-License-Identifier: Apache-2.0
#include "deeperlab/peaks.h"

#include <algorithm>

#include "deeperlab/scratch.h"
#include "parallel.h"

namespace deeperlab::cpu {
namespace {

struct Peak {
  int64_t votes;
  Candidate candidate;
};

bool better(const Peak& a, const Peak& b) {
  return a.votes != b.votes ? a.votes > b.votes : before(a.candidate, b.candidate);
}

// No two peaks touch, so each 2 × 2 block of cells holds at most one.
int64_t most_peaks(const VoteGrid& grid) { return int64_t((grid.rows + 1) / 2) * ((grid.columns + 1) / 2); }

struct Layout {
  Peak* peaks;     // [N, P, most_peaks]
  int64_t* found;  // [N, P]
  int64_t bytes;
};

Layout lay_out(const Shape& shape, int keypoints, const VoteGrid& grid, void* block) {
  Scratch scratch(block);
  Peak* peaks = scratch.take<Peak>(int64_t(shape.images) * keypoints * most_peaks(grid));
  int64_t* found = scratch.take<int64_t>(int64_t(shape.images) * keypoints);
  return {peaks, found, scratch.bytes()};
}

int64_t find_peaks(const int64_t* votes, int kind, int64_t limit, const VoteGrid& grid, Peak* peaks) {
  int64_t found = 0;
  for (int y = 0; y < grid.rows; ++y) {
    for (int x = 0; x < grid.columns; ++x) {
      const int64_t here = votes[int64_t(y) * grid.columns + x];
      if (here >= limit && is_peak(votes, y, x, grid)) {
        peaks[found++] = {here, {kind, y, x}};
      }
    }
  }
  return found;
}

}  // namespace

int64_t peaks_scratch_bytes(const Shape& shape, int keypoints, const Params& params) {
  return lay_out(shape, keypoints, vote_grid(shape, params), nullptr).bytes;
}

void peaks(const int64_t* votes, const Shape& shape, int keypoints, const Params& params, Candidate* candidate,
           Point* position, int32_t* count, bool* truncated, void* scratch, const Parallel& parallel) {
  const VoteGrid grid = vote_grid(shape, params);
  const int64_t limit = peak_limit(shape, params, grid);
  const int64_t room = params.max_candidates;
  const Layout layout = lay_out(shape, keypoints, grid, scratch);

  parallel_for(parallel, int64_t(shape.images) * keypoints, 1, [&](int64_t plane) {
    layout.found[plane] = find_peaks(votes + plane * grid.size(), int(plane % keypoints), limit, grid,
                                     layout.peaks + plane * most_peaks(grid));
  });
  parallel_for(parallel, shape.images, 1, [&](int64_t n) {
    Peak* all = layout.peaks + n * keypoints * most_peaks(grid);
    int64_t total = 0;
    for (int k = 0; k < keypoints; ++k) {  // close the gaps between the keypoints' lists
      const Peak* list = all + k * most_peaks(grid);
      std::copy(list, list + layout.found[n * keypoints + k], all + total);
      total += layout.found[n * keypoints + k];
    }
    const int64_t kept = std::min(total, room);
    std::partial_sort(all, all + kept, all + total, better);
    count[n] = int32_t(kept);
    truncated[n] = total > room;
    for (int64_t i = 0; i < room; ++i) {
      const Candidate c = i < kept ? all[i].candidate : Candidate{-1, -1, -1};
      candidate[n * room + i] = c;
      position[n * room + i] =
          i < kept ? centroid(votes + (n * keypoints + c.kind) * grid.size(), c.y, c.x, grid) : Point{0.0f, 0.0f};
    }
  });
}

}  // namespace deeperlab::cpu
