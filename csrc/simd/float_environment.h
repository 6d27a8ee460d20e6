// SPDX-License-Identifier: Apache-2.0
// How floats round. Each thread has a setting of its own, which others may have changed: torch.set_flush_denormal, or a
// library made with -ffast-math when it was loaded.
#pragma once

#if defined(__x86_64__)
#include <xmmintrin.h>
#else
#include <cfenv>
#endif

namespace deeperlab::cpu {

// While it lives the calling thread rounds to nearest, keeps subnormal numbers and traps nothing, as every program does
// at its start.
class FloatEnvironment {
 public:
  FloatEnvironment(const FloatEnvironment&) = delete;
  FloatEnvironment& operator=(const FloatEnvironment&) = delete;

#if defined(__x86_64__)
  FloatEnvironment() : before_(_mm_getcsr()) {
    if (!is_default()) {
      _mm_setcsr(at_start);
    }
    keep_order();
  }
  ~FloatEnvironment() {
    keep_order();
    if (!is_default()) {
      _mm_setcsr(before_);
    }
  }

 private:
  static constexpr unsigned at_start = 0x1f80, flags = 0x3f;  // flags: what has happened, no setting

  bool is_default() const { return (before_ & ~flags) == at_start; }

  unsigned before_;
#else
  FloatEnvironment() {
    std::fegetenv(&before_);
    std::fesetenv(FE_DFL_ENV);
    keep_order();
  }
  ~FloatEnvironment() {
    keep_order();
    std::fesetenv(&before_);
  }

 private:
  std::fenv_t before_;
#endif

  // What is loaded between two of these is loaded there, and so computed with there.
  static void keep_order() { __asm__ volatile("" ::: "memory"); }
};

}  // namespace deeperlab::cpu
