// SPDX-License-Identifier: Apache-2.0
#include "deeperlab/select.h"

#include <algorithm>

#include "deeperlab/scratch.h"
#include "parallel.h"

namespace deeperlab::cpu {
namespace {

struct Layout {
  int32_t* accepted;  // [N, K] candidates in the order of the queue; accepted ones are moved to the front
  Box* box;           // [N, K] box of accepted[i]
  int32_t* kept;      // [N, K] positions in `accepted`, by instance score; survivors of NMS are moved to the front
  int64_t bytes;
};

Layout lay_out(const Shape& shape, const Params& params, void* block) {
  Scratch scratch(block);
  const int64_t all = int64_t(shape.images) * params.max_candidates;
  int32_t* accepted = scratch.take<int32_t>(all);
  Box* box = scratch.take<Box>(all);
  int32_t* kept = scratch.take<int32_t>(all);
  return {accepted, box, kept, scratch.bytes()};
}

// The candidates, keypoints and scores of one image.
struct Hypotheses {
  const Candidate* candidate;
  const Point* keypoints;
  const float* keypoint_score;
  const float* score;
  int keypoint_count;

  const Point& keypoint(int32_t i, int k) const { return keypoints[int64_t(i) * keypoint_count + k]; }
  float seed_score(int32_t i) const { return keypoint_score[int64_t(i) * keypoint_count + candidate[i].kind]; }
  Box box(int32_t i) const { return box_of(&keypoint(i, 0), keypoint_count); }
};

// The greedy loop of the paper. Returns how many are accepted.
int32_t group(const Hypotheses& all, int32_t count, const Params& params, int32_t* accepted, Box* box) {
  int32_t queued = 0;
  for (int32_t i = 0; i < count; ++i) {
    if (all.score[i] >= params.instance_threshold) {
      accepted[queued++] = i;
    }
  }
  std::sort(accepted, accepted + queued, [&](int32_t a, int32_t b) {
    const float sa = all.seed_score(a), sb = all.seed_score(b);
    return sa != sb ? sa > sb : before(all.candidate[a], all.candidate[b]);
  });
  int32_t length = 0;
  for (int32_t i = 0; i < queued; ++i) {
    const int32_t next = accepted[i];
    const int k = all.candidate[next].kind;
    const Box own = all.box(next);
    bool free = true;
    for (int32_t j = 0; j < length && free; ++j) {
      free = !conflicts(all.keypoint(next, k), own.area(), all.keypoint(accepted[j], k), box[j].area(), params);
    }
    if (free) {
      accepted[length] = next;
      box[length++] = own;
    }
  }
  return length;
}

// Box NMS over the accepted hypotheses. Returns how many are kept.
int32_t suppress(const Hypotheses& all, const int32_t* accepted, const Box* box, int32_t length, const Params& params,
                 int32_t* kept) {
  for (int32_t i = 0; i < length; ++i) {
    kept[i] = i;
  }
  std::sort(kept, kept + length, [&](int32_t a, int32_t b) {
    const float sa = all.score[accepted[a]], sb = all.score[accepted[b]];
    return sa != sb ? sa > sb : a < b;
  });
  int32_t survivors = 0;
  for (int32_t i = 0; i < length; ++i) {
    bool free = true;
    for (int32_t j = 0; j < survivors && free; ++j) {
      free = !suppresses(box[kept[j]], box[kept[i]], params);
    }
    if (free) {
      kept[survivors++] = kept[i];
    }
  }
  return survivors;
}

}  // namespace

int64_t select_scratch_bytes(const Shape& shape, const Params& params) { return lay_out(shape, params, nullptr).bytes; }

void select(const Candidate* candidate, const int32_t* count, const Point* keypoints, const float* keypoint_score,
            const float* score, const Shape& shape, int keypoint_count, const Params& params, Point* out_keypoints,
            float* out_score, int32_t* out_count, bool* truncated, void* scratch, const Parallel& parallel) {
  const int64_t room = params.max_candidates, places = params.max_instances;
  const Layout layout = lay_out(shape, params, scratch);
  parallel_for(parallel, shape.images, 1, [&](int64_t n) {
    const Hypotheses all{candidate + n * room, keypoints + n * room * keypoint_count,
                         keypoint_score + n * room * keypoint_count, score + n * room, keypoint_count};
    int32_t* accepted = layout.accepted + n * room;
    Box* box = layout.box + n * room;
    int32_t* kept = layout.kept + n * room;
    const int32_t length = group(all, count[n], params, accepted, box);
    const int32_t survivors = suppress(all, accepted, box, length, params, kept);

    out_count[n] = std::min<int32_t>(survivors, int32_t(places));
    truncated[n] = truncated[n] || survivors > places;
    for (int64_t j = 0; j < places; ++j) {
      Point* own = out_keypoints + (n * places + j) * keypoint_count;
      if (j < out_count[n]) {
        const int32_t i = accepted[kept[j]];
        std::copy(&all.keypoint(i, 0), &all.keypoint(i, 0) + keypoint_count, own);
        out_score[n * places + j] = all.score[i];
      } else {
        std::fill(own, own + keypoint_count, Point{0.0f, 0.0f});
        out_score[n * places + j] = 0.0f;
      }
    }
  });
}

}  // namespace deeperlab::cpu
