// SPDX-License-Identifier: Apache-2.0
// Whether a process lacks the threads of torch's pool: those of its parent, for which the pool would wait for ever, are
// not in a child that was forked.
#pragma once

#include <pthread.h>

#include <atomic>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

namespace deeperlab::binding {

inline std::atomic<bool> forked{false};

// At load. A process that was forked before is known by PF_FORKNOEXEC among its flags, proc(5): the parent may have had
// a pool without this library.
inline const int watch_forks = [] {
  std::ifstream file("/proc/self/stat");
  std::string stat, word;
  std::getline(file, stat, '\0');
  std::istringstream fields(stat.substr(stat.rfind(')') + 1));  // after the name, which may hold anything
  for (int i = 0; i < 7; ++i) {  // state, parent, group, session, terminal, its group, flags
    fields >> word;
  }
  constexpr unsigned long forked_without_exec = 0x40;
  forked = (std::strtoul(word.c_str(), nullptr, 10) & forked_without_exec) != 0;
  return pthread_atfork(nullptr, nullptr, [] { forked = true; });
}();

inline bool is_forked_child() { return forked.load(std::memory_order_relaxed); }

}  // namespace deeperlab::binding
