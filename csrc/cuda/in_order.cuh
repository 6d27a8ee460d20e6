// SPDX-License-Identifier: Apache-2.0
// A greedy loop without the loop: whether something is taken depends on no more than what became of those before it
// that conflict with it. Warps take them in order, by tickets, so that whoever is waited for has begun; chains of
// conflicts are short.
#pragma once

#include "launch.cuh"

namespace deeperlab::cuda {

enum State : int32_t { undecided = 0, taken = 1, refused = 2 };

__device__ inline State state_of(const int32_t* states, int64_t i) {
  return State(*static_cast<const volatile int32_t*>(states + i));
}

// Goes through hypotheses 0 … length − 1 in order, a warp each: one is refused if conflict(i, j) with an earlier one
// that is taken, which it waits for.
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
    bool refuse = false;
    for (int32_t first = 0; first < i && !refuse; first += warp) {
      const int32_t j = first + lane_index();
      State state = j < i && conflict(i, j) ? state_of(states, j) : refused;
      while (!__any_sync(all_lanes, state == taken) && __any_sync(all_lanes, state == undecided)) {
        __nanosleep(40);
        state = state == undecided ? state_of(states, j) : state;
      }
      refuse = __any_sync(all_lanes, state == taken);
    }
    if (lane_index() == 0) {
      atomicExch(states + i, int32_t(refuse ? refused : taken));
    }
  }
}

}  // namespace deeperlab::cuda
