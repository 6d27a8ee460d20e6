// SPDX-License-Identifier: Apache-2.0
#include "deeperlab/peaks.h"

#include "deeperlab/scratch.h"
#include "launch.cuh"

namespace deeperlab::cuda {
namespace {

struct Peak {
  int64_t votes;
  int64_t cell;  // of all maps of the image: (kind · rows + y) · columns + x
};

// The order of candidates: most votes first, ties by (kind, y, x).
__device__ bool better(const Peak& a, const Peak& b) {
  return a.votes != b.votes ? a.votes > b.votes : a.cell < b.cell;
}

// No two peaks touch, so each 2 × 2 block of cells holds at most one.
int64_t capacity(const VoteGrid& grid, int keypoints) {
  return int64_t((grid.rows + 1) / 2) * ((grid.columns + 1) / 2) * keypoints;
}

// One vote cell a thread. In which order peaks are listed is left to chance; their ranks are not.
__global__ void find_peaks(const int64_t* votes, int64_t images, VoteGrid grid, int keypoints, int64_t limit,
                           int64_t room, Peak* peaks, int32_t* found) {
  const int64_t i = thread_index(), cells = grid.size() * keypoints;
  if (i >= images * cells || votes[i] < limit) {
    return;
  }
  const int64_t n = i / cells, plane = i / grid.size(), cell = i % grid.size();
  if (is_peak(votes + plane * grid.size(), int(cell / grid.columns), int(cell % grid.columns), grid)) {
    peaks[n * room + atomicAdd(found + n, 1)] = {votes[i], i % cells};
  }
}

// A peak's place is the number of better ones: a warp counts them.
__global__ void rank_peaks(int64_t images, const int64_t* votes, VoteGrid grid, int keypoints, int64_t room,
                           const Peak* peaks, const int32_t* found, int32_t wanted, Candidate* candidate,
                           Point* position, int32_t* count, bool* truncated) {
  const ListShare share = list_share(images);
  const int64_t n = share.image;
  const Peak* own = peaks + n * room;
  const int32_t total = found[n];
  for (int32_t i = share.first; i < total; i += share.step) {
    const Peak peak = own[i];
    int64_t before_it = 0;
    for (int32_t j = lane_index(); j < total; j += warp) {
      before_it += better(own[j], peak);
    }
    const int64_t place = sum_warp(before_it);
    if (place < wanted && lane_index() == 0) {
      const int64_t cell = peak.cell % grid.size();
      const Candidate here{int32_t(peak.cell / grid.size()), int32_t(cell / grid.columns),
                           int32_t(cell % grid.columns)};
      candidate[n * wanted + place] = here;
      position[n * wanted + place] = centroid(votes + (n * keypoints + here.kind) * grid.size(), here.y, here.x, grid);
    }
  }
  const int64_t thread = int64_t(share.first) * warp + lane_index();
  for (int64_t i = total + thread; i < wanted; i += int64_t(share.step) * warp) {
    candidate[n * wanted + i] = {-1, -1, -1};
    position[n * wanted + i] = {0.0f, 0.0f};
  }
  if (thread == 0) {
    count[n] = total < wanted ? total : wanted;
    truncated[n] = total > wanted;
  }
}

struct Layout {
  Peak* peaks;     // [N, capacity]
  int32_t* found;  // [N]
  int64_t bytes;
};

Layout lay_out(const Shape& shape, int keypoints, const Params& params, void* block) {
  Scratch scratch(block);
  Peak* peaks = scratch.take<Peak>(shape.images * capacity(vote_grid(shape, params), keypoints));
  int32_t* found = scratch.take<int32_t>(shape.images);
  return {peaks, found, scratch.bytes()};
}

}  // namespace

int64_t peaks_scratch_bytes(const Shape& shape, int keypoints, const Params& params) {
  return lay_out(shape, keypoints, params, nullptr).bytes;
}

void peaks(const int64_t* votes, const Shape& shape, int keypoints, const Params& params, Candidate* candidate,
           Point* position, int32_t* count, bool* truncated, void* scratch, Stream stream) {
  const VoteGrid grid = vote_grid(shape, params);
  const int64_t room = capacity(grid, keypoints);
  const Layout layout = lay_out(shape, keypoints, params, scratch);
  fill_with_zeros(layout.found, shape.images, stream);
  launch(find_peaks, blocks_for(shape.images * grid.size() * keypoints, block), stream, votes, int64_t(shape.images),
         grid, keypoints, peak_limit(shape, params, grid), room, layout.peaks, layout.found);
  launch_lists(rank_peaks, shape.images, stream, votes, grid, keypoints, room, layout.peaks, layout.found,
               params.max_candidates, candidate, position, count, truncated);
}

}  // namespace deeperlab::cuda
