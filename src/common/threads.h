// SPDX-License-Identifier: Apache-2.0
// Threads of our own, for one loop.
#pragma once

#include <algorithm>
#include <exception>
#include <thread>
#include <vector>

#include "interrupt.h"
#include "simd/parallel.h"

namespace deeperlab::binding {

// For cpu::Parallel, whose `call` is an Interrupt.
inline bool is_stopped(const cpu::Parallel& self) { return static_cast<Interrupt*>(self.call)->stopped(); }

// Fork and join: no pool is kept, so a process may fork between calls. Where a thread cannot be started the caller's
// own does the rest of the work.
inline void run_on_threads(const cpu::Parallel& self, int64_t n, int64_t grain, cpu::Parallel::Range range,
                           void* closure) {
  Interrupt& interrupt = *static_cast<Interrupt*>(self.call);
  std::atomic<int64_t> left{n};
  const auto work = [&](int64_t begin, int64_t end) {
    range(closure, begin, end);
    interrupt.finish(left, end - begin);
  };
  const int64_t shares = std::max<int64_t>(1, std::min<int64_t>(self.threads, n / std::max<int64_t>(grain, 1)));
  std::vector<std::thread> threads;
  threads.reserve(size_t(shares - 1));  // or running out of memory would find threads that nobody joins
  int64_t done = 0;
  for (int64_t i = 1; i < shares; ++i) {
    const int64_t end = n / shares * i + n % shares * i / shares;  // n * i / shares, within 64 bits
    try {
      threads.emplace_back(work, done, end);
    } catch (const std::exception&) {  // too many threads, or no memory for one
      break;
    }
    done = end;
  }
  work(done, n);
  for (std::thread& thread : threads) {
    thread.join();
  }
}

}  // namespace deeperlab::binding
