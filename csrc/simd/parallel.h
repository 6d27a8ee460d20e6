// SPDX-License-Identifier: Apache-2.0
// How a loop runs: on several threads, by a callback that the binding provides, and with which instructions. Tasks
// write to places of their own, so results do not depend on the number of threads; tasks do not throw.
#pragma once

#include <algorithm>
#include <cstdint>

#include "simd/float_environment.h"

namespace deeperlab::cpu {

// The form of a stage that runs. plain: the readable loops, the truth for the others, which are one fast form compiled
// for the instructions that every machine of an architecture has (baseline), for AVX2 and for AVX-512.
enum class Simd : uint8_t { plain, baseline, avx2, avx512 };

struct Parallel {
  using Range = void (*)(void* closure, int64_t begin, int64_t end);
  // Covers [0, n) with calls of range(closure, begin, end), at least `grain` long where possible.
  void (*run)(const Parallel& self, int64_t n, int64_t grain, Range range, void* closure);
  // Whether the call is to end early, its results of no account; once true, always true. Tasks that take long ask too.
  bool (*stopped)(const Parallel& self);
  void* call;   // of the binding
  int threads;  // for `run`; 0 where the binding's thread pool has a setting of its own
  Simd simd;
};

// Calls ranges(begin, end) on threads, which cover [0, n), each at least `grain` long where possible.
template <class Ranges>
void parallel_ranges(const Parallel& parallel, int64_t n, int64_t grain, const Ranges& ranges) {
  const auto range = [](void* closure, int64_t begin, int64_t end) {
    const FloatEnvironment environment;
    (*static_cast<const Ranges*>(closure))(begin, end);
  };
  if (n > 0) {
    parallel.run(parallel, n, grain, range, const_cast<Ranges*>(&ranges));
  }
}

// Calls task(i) for every i in [0, n), or for fewer where the call is stopped: then no later loop of the call has any
// tasks. About `grain` tasks are worth a thread.
template <class Task>
void parallel_for(const Parallel& parallel, int64_t n, int64_t grain, const Task& task) {
  parallel_ranges(parallel, n, grain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end && !parallel.stopped(parallel);) {
      for (const int64_t next = std::min(end, i + grain); i < next; ++i) {
        task(i);
      }
    }
  });
}

// The same for tasks that need room to work in: task(i, room), where no other thread is in that one of `rooms`. So many
// threads at most work on it.
template <class Task>
void parallel_for_with_room(const Parallel& parallel, int64_t n, int64_t rooms, const Task& task) {
  const int64_t grain = (n + rooms - 1) / rooms;
  parallel_ranges(parallel, n, grain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end && !parallel.stopped(parallel); ++i) {
      task(i, begin / grain);  // no two ranges begin so near each other
    }
  });
}

// parallel_for over the rows of N images: task(n, y). A grain of some 8,000 pixels outweighs the cost of a thread.
template <class Task>
void parallel_rows(const Parallel& parallel, int64_t images, int height, int width, const Task& task) {
  const int64_t grain = 8192 / width + 1;
  parallel_for(parallel, images * height, grain, [&](int64_t row) { task(row / height, int(row % height)); });
}

}  // namespace deeperlab::cpu
