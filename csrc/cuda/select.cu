// SPDX-License-Identifier: Apache-2.0
#include "deeperlab/select.h"

#include "deeperlab/scratch.h"
#include "in_order.cuh"

namespace deeperlab::cuda {
namespace {

// What a hypothesis is compared by, in the order of a queue.
struct Hypothesis {
  int32_t candidate;
  float score;  // of the instance
  float area;
  Box box;
};

struct Layout {
  Hypothesis *queue, *sorted;  // [N, K]: by seed; the accepted ones, by instance score
  int32_t *grouped, *kept;     // [N, K] states of both, zero at first, as is what follows
  int32_t *length, *accepted;  // [N] of queue and sorted
  int32_t *tickets, *more_tickets;
  int64_t zeros;  // numbers from `grouped` on
  int64_t bytes;
};

Layout lay_out(const Shape& shape, const Params& params, void* block) {
  Scratch scratch(block);
  const int64_t images = shape.images, all = images * params.max_candidates;
  Layout at{};
  at.queue = scratch.take<Hypothesis>(all);
  at.sorted = scratch.take<Hypothesis>(all);
  at.zeros = 2 * all + 4 * images;
  at.grouped = scratch.take<int32_t>(at.zeros);
  at.kept = at.grouped + all;
  at.length = at.kept + all;
  at.accepted = at.length + images;
  at.tickets = at.accepted + images;
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

  __device__ const Point* own(int32_t i) const { return keypoints + int64_t(i) * keypoint_count; }
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
  const Candidates own = candidates_of(all, n, params.max_candidates);
  const int32_t total = count[n];
  for (int32_t i = share.first; i < total; i += share.step) {
    if (!(own.score[i] >= params.instance_threshold)) {
      continue;
    }
    const float seed = own.seed_score(i);
    int64_t before_it = 0;
    for (int32_t j = lane_index(); j < total; j += warp) {
      const float other = own.seed_score(j);
      const bool earlier = other != seed ? other > seed : before(own.candidate[j], own.candidate[i]);
      before_it += earlier && own.score[j] >= params.instance_threshold;
    }
    const int64_t place = sum_warp(before_it);
    if (lane_index() == 0) {
      const Box box = box_of(own.own(i), own.keypoint_count);
      queue[n * params.max_candidates + place] = {i, own.score[i], box.area(), box};
      atomicAdd(length + n, 1);
    }
  }
}

__global__ void group(int64_t images, Candidates all, Params params, const Hypothesis* queue, const int32_t* length,
                      int32_t* tickets, int32_t* states) {
  const ListShare share = list_share(images);
  const int64_t n = share.image, room = params.max_candidates;
  const Candidates own = candidates_of(all, n, room);
  const Hypothesis* order = queue + n * room;
  decide_in_order(length[n], tickets + n, states + n * room, [&](int32_t i, int32_t j) {
    const int kind = own.candidate[order[i].candidate].kind;
    return conflicts(own.own(order[i].candidate)[kind], order[i].area, own.own(order[j].candidate)[kind], order[j].area,
                     params);
  });
}

// The accepted ones by instance score, ties in the order of acceptance.
__global__ void sort_accepted(int64_t images, Params params, const Hypothesis* queue, const int32_t* length,
                              const int32_t* states, Hypothesis* sorted, int32_t* accepted) {
  const ListShare share = list_share(images);
  const int64_t n = share.image, room = params.max_candidates;
  const Hypothesis* order = queue + n * room;
  const int32_t* state = states + n * room;
  const int32_t total = length[n];
  for (int32_t i = share.first; i < total; i += share.step) {
    if (state[i] != taken) {
      continue;
    }
    const float score = order[i].score;
    int64_t before_it = 0;
    for (int32_t j = lane_index(); j < total; j += warp) {
      const float other = order[j].score;
      before_it += state[j] == taken && (other != score ? other > score : j < i);
    }
    const int64_t place = sum_warp(before_it);
    if (lane_index() == 0) {
      sorted[n * room + place] = order[i];
      atomicAdd(accepted + n, 1);
    }
  }
}

__global__ void suppress(int64_t images, Params params, const Hypothesis* sorted, const int32_t* accepted,
                         int32_t* tickets, int32_t* states) {
  const ListShare share = list_share(images);
  const int64_t n = share.image, room = params.max_candidates;
  const Hypothesis* order = sorted + n * room;
  decide_in_order(accepted[n], tickets + n, states + n * room,
                  [&](int32_t i, int32_t j) { return suppresses(order[j].box, order[i].box, params); });
}

// The survivors, in order, and zeros after them.
__global__ void write_instances(int64_t images, Candidates all, Params params, const Hypothesis* sorted,
                                const int32_t* accepted, const int32_t* states, Point* out_keypoints, float* out_score,
                                int32_t* out_count, bool* truncated) {
  const ListShare share = list_share(images);
  const int64_t n = share.image, room = params.max_candidates, places = params.max_instances;
  const Candidates own = candidates_of(all, n, room);
  const int32_t* state = states + n * room;
  const int32_t total = accepted[n];
  const auto survivors_before = [&](int32_t i) {
    int64_t sum = 0;
    for (int32_t j = lane_index(); j < i; j += warp) {
      sum += state[j] == taken;
    }
    return sum_warp(sum);
  };
  for (int32_t i = share.first; i < total; i += share.step) {
    const int64_t place = state[i] == taken ? survivors_before(i) : places;
    if (place < places) {
      const Hypothesis& instance = sorted[n * room + i];
      const Point* from = own.own(instance.candidate);
      for (int k = lane_index(); k < own.keypoint_count; k += warp) {
        out_keypoints[(n * places + place) * own.keypoint_count + k] = from[k];
      }
      if (lane_index() == 0) {
        out_score[n * places + place] = instance.score;
      }
    }
  }
  const int64_t kept = survivors_before(total), thread = int64_t(share.first) * warp + lane_index();
  for (int64_t i = kept + thread; i < places; i += int64_t(share.step) * warp) {
    for (int k = 0; k < own.keypoint_count; ++k) {
      out_keypoints[(n * places + i) * own.keypoint_count + k] = {0.0f, 0.0f};
    }
    out_score[n * places + i] = 0.0f;
  }
  if (thread == 0) {
    out_count[n] = int32_t(kept < places ? kept : places);
    truncated[n] = truncated[n] || kept > places;
  }
}

}  // namespace

int64_t select_scratch_bytes(const Shape& shape, const Params& params) { return lay_out(shape, params, nullptr).bytes; }

void select(const Candidate* candidate, const int32_t* count, const Point* keypoints, const float* keypoint_score,
            const float* score, const Shape& shape, int keypoint_count, const Params& params, Point* out_keypoints,
            float* out_score, int32_t* out_count, bool* truncated, void* scratch, Stream stream) {
  const Layout at = lay_out(shape, params, scratch);
  const Candidates all{candidate, keypoints, keypoint_score, score, keypoint_count};
  fill_with_zeros(at.grouped, at.zeros, stream);
  launch_lists(line_up, shape.images, stream, all, count, params, at.queue, at.length);
  launch_lists(group, shape.images, stream, all, params, at.queue, at.length, at.tickets, at.grouped);
  launch_lists(sort_accepted, shape.images, stream, params, at.queue, at.length, at.grouped, at.sorted, at.accepted);
  launch_lists(suppress, shape.images, stream, params, at.sorted, at.accepted, at.more_tickets, at.kept);
  launch_lists(write_instances, shape.images, stream, all, params, at.sorted, at.accepted, at.kept, out_keypoints,
               out_score, out_count, truncated);
}

}  // namespace deeperlab::cuda
