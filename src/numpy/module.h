// SPDX-License-Identifier: Apache-2.0
// The parts of _numpy that have files of their own; module.cpp puts them together.
#pragma once

#include <pybind11/pybind11.h>

namespace deeperlab::binding {

void register_metrics(pybind11::module_& m);
void register_draw(pybind11::module_& m);
void register_runs(pybind11::module_& m);
void register_png(pybind11::module_& m);

}  // namespace deeperlab::binding
