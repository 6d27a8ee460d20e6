// SPDX-License-Identifier: Apache-2.0
#include "deeperlab/peaks.h"

#include "deeperlab/problem.h"
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

// The peaks of all images, in any order.
struct Found {
  Peak* peaks;     // [N, room]
  int32_t* count;  // [N]
  int64_t room;
};

// One vote cell a thread. In which order peaks are listed is left to chance; their ranks are not.
__global__ void find_peaks(const int64_t* votes, int64_t images, VoteGrid grid, int keypoints, int64_t limit,
                           Found found) {
  const int64_t i = thread_index(), cells = grid.size() * keypoints;
  if (i >= images * cells || votes[i] < limit) {
    return;
  }
  const int64_t n = i / cells, plane = i / grid.size(), cell = i % grid.size();
  if (is_peak(votes + plane * grid.size(), int(cell / grid.columns), int(cell % grid.columns), grid)) {
    found.peaks[n * found.room + atomicAdd(found.count + n, 1)] = {votes[i], i % cells};
  }
}

// A peak's place is the number of better ones: a warp counts them.
__global__ void rank_peaks(int64_t images, const int64_t* votes, VoteGrid grid, int keypoints, Found found,
                           int32_t wanted, Seeds seeds, bool* truncated) {
  const ListShare share = list_share(images);
  const int64_t n = share.image;
  const Peak* peaks = found.peaks + n * found.room;
  const int32_t total = found.count[n];
  for (int32_t i = share.first; i < total; i += share.step) {
    const Peak peak = peaks[i];
    int64_t before_it = 0;
    for (int32_t j = lane_index(); j < total; j += warp) {
      before_it += better(peaks[j], peak);
    }
    const int64_t place = sum_warp(before_it);
    if (place < wanted && lane_index() == 0) {
      const int64_t cell = peak.cell % grid.size();
      const Candidate here{int32_t(peak.cell / grid.size()), int32_t(cell / grid.columns),
                           int32_t(cell % grid.columns)};
      seeds.candidate[n * wanted + place] = here;
      seeds.position[n * wanted + place] =
          centroid(votes + (n * keypoints + here.kind) * grid.size(), here.y, here.x, grid);
    }
  }
  const int64_t thread = int64_t(share.first) * warp + lane_index();
  for (int64_t i = total + thread; i < wanted; i += int64_t(share.step) * warp) {
    seeds.candidate[n * wanted + i] = {-1, -1, -1};
    seeds.position[n * wanted + i] = {0.0f, 0.0f};
  }
  if (thread == 0) {
    seeds.count[n] = total < wanted ? total : wanted;
    truncated[n] = total > wanted;
  }
}

struct Layout {
  Found found;
  int64_t bytes;
};

Layout lay_out(const Problem& problem, void* block) {
  Scratch scratch(block);
  const int64_t images = problem.shape.images;
  const int64_t room = capacity(vote_grid(problem.shape, problem.params), problem.keypoints());
  Peak* peaks = scratch.take<Peak>(images * room);
  int32_t* count = scratch.take<int32_t>(images);
  return {{peaks, count, room}, scratch.bytes()};
}

}  // namespace

int64_t peaks_scratch_bytes(const Problem& problem) { return lay_out(problem, nullptr).bytes; }

void peaks(const int64_t* votes, const Problem& problem, const Seeds& seeds, bool* truncated, void* scratch,
           Stream stream) {
  const VoteGrid grid = vote_grid(problem.shape, problem.params);
  const int64_t images = problem.shape.images;
  const int keypoints = problem.keypoints();
  const Found found = lay_out(problem, scratch).found;
  fill_with_zeros(found.count, images, stream);
  launch(find_peaks, blocks_for(images * grid.size() * keypoints, block), stream, votes, images, grid, keypoints,
         peak_limit(problem.shape, problem.params, grid), found);
  launch_lists(rank_peaks, images, stream, votes, grid, keypoints, found, problem.params.max_candidates, seeds,
               truncated);
}

}  // namespace deeperlab::cuda
