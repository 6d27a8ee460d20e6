// SPDX-License-Identifier: Apache-2.0
// The handlers of signals, from a library that is not linked against Python: where the process has no Python its
// functions are absent, and nothing is asked.
#pragma once

#include "common/interrupt.h"

extern "C" {
__attribute__((weak)) int Py_IsInitialized();
__attribute__((weak)) int PyGILState_Ensure();  // an enum in Python
__attribute__((weak)) void PyGILState_Release(int state);
__attribute__((weak)) int PyErr_CheckSignals();
}

namespace deeperlab::binding {

// The error of an operator that a handler has ended. What the handler raised becomes its cause, and deeperlab.fuse
// raises that instead.
constexpr const char* interrupted = "interrupted: the handler of a signal has raised an exception";

inline Interrupt::Poll signal_poll() {
  const bool python = Py_IsInitialized != nullptr && PyGILState_Ensure != nullptr && PyGILState_Release != nullptr &&
                      PyErr_CheckSignals != nullptr && Py_IsInitialized() != 0;
  return !python ? Interrupt::Poll() : [] {
    const int state = PyGILState_Ensure();
    const bool raised = PyErr_CheckSignals() != 0;
    PyGILState_Release(state);
    return raised;
  };
}

}  // namespace deeperlab::binding
