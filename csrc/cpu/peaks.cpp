// SPDX-License-Identifier: Apache-2.0
#include "deeperlab/peaks.h"

#include <algorithm>

#include "deeperlab/problem.h"
#include "deeperlab/scratch.h"
#include "simd/dispatch.h"

namespace deeperlab::cpu {
namespace {

struct Peak {
  int64_t votes;
  Candidate candidate;
};

bool better(const Peak& a, const Peak& b) {
  return a.votes != b.votes ? a.votes > b.votes : before(a.candidate, b.candidate);
}

// Room for the peaks of one keypoint. No two peaks touch, so each 2 × 2 block of cells holds at most one; of more than
// twice what is wanted, the worse half is dropped on the way.
int64_t capacity(const VoteGrid& grid, const PeaksParams& params) {
  const int64_t most = int64_t((grid.rows + 1) / 2) * ((grid.columns + 1) / 2);
  return std::min<int64_t>(most, 2 * int64_t(params.max_candidates));
}

struct Found {
  int64_t kept, dropped;
};

struct Layout {
  Peak* peaks;   // [N, P, capacity]
  Found* found;  // [N, P]
  int64_t bytes;
};

Layout lay_out(const Problem& problem, void* block) {
  Scratch scratch(block);
  const int64_t planes = int64_t(problem.shape.images) * problem.keypoints();
  Peak* peaks = scratch.take<Peak>(planes * capacity(vote_grid(problem.shape, problem.params), problem.params));
  Found* found = scratch.take<Found>(planes);
  return {peaks, found, scratch.bytes()};
}

struct Finder {
  const int64_t* votes;  // [rows, columns]
  const VoteGrid& grid;
  int kind;
  int64_t limit, room, wanted;
  Peak* peaks;
  Found found;

  // Cell (y, x) reaches the limit: a peak if it beats its neighbors.
  void offer(int y, int x) {
    if (!is_peak(votes, y, x, grid)) {
      return;
    }
    if (found.kept == room) {
      std::nth_element(peaks, peaks + wanted, peaks + room, better);
      found.dropped += found.kept - wanted;
      found.kept = wanted;
    }
    peaks[found.kept++] = {votes[int64_t(y) * grid.columns + x], {kind, y, x}};
  }

  // The plain form.
  void find_row(int y, int first) {
    for (int x = first; x < grid.columns; ++x) {
      if (votes[int64_t(y) * grid.columns + x] >= limit) {
        offer(y, x);
      }
    }
  }

  // The fast form: few cells reach the limit, so many are looked at together.
  template <class L>
  void find_row_fast(int y) {
    using Words = Vector<int64_t, L::count / 2>;
    constexpr int together = 2 * L::count;
    const int64_t* row = votes + int64_t(y) * grid.columns;
    int x = 0;
    for (; x + together <= grid.columns; x += together) {
      Words most = load<Words>(row + x);
      for (int i = L::count / 2; i < together; i += L::count / 2) {
        const Words here = load<Words>(row + x + i);
        most = here > most ? here : most;
      }
      int64_t greatest = most[0];
      for (int i = 1; i < L::count / 2; ++i) {
        greatest = std::max<int64_t>(greatest, most[i]);
      }
      for (int i = 0; i < together && greatest >= limit; ++i) {
        if (row[x + i] >= limit) {
          offer(y, x + i);
        }
      }
    }
    find_row(y, x);
  }
};

}  // namespace

int64_t peaks_scratch_bytes(const Problem& problem) { return lay_out(problem, nullptr).bytes; }

void peaks(const int64_t* votes, const Problem& problem, const Seeds& seeds, bool* truncated, void* scratch,
           const Parallel& parallel) {
  const Shape& shape = problem.shape;
  const Params& params = problem.params;
  const int keypoints = problem.keypoints();
  const VoteGrid grid = vote_grid(shape, params);
  const int64_t limit = peak_limit(shape, params, grid);
  const int64_t wanted = params.max_candidates, room = capacity(grid, params);
  const Layout layout = lay_out(problem, scratch);

  parallel_for(parallel, int64_t(shape.images) * keypoints, 1, [&](int64_t plane) {
    Finder finder{votes + plane * grid.size(), grid,  int(plane % keypoints), limit, room, wanted,
                  layout.peaks + plane * room, {0, 0}};
    if (parallel.simd == Simd::plain) {
      for (int y = 0; y < grid.rows && !parallel.stopped(parallel); ++y) {
        finder.find_row(y, 0);
      }
    } else {
      with_simd(parallel.simd, [&](auto lanes) {
        for (int y = 0; y < grid.rows && !parallel.stopped(parallel); ++y) {
          finder.template find_row_fast<decltype(lanes)>(y);
        }
      });
    }
    layout.found[plane] = finder.found;
  });
  parallel_for(parallel, shape.images, 1, [&](int64_t n) {
    Peak* all = layout.peaks + n * keypoints * room;
    int64_t total = 0, dropped = 0;
    for (int k = 0; k < keypoints; ++k) {  // close the gaps between the keypoints' lists
      const Peak* list = all + k * room;
      const Found& found = layout.found[n * keypoints + k];
      std::copy(list, list + found.kept, all + total);
      total += found.kept;
      dropped += found.dropped;
    }
    const int64_t kept = std::min(total, wanted);
    std::partial_sort(all, all + kept, all + total, better);
    seeds.count[n] = int32_t(kept);
    truncated[n] = total + dropped > wanted;
    for (int64_t i = 0; i < wanted; ++i) {
      const Candidate c = i < kept ? all[i].candidate : Candidate{-1, -1, -1};
      seeds.candidate[n * wanted + i] = c;
      seeds.position[n * wanted + i] =
          i < kept ? centroid(votes + (n * keypoints + c.kind) * grid.size(), c.y, c.x, grid) : Point{0.0f, 0.0f};
    }
  });
}

}  // namespace deeperlab::cpu
