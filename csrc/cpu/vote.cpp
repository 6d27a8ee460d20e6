// SPDX-License-Identifier: Apache-2.0
#include "deeperlab/vote.h"

#include <algorithm>
#include <cstdlib>

#include "deeperlab/problem.h"
#include "deeperlab/scratch.h"
#include "simd/dispatch.h"
#include "simd/number.h"

namespace deeperlab::cpu {
namespace {

// The plain form: what every vote adds, one by one. `add` takes a Splat.

template <class T, class Add>
void vote_short(const Plane<T>& heatmap, const Plane<T>& dx, const Plane<T>& dy, int y, int first, const Shape& shape,
                const VoteGrid& grid, const Add& add) {
  for (int x = first; x < shape.grid_w; ++x) {
    const Point node{float(int64_t(shape.stride) * x), float(int64_t(shape.stride) * y)};
    const Point target = node + Point{dx(y, x), dy(y, x)};
    if (in_image(target, shape)) {
      add(splat(target, sigmoid(heatmap(y, x)), grid));
    }
  }
}

template <class Add>
void vote_long(const Point* target, const uint8_t* voter, int32_t count, const Shape& shape, const VoteGrid& grid,
               const Add& add) {
  for (int32_t i = 0; i < count; ++i) {
    if (voter[i] && in_image(target[i], shape)) {
      add(splat(target[i], 1.0f, grid));
    }
  }
}

struct AddToCells {
  int64_t* votes;  // [rows, columns]
  const VoteGrid& grid;
  int64_t weight;  // in 1/256

  void operator()(const Splat& vote) const {
    int64_t* cell = votes + int64_t(vote.y) * grid.columns + vote.x;
    cell[0] += weight * vote.share[0][0];
    cell[1] += weight * vote.share[0][1];
    cell[grid.columns] += weight * vote.share[1][0];
    cell[grid.columns + 1] += weight * vote.share[1][1];
  }
};

// The fast form. Shares are computed lane by lane; a vote adds its two of a row to one word of 64 bits, the left cell's
// in the lower half. Words, unlike cells, are not shared by neighboring votes in part: no load waits for half of an
// earlier store. Votes of one kind add up to 2^30 at most, so nothing is carried, even where both kinds share a map.

struct AddToWords {
  uint64_t* words;  // [rows, columns]
  const VoteGrid& grid;

  void operator()(const Splat& vote) const {
    uint64_t* word = words + int64_t(vote.y) * grid.columns + vote.x;
    word[0] += uint64_t(vote.share[0][0]) | uint64_t(vote.share[0][1]) << 32;
    word[grid.columns] += uint64_t(vote.share[1][0]) | uint64_t(vote.share[1][1]) << 32;
  }
};

// Every cell's sum, times `weight`, in place: the lower half of its own word and the upper half of its left
// neighbor's.
template <class L>
void settle(uint64_t* words, const VoteGrid& grid, uint64_t weight) {
  using Words = Vector<uint64_t, L::count / 2>;
  for (int y = 0; y < grid.rows; ++y) {
    uint64_t* const row = words + int64_t(y) * grid.columns;
    int x = grid.columns;
    for (; x - L::count / 2 >= 1; x -= L::count / 2) {  // from the right: left neighbors are still words
      uint64_t* const block = row + x - L::count / 2;
      store(block, weight * ((load<Words>(block) & 0xffffffffu) + (load<Words>(block - 1) >> 32)));
    }
    for (--x; x >= 0; --x) {
      row[x] = weight * ((row[x] & 0xffffffffu) + (x > 0 ? row[x - 1] >> 32 : 0));
    }
  }
}

template <class L>
struct Voter {
  using Float = typename L::Float;
  using Int = typename L::Int;
  static constexpr int room = 4 * L::count;  // votes gathered before they are added: their words are in memory by then

  const Shape& shape;
  const VoteGrid& grid;
  uint64_t* words;  // [rows, columns]
  int gathered = 0;
  int32_t at[room];
  uint64_t top[room], bottom[room];

  Voter(const Shape& image_shape, const VoteGrid& vote_grid, uint64_t* map)
      : shape(image_shape), grid(vote_grid), words(map) {}

  // The left and the right share of every vote, as one word.
  static void store_pairs(uint64_t* to, const Int (&share)[2]) {
    store(to, interleave_low(share[0], share[1]));
    store(to + L::count / 2, interleave_high(share[0], share[1]));
  }

  void add_gathered() {
    for (int i = 0; i < gathered; ++i) {
      uint64_t* const word = words + at[i];
      word[0] += top[i];
      word[grid.columns] += bottom[i];
    }
    gathered = 0;
  }

  // Votes outside the image are cast at its corner and weigh nothing.
  void cast(const PointOf<Float>& target, const Float& weight) {
    const auto counts = in_image(target, shape);
    const PointOf<Float> inside{select(counts, target.x, Float{}), select(counts, target.y, Float{})};
    const SplatOf<Float> vote = splat(inside, select(counts, weight, Float{}), grid);
    store(at + gathered, vote.y * grid.columns + vote.x);
    store_pairs(top + gathered, vote.share[0]);
    store_pairs(bottom + gathered, vote.share[1]);
    gathered += L::count;
    if (gathered == room) {
      add_gathered();
    }
  }
};

// What a row of nodes of one keypoint says. Where channels are last dy lies beside dx, and the heatmap of another
// keypoint beside that of this one: `beside` elements from it, 1 or −1; 0: not so.
template <class T>
struct ShortVotes {
  Plane<T> heatmap, dx, dy;
  int beside;
};

template <class L, bool dense, class T>
void vote_short_fast(const ShortVotes<T>& from, int y, const Shape& shape, const VoteGrid& grid, Voter<L>& voter) {
  using Float = typename L::Float;
  const Plane<T>&heatmap = from.heatmap, &dx = from.dx, &dy = from.dy;
  Float along;
  typename L::Int lane;
  for (int i = 0; i < L::count; ++i) {
    along[i] = float(i * shape.stride);
    lane[i] = i;
  }
  const auto row = [&](const Plane<T>& plane, int x) {
    return load_floats<Float, dense>(plane.data + y * plane.row + x * plane.column, plane.column);
  };
  const auto pairs = [&](const Plane<T>& plane, int x, int first) {
    return load_pairs<Float>(plane.data + y * plane.row + x * plane.column + first, lane * int32_t(plane.column));
  };
  const auto offsets = [&](int x) {
    return dense || from.beside == 0 ? Pairs<Float>{row(dx, x), row(dy, x)} : pairs(dx, x, 0);
  };
  const auto scores = [&](int x) {
    return dense || from.beside == 0 ? row(heatmap, x)
           : from.beside > 0         ? pairs(heatmap, x, 0).first
                                     : pairs(heatmap, x, -1).second;
  };
  int x = 0;
  for (; x + L::count <= shape.grid_w; x += L::count) {
    const auto [right, down] = offsets(x);
    const Float px = (float(int64_t(shape.stride) * x) + along) + right;
    const Float py = float(int64_t(shape.stride) * y) + down;
    voter.cast({px, py}, sigmoid(scores(x)));
  }
  vote_short(heatmap, dx, dy, y, x, shape, grid, AddToWords{voter.words, grid});
}

template <class L>
void vote_long_fast(const Point* target, const uint8_t* casts, int32_t count, const Shape& shape, const VoteGrid& grid,
                    Voter<L>& voter) {
  using Float = typename L::Float;
  int32_t i = 0;
  for (; i + L::count <= count; i += L::count) {
    const Float first = load<Float>(target + i), second = load<Float>(target + i + L::count / 2);
    const Float weight = __builtin_convertvector(load<Vector<int8_t, L::count>>(casts + i), Float);
    voter.cast({concat_even(first, second), concat_odd(first, second)}, weight);
  }
  vote_long(target + i, casts + i, count - i, shape, grid, AddToWords{voter.words, grid});
}

// Both kinds share a map where they weigh the same.
bool one_map(const VoteParams& params) { return params.short_weight == params.long_weight; }

struct Layout {
  uint8_t* voter;        // [N, h, w] 1 where an entry of `nodes` casts long votes
  uint64_t* long_votes;  // [N, P, rows, columns] where they need a map of their own
  int64_t bytes;
};

Layout lay_out(const Problem& problem, void* block) {
  const Shape& shape = problem.shape;
  Scratch scratch(block);
  uint8_t* voter = scratch.take<uint8_t>(int64_t(shape.images) * shape.grid_h * shape.grid_w);
  const int64_t maps = one_map(problem.params) ? 0 : int64_t(shape.images) * problem.keypoints();
  uint64_t* long_votes = scratch.take<uint64_t>(maps * vote_grid(shape, problem.params).size());
  return {voter, long_votes, scratch.bytes()};
}

// Coordinates and their lanes stay below 2^24, exact in a float, and cells below 2^31.
bool has_fast_vote(const Shape& shape, const VoteGrid& grid) {
  return int64_t(shape.grid_w) * shape.stride < (1 << 24) && grid.size() < INT32_MAX;
}

}  // namespace

int64_t vote_scratch_bytes(const Problem& problem) { return lay_out(problem, nullptr).bytes; }

void vote(const Heads& heads, const Problem& problem, const Targets& targets, const int32_t* node_label, int64_t* votes,
          void* scratch, const Parallel& parallel) {
  const View &heatmap = heads.heatmap, &short_range = heads.short_range;
  const Shape& shape = problem.shape;
  const VoteParams& params = problem.params;
  const Nodes& nodes = targets.nodes;
  const int keypoints = problem.keypoints();
  const VoteGrid grid = vote_grid(shape, params);
  const Layout layout = lay_out(problem, scratch);
  const int64_t planes = int64_t(shape.images) * keypoints, rows = shape.grid_h, w = shape.grid_w;
  const bool fast = parallel.simd != Simd::plain && has_fast_vote(shape, grid);

  parallel_rows(parallel, shape.images, shape.grid_h, shape.grid_w, [&](int64_t n, int y) {
    const int64_t first = (n * rows + y) * w;
    int32_t known = -1;  // label of the node before: mostly this one's too
    bool votes_too = params.all_voters;
    for (int32_t i = 0; i < nodes.count[n * rows + y]; ++i) {
      const int32_t label = node_label[first + nodes.column[first + i]];
      votes_too = label == known ? votes_too : casts_long_votes(label, *problem.things, params);
      known = label;
      layout.voter[first + i] = votes_too;
    }
  });
  with_float_type(heatmap.type, [&](auto element) {
    using T = decltype(element);
    parallel_for(parallel, planes, 1, [&](int64_t plane) {
      const int64_t n = plane / keypoints, k = plane % keypoints, cells = grid.size();
      const Plane<T> heat = heatmap.plane<T>(n, k);
      const Plane<T> dx = short_range.plane<T>(n, 2 * k), dy = short_range.plane<T>(n, 2 * k + 1);
      const bool last = heatmap.channel == 1 && short_range.channel == 1 && keypoints > 1 &&
                        std::max(std::abs(heatmap.column), std::abs(short_range.column)) < INT32_MAX / widest_lanes;
      const ShortVotes<T> short_votes{heat, dx, dy, !last ? 0 : k + 1 < keypoints ? 1 : -1};
      const auto row_targets = [&](int64_t y) {
        return targets.at + nodes.packed(shape, keypoints, n, int(k), int(y));
      };
      const uint8_t* voter = layout.voter + n * rows * w;
      const int32_t* voters = nodes.count + n * rows;
      int64_t* const map = votes + plane * cells;
      std::fill(map, map + cells, 0);
      if (!fast) {
        for (int64_t y = 0; y < rows && !parallel.stopped(parallel); ++y) {
          vote_short(heat, dx, dy, int(y), 0, shape, grid, AddToCells{map, grid, params.short_weight});
          vote_long(row_targets(y), voter + y * w, voters[y], shape, grid, AddToCells{map, grid, params.long_weight});
        }
        return;
      }
      with_simd(parallel.simd, [&](auto lanes) {
        using L = decltype(lanes);
        uint64_t* const short_words = reinterpret_cast<uint64_t*>(map);
        uint64_t* const long_words = one_map(params) ? short_words : layout.long_votes + plane * cells;
        if (!one_map(params)) {
          std::fill(long_words, long_words + cells, 0);
        }
        Voter<L> short_voter(shape, grid, short_words), long_voter(shape, grid, long_words);
        with_density(heat.column == 1 && dx.column == 1, [&](auto dense) {
          for (int64_t y = 0; y < rows && !parallel.stopped(parallel); ++y) {
            vote_short_fast<L, dense.value>(short_votes, int(y), shape, grid, short_voter);
            vote_long_fast(row_targets(y), voter + y * w, voters[y], shape, grid, long_voter);
          }
        });
        short_voter.add_gathered();
        long_voter.add_gathered();
        settle<L>(short_words, grid, uint64_t(params.short_weight));
        if (!one_map(params)) {
          settle<L>(long_words, grid, uint64_t(params.long_weight));
          for (int64_t i = 0; i < cells; ++i) {
            map[i] += int64_t(long_words[i]);
          }
        }
      });
    });
  });
}

}  // namespace deeperlab::cpu
