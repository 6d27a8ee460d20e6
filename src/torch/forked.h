// SPDX-License-Identifier: Apache-2.0
// Whether a process lacks the threads of torch's pool: those of its parent, for which the pool would wait for ever, are
// not in a child that was forked.
#pragma once

#include <pthread.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace deeperlab::binding {

inline std::atomic<bool> forked{false};

// A process that was forked before this library was loaded is known by PF_FORKNOEXEC among its flags, proc(5): the
// parent may have had a pool without this library.
inline bool was_forked_before() noexcept {
  char stat[1024] = "";
  FILE* const file = std::fopen("/proc/self/stat", "re");
  if (file == nullptr) {
    return false;
  }
  stat[std::fread(stat, 1, sizeof stat - 1, file)] = 0;
  std::fclose(file);
  const char* field = std::strrchr(stat, ')');       // the end of the name, which may hold anything
  for (int i = 0; i < 7 && field != nullptr; ++i) {  // state, parent, group, session, terminal, its group, flags
    field = std::strchr(field + 1, ' ');
  }
  constexpr unsigned long forked_without_exec = 0x40;
  return field != nullptr && (std::strtoul(field, nullptr, 10) & forked_without_exec) != 0;
}

inline const int watch_forks = []() noexcept {  // at load
  forked = was_forked_before();
  return pthread_atfork(nullptr, nullptr, [] { forked = true; });
}();

inline bool is_forked_child() { return forked.load(std::memory_order_relaxed); }

}  // namespace deeperlab::binding
