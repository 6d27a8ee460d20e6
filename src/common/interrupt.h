// SPDX-License-Identifier: Apache-2.0
// Ctrl-C during a call. Python runs the handlers of signals on its main thread alone, so where that one makes a call,
// it asks for them ten times a second while it works or waits for other threads; a handler that raises ends the call.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>

#include "common/platform.h"

namespace deeperlab::binding {

class Interrupt {
 public:
  // Runs the handlers of signals that have come. Whether one has raised.
  using Poll = bool (*)();

  explicit Interrupt(Poll poll)
      : poll_(is_main_thread() ? poll : nullptr), caller_(std::this_thread::get_id()), due_(now() + interval.count()) {}
  Interrupt(const Interrupt&) = delete;
  Interrupt& operator=(const Interrupt&) = delete;

  // Whether a handler has raised.
  bool stopped() {
    if (poll_ != nullptr && std::this_thread::get_id() == caller_ && !raised() && now() >= due_) {
      raised_.store(poll_(), std::memory_order_relaxed);
      due_ = now() + interval.count();
    }
    return raised();
  }
  bool raised() const { return raised_.load(std::memory_order_relaxed); }

  // By every thread that has done a share of a loop: the caller returns when `left`, what is not done yet, is 0. What
  // it waits in afterwards, such as the end of a parallel region, then takes no time.
  void finish(std::atomic<int64_t>& left, int64_t done) {
    left.fetch_sub(done, std::memory_order_acq_rel);
    if (poll_ == nullptr || std::this_thread::get_id() != caller_) {
      return;
    }
    using Clock = std::chrono::steady_clock;
    for (const auto start = Clock::now(); left.load(std::memory_order_acquire) > 0; stopped()) {
      const auto waited = Clock::now() - start;
      if (waited < std::chrono::milliseconds(2)) {  // most loops are done by then, and to wake up takes time
        std::this_thread::yield();
      } else {
        std::this_thread::sleep_for(std::min<Clock::duration>(waited / 16, interval));
      }
    }
  }

 private:
  static constexpr std::chrono::milliseconds interval{100};

  // ms
  static int64_t now() {
    timespec time{};
    clock_gettime(coarse_clock, &time);
    return int64_t(time.tv_sec) * 1000 + time.tv_nsec / 1000000;
  }

  const Poll poll_;  // null: nobody is to be asked
  const std::thread::id caller_;
  int64_t due_;  // when to ask again; of the caller alone
  std::atomic<bool> raised_{false};
};

}  // namespace deeperlab::binding
