// SPDX-License-Identifier: Apache-2.0
#include "deeperlab/select.h"

#include <algorithm>

#include "deeperlab/problem.h"
#include "deeperlab/scratch.h"
#include "simd/dispatch.h"
#include "simd/number.h"

namespace deeperlab::cpu {
namespace {

struct Accepted {
  int32_t candidate, order;  // of acceptance
  float score;
  Box box;
};

struct Layout {
  int32_t* queue;      // [N, K] candidates in the order of the queue
  Accepted* accepted;  // [N, K] in the order of acceptance, then by score; survivors of NMS are moved to the front
  float* columns;      // [N, 2P + 5, room] accepted keypoints x, y of each kind; boxes x0, y0, x1, y1; areas
  int64_t room;        // K, in whole vectors
  int64_t bytes;
};

Layout lay_out(const Problem& problem, void* block) {
  Scratch scratch(block);
  const int64_t images = problem.shape.images, all = images * problem.params.max_candidates;
  const int64_t room = whole_vectors(problem.params.max_candidates);
  int32_t* queue = scratch.take<int32_t>(all);
  Accepted* accepted = scratch.take<Accepted>(all);
  float* columns = scratch.take<float>(images * (2 * problem.keypoints() + 5) * room);
  return {queue, accepted, columns, room, scratch.bytes()};
}

// The candidates of one image.
struct Candidates {
  const Candidate* candidate;
  const Point* keypoints;
  const float* keypoint_score;
  int keypoint_count;
  const InstanceScore& score;
  int64_t n;

  Candidates(const Seeds& seeds, const Hypotheses& hypotheses, const InstanceScore& instance_score,
             const Problem& problem, int64_t image)
      : candidate(seeds.candidate + image * problem.params.max_candidates),
        keypoints(hypotheses.keypoints + image * problem.params.max_candidates * problem.keypoints()),
        keypoint_score(hypotheses.keypoint_score + image * problem.params.max_candidates * problem.keypoints()),
        keypoint_count(problem.keypoints()),
        score(instance_score),
        n(image) {}

  const Point* keypoints_of(int32_t i) const { return keypoints + int64_t(i) * keypoint_count; }
  float seed_score(int32_t i) const { return keypoint_score[int64_t(i) * keypoint_count + candidate[i].kind]; }
  float instance_score(int32_t i) const { return score.get(score.closure, n, i); }
};

// The accepted hypotheses, or the survivors of NMS, column by column, so that a new one is held against many together.
struct Columns {
  float* values;
  int64_t room;
  int keypoint_count;

  float* x(int k) const { return values + 2 * k * room; }
  float* y(int k) const { return values + (2 * k + 1) * room; }
  float* box(int side) const { return values + (2 * keypoint_count + side) * room; }
  float* area() const { return box(4); }

  void set(int32_t i, const Point* keypoints, const Box& keypoint_box) const {
    for (int k = 0; k < keypoint_count; ++k) {
      x(k)[i] = keypoints[k].x;
      y(k)[i] = keypoints[k].y;
    }
    box(0)[i] = keypoint_box.x0;
    box(1)[i] = keypoint_box.y0;
    box(2)[i] = keypoint_box.x1;
    box(3)[i] = keypoint_box.y1;
    area()[i] = keypoint_box.area();
  }
};

// The plain forms.

bool conflicts_with_any(const Columns& accepted, int32_t count, int kind, Point seed, float area,
                        const SelectParams& params) {
  for (int32_t j = 0; j < count; ++j) {
    if (conflicts(seed, area, Point{accepted.x(kind)[j], accepted.y(kind)[j]}, accepted.area()[j], params)) {
      return true;
    }
  }
  return false;
}

bool suppressed_by_any(const Columns& kept, int32_t count, const Box& box, const SelectParams& params) {
  for (int32_t j = 0; j < count; ++j) {
    if (suppresses(Box{kept.box(0)[j], kept.box(1)[j], kept.box(2)[j], kept.box(3)[j]}, box, params)) {
      return true;
    }
  }
  return false;
}

// The fast forms: as many at once as there are lanes, by the operations of select.h.

template <class L>
uint32_t lanes_in_use(int32_t left) {
  return left >= L::count ? all_bits<typename L::Float> : (1u << left) - 1;
}

template <class L>
bool conflicts_with_any_fast(const Columns& accepted, int32_t count, int kind, Point seed, float area,
                             const SelectParams& params) {
  using Float = typename L::Float;
  for (int32_t j = 0; j < count; j += L::count) {
    const PointOf<Float> others{load<Float>(accepted.x(kind) + j), load<Float>(accepted.y(kind) + j)};
    const auto mask = conflicts(seed, area, others, load<Float>(accepted.area() + j), params);
    if ((bits_of(mask) & lanes_in_use<L>(count - j)) != 0) {
      return true;
    }
  }
  return false;
}

template <class L>
bool suppressed_by_any_fast(const Columns& kept, int32_t count, const Box& box, const SelectParams& params) {
  using Float = typename L::Float;
  const BoxOf<Float> boxes{broadcast<Float>(box.x0), broadcast<Float>(box.y0), broadcast<Float>(box.x1),
                           broadcast<Float>(box.y1)};
  for (int32_t j = 0; j < count; j += L::count) {
    const auto side = [&](int i) { return load<Float>(kept.box(i) + j); };
    const auto mask = suppresses(BoxOf<Float>{side(0), side(1), side(2), side(3)}, boxes, params);
    if ((bits_of(mask) & lanes_in_use<L>(count - j)) != 0) {
      return true;
    }
  }
  return false;
}

// The greedy loop of the paper. Returns how many are accepted.
int32_t group(const Candidates& all, int32_t count, const SelectParams& params, const Parallel& parallel,
              int32_t* queue, const Columns& columns, Accepted* accepted) {
  for (int32_t i = 0; i < count; ++i) {
    queue[i] = i;
  }
  std::sort(queue, queue + count, [&](int32_t a, int32_t b) {
    const float sa = all.seed_score(a), sb = all.seed_score(b);
    return sa != sb ? sa > sb : before(all.candidate[a], all.candidate[b]);
  });
  int32_t length = 0;
  for (int32_t i = 0; i < count && !parallel.stopped(parallel); ++i) {
    const int32_t next = queue[i];
    const int kind = all.candidate[next].kind;
    const Point seed = all.keypoints_of(next)[kind];
    const Box box = box_of(all.keypoints_of(next), all.keypoint_count);
    bool rejected = false;
    if (parallel.simd == Simd::plain) {
      rejected = conflicts_with_any(columns, length, kind, seed, box.area(), params);
    } else {
      with_simd(parallel.simd, [&](auto lanes) {
        rejected = conflicts_with_any_fast<decltype(lanes)>(columns, length, kind, seed, box.area(), params);
      });
    }
    // What is below the threshold never was a hypothesis; asked last, because it costs most.
    const float score = rejected ? 0.0f : all.instance_score(next);
    if (!rejected && score >= params.instance_threshold) {
      columns.set(length, all.keypoints_of(next), box);
      accepted[length] = {next, length, score, box};
      ++length;
    }
  }
  return length;
}

// Box NMS over the accepted hypotheses. Returns how many are kept.
int32_t suppress(const Candidates& all, int32_t length, const SelectParams& params, Simd simd, const Columns& columns,
                 Accepted* accepted) {
  std::sort(accepted, accepted + length, [](const Accepted& a, const Accepted& b) {
    return a.score != b.score ? a.score > b.score : a.order < b.order;
  });
  int32_t kept = 0;
  for (int32_t i = 0; i < length; ++i) {
    const Accepted next = accepted[i];
    bool suppressed = false;
    if (simd == Simd::plain) {
      suppressed = suppressed_by_any(columns, kept, next.box, params);
    } else {
      with_simd(simd, [&](auto lanes) {
        suppressed = suppressed_by_any_fast<decltype(lanes)>(columns, kept, next.box, params);
      });
    }
    if (!suppressed) {
      columns.set(kept, all.keypoints_of(next.candidate), next.box);
      accepted[kept++] = next;
    }
  }
  return kept;
}

}  // namespace

int64_t select_scratch_bytes(const Problem& problem) { return lay_out(problem, nullptr).bytes; }

void select(const Seeds& seeds, const Hypotheses& hypotheses, const InstanceScore& score, const Problem& problem,
            const Instances& found, void* scratch, const Parallel& parallel) {
  const SelectParams& params = problem.params;
  const int64_t room = problem.params.max_candidates, places = params.max_instances;
  const int keypoint_count = problem.keypoints();
  const Layout layout = lay_out(problem, scratch);
  parallel_for(parallel, problem.shape.images, 1, [&](int64_t n) {
    const Candidates all(seeds, hypotheses, score, problem, n);
    const Columns columns{layout.columns + n * (2 * keypoint_count + 5) * layout.room, layout.room, keypoint_count};
    Accepted* const accepted = layout.accepted + n * room;
    int32_t kept = group(all, seeds.count[n], params, parallel, layout.queue + n * room, columns, accepted);
    kept = suppress(all, kept, params, parallel.simd, columns, accepted);

    found.count[n] = std::min<int32_t>(kept, int32_t(places));
    found.truncated[n] = found.truncated[n] || kept > places;
    for (int64_t j = 0; j < places; ++j) {
      Point* const keypoints = found.keypoints + (n * places + j) * keypoint_count;
      if (j < found.count[n]) {
        std::copy_n(all.keypoints_of(accepted[j].candidate), keypoint_count, keypoints);
      } else {
        std::fill_n(keypoints, keypoint_count, Point{0.0f, 0.0f});
      }
      found.score[n * places + j] = j < found.count[n] ? accepted[j].score : 0.0f;
    }
  });
}

}  // namespace deeperlab::cpu
