// SPDX-License-Identifier: Apache-2.0
#include "deeperlab/select.h"

#include "deeperlab/problem.h"
#include "deeperlab/scratch.h"
#include "launch.cuh"

namespace deeperlab::cuda {
namespace {

// A greedy loop without the loop: whether a hypothesis is accepted depends on no more than what became of those before
// it that conflict with it. Warps take them in order, by tickets, so that whoever is waited for has begun; chains of
// conflicts are short.

enum State : int32_t { undecided = 0, accepted = 1, rejected = 2 };

__device__ inline State state_of(const int32_t* states, int64_t i) {
  return State(*static_cast<const volatile int32_t*>(states + i));
}

// Goes through hypotheses 0 … length − 1 in order, a warp each: one is rejected if conflict(i, j) with an earlier one
// that is accepted, which it waits for.
template <class Conflict>
__device__ void decide_in_order(int32_t length, int32_t* tickets, int32_t* states, const Conflict& conflict) {
  for (;;) {
    int32_t i = 0;
    if (lane_index() == 0) {
      i = atomicAdd(tickets, 1);
    }
    i = __shfl_sync(all_lanes, i, 0);
    if (i >= length) {
      return;
    }
    bool reject = false;
    for (int32_t first = 0; first < i && !reject; first += warp) {
      const int32_t j = first + lane_index();
      State state = j < i && conflict(i, j) ? state_of(states, j) : rejected;
      while (!__any_sync(all_lanes, state == accepted) && __any_sync(all_lanes, state == undecided)) {
        __nanosleep(40);
        state = state == undecided ? state_of(states, j) : state;
      }
      reject = __any_sync(all_lanes, state == accepted);
    }
    if (lane_index() == 0) {
      atomicExch(states + i, int32_t(reject ? rejected : accepted));
    }
  }
}

// What a hypothesis is compared by, in the order of a queue.
struct Hypothesis {
  int32_t candidate;
  float score;  // of the instance
  float area;
  Box box;
};

struct Layout {
  Hypothesis *queue, *sorted;        // [N, K]: by seed; the accepted ones, by instance score
  int32_t *grouped, *kept;           // [N, K] states of both, zero at first, as is what follows
  int32_t *length, *accepted_count;  // [N] of queue and sorted
  int32_t *tickets, *more_tickets;
  int64_t zeros;  // numbers from `grouped` on
  int64_t bytes;
};

Layout lay_out(const Problem& problem, void* block) {
  Scratch scratch(block);
  const int64_t images = problem.shape.images, all = images * problem.params.max_candidates;
  Layout at{};
  at.queue = scratch.take<Hypothesis>(all);
  at.sorted = scratch.take<Hypothesis>(all);
  at.zeros = 2 * all + 4 * images;
  at.grouped = scratch.take<int32_t>(at.zeros);
  at.kept = at.grouped + all;
  at.length = at.kept + all;
  at.accepted_count = at.length + images;
  at.tickets = at.accepted_count + images;
  at.more_tickets = at.tickets + images;
  at.bytes = scratch.bytes();
  return at;
}

// The candidates of one image.
struct Candidates {
  const Candidate* candidate;
  const Point* keypoints;
  const float *keypoint_score, *score;
  int keypoint_count;

  __device__ const Point* keypoints_of(int32_t i) const { return keypoints + int64_t(i) * keypoint_count; }
  __device__ float seed_score(int32_t i) const {
    return keypoint_score[int64_t(i) * keypoint_count + candidate[i].kind];
  }
};

__device__ Candidates candidates_of(const Candidates& all, int64_t n, int64_t room) {
  return {all.candidate + n * room, all.keypoints + n * room * all.keypoint_count,
          all.keypoint_score + n * room * all.keypoint_count, all.score + n * room, all.keypoint_count};
}

// The queue: candidates that reach the threshold (the others never were hypotheses), best seed first, ties by
// candidate. Each finds its place by counting those before it.
__global__ void line_up(int64_t images, Candidates all, const int32_t* count, Params params, Hypothesis* queue,
                        int32_t* length) {
  const ListShare share = list_share(images);
  const int64_t n = share.image;
  const Candidates candidates = candidates_of(all, n, params.max_candidates);
  const int32_t total = count[n];
  for (int32_t i = share.first; i < total; i += share.step) {
    if (!(candidates.score[i] >= params.instance_threshold)) {
      continue;
    }
    const float seed = candidates.seed_score(i);
    int64_t before_it = 0;
    for (int32_t j = lane_index(); j < total; j += warp) {
      const float other = candidates.seed_score(j);
      const bool earlier = other != seed ? other > seed : before(candidates.candidate[j], candidates.candidate[i]);
      before_it += earlier && candidates.score[j] >= params.instance_threshold;
    }
    const int64_t place = sum_warp(before_it);
    if (lane_index() == 0) {
      const Box box = box_of(candidates.keypoints_of(i), candidates.keypoint_count);
      queue[n * params.max_candidates + place] = {i, candidates.score[i], box.area(), box};
      atomicAdd(length + n, 1);
    }
  }
}

__global__ void group(int64_t images, Candidates all, Params params, const Hypothesis* queue, const int32_t* length,
                      int32_t* tickets, int32_t* states) {
  const ListShare share = list_share(images);
  const int64_t n = share.image, room = params.max_candidates;
  const Candidates candidates = candidates_of(all, n, room);
  const Hypothesis* order = queue + n * room;
  decide_in_order(length[n], tickets + n, states + n * room, [&](int32_t i, int32_t j) {
    const int kind = candidates.candidate[order[i].candidate].kind;
    return conflicts(candidates.keypoints_of(order[i].candidate)[kind], order[i].area,
                     candidates.keypoints_of(order[j].candidate)[kind], order[j].area, params);
  });
}

// The accepted ones by instance score, ties in the order of acceptance.
__global__ void sort_accepted(int64_t images, Params params, const Hypothesis* queue, const int32_t* length,
                              const int32_t* states, Hypothesis* sorted, int32_t* accepted_count) {
  const ListShare share = list_share(images);
  const int64_t n = share.image, room = params.max_candidates;
  const Hypothesis* order = queue + n * room;
  const int32_t* state = states + n * room;
  const int32_t total = length[n];
  for (int32_t i = share.first; i < total; i += share.step) {
    if (state[i] != accepted) {
      continue;
    }
    const float score = order[i].score;
    int64_t before_it = 0;
    for (int32_t j = lane_index(); j < total; j += warp) {
      const float other = order[j].score;
      before_it += state[j] == accepted && (other != score ? other > score : j < i);
    }
    const int64_t place = sum_warp(before_it);
    if (lane_index() == 0) {
      sorted[n * room + place] = order[i];
      atomicAdd(accepted_count + n, 1);
    }
  }
}

__global__ void suppress(int64_t images, Params params, const Hypothesis* sorted, const int32_t* accepted_count,
                         int32_t* tickets, int32_t* states) {
  const ListShare share = list_share(images);
  const int64_t n = share.image, room = params.max_candidates;
  const Hypothesis* order = sorted + n * room;
  decide_in_order(accepted_count[n], tickets + n, states + n * room,
                  [&](int32_t i, int32_t j) { return suppresses(order[j].box, order[i].box, params); });
}

// The survivors, in order, and zeros after them.
__global__ void write_instances(int64_t images, Candidates all, Params params, const Hypothesis* sorted,
                                const int32_t* accepted_count, const int32_t* states, Instances found) {
  const ListShare share = list_share(images);
  const int64_t n = share.image, room = params.max_candidates, places = params.max_instances;
  const Candidates candidates = candidates_of(all, n, room);
  const int32_t* state = states + n * room;
  const int32_t total = accepted_count[n];
  const auto survivors_before = [&](int32_t i) {
    int64_t sum = 0;
    for (int32_t j = lane_index(); j < i; j += warp) {
      sum += state[j] == accepted;
    }
    return sum_warp(sum);
  };
  for (int32_t i = share.first; i < total; i += share.step) {
    const int64_t place = state[i] == accepted ? survivors_before(i) : places;
    if (place < places) {
      const Hypothesis& instance = sorted[n * room + i];
      const Point* from = candidates.keypoints_of(instance.candidate);
      for (int k = lane_index(); k < candidates.keypoint_count; k += warp) {
        found.keypoints[(n * places + place) * candidates.keypoint_count + k] = from[k];
      }
      if (lane_index() == 0) {
        found.score[n * places + place] = instance.score;
      }
    }
  }
  const int64_t kept = survivors_before(total), thread = int64_t(share.first) * warp + lane_index();
  for (int64_t i = kept + thread; i < places; i += int64_t(share.step) * warp) {
    for (int k = 0; k < candidates.keypoint_count; ++k) {
      found.keypoints[(n * places + i) * candidates.keypoint_count + k] = {0.0f, 0.0f};
    }
    found.score[n * places + i] = 0.0f;
  }
  if (thread == 0) {
    found.count[n] = int32_t(kept < places ? kept : places);
    found.truncated[n] = found.truncated[n] || kept > places;
  }
}

}  // namespace

int64_t select_scratch_bytes(const Problem& problem) { return lay_out(problem, nullptr).bytes; }

void select(const Seeds& seeds, const Hypotheses& hypotheses, const Problem& problem, const Instances& found,
            void* scratch, Stream stream) {
  const Params& params = problem.params;
  const int64_t images = problem.shape.images;
  const Layout at = lay_out(problem, scratch);
  const Candidates all{seeds.candidate, hypotheses.keypoints, hypotheses.keypoint_score, hypotheses.score,
                       problem.keypoints()};
  fill_with_zeros(at.grouped, at.zeros, stream);
  launch_lists(line_up, images, stream, all, seeds.count, params, at.queue, at.length);
  launch_lists(group, images, stream, all, params, at.queue, at.length, at.tickets, at.grouped);
  launch_lists(sort_accepted, images, stream, params, at.queue, at.length, at.grouped, at.sorted, at.accepted_count);
  launch_lists(suppress, images, stream, params, at.sorted, at.accepted_count, at.more_tickets, at.kept);
  launch_lists(write_instances, images, stream, all, params, at.sorted, at.accepted_count, at.kept, found);
}

}  // namespace deeperlab::cuda
