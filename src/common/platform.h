// SPDX-License-Identifier: Apache-2.0
// What Linux and macOS call by different names.
#pragma once

#include <time.h>

#if defined(__linux__)
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#else
#include <pthread.h>
#endif

#include <cstddef>

namespace deeperlab::binding {

#if defined(__linux__)
constexpr clockid_t coarse_clock = CLOCK_MONOTONIC_COARSE;  // it costs a few cycles

inline bool is_main_thread() { return syscall(SYS_gettid) == getpid(); }  // the first of a process

// Advice: where it is not taken, nothing is lost.
inline void advise_huge_pages(void* data, size_t bytes) { madvise(data, bytes, MADV_HUGEPAGE); }
#else
constexpr clockid_t coarse_clock = CLOCK_MONOTONIC_RAW_APPROX;

inline bool is_main_thread() { return pthread_main_np() != 0; }

inline void advise_huge_pages(void*, size_t) {}
#endif

}  // namespace deeperlab::binding
