// SPDX-License-Identifier: Apache-2.0
// deeperlab._numpy: the fusion and each of its stages for NumPy arrays, without torch.
#include "module.h"

#include "array_traits.h"
#include "common/functions.h"

namespace deeperlab::binding {
namespace {

// The table of parameters, for checks in Python: name -> type, low, high, step, choices.
py::dict describe_parameters() {
  py::dict table;
  for (const Parameter& p : parameters()) {
    table[p.name] = py::make_tuple(kind_names[int(p.kind)], p.low, p.high, p.step, py::tuple(py::cast(p.choices)));
  }
  return table;
}

// Operator -> its arrays; its options, as (name, type); the number of its results.
py::dict describe_operators() {
  py::dict all;
  for (const Operator& op : operators()) {
    py::list options;
    for (const Option& option : op.options) {
      options.append(py::make_tuple(option.name, kind_names[int(option.kind)]));
    }
    all[op.name.c_str()] = py::make_tuple(py::tuple(py::cast(op.arrays)), py::tuple(options), op.results);
  }
  return all;
}

}  // namespace

// It needs no GIL: a call has its own memory, the tables are constant, and what becomes an index is copied before it is
// checked. As everywhere in NumPy, nobody may give an array another shape or dtype while it is read.
PYBIND11_MODULE(_numpy, m, py::mod_gil_not_used()) {
  m.doc() = "The fusion for NumPy arrays; deeperlab.fuse is its public side.";
  m.def("simd", [] { return simd_names[int(simd())]; }, "The form of the stages that this process runs.");
  m.def("parameters", &describe_parameters, "Parameter -> (type, low, high, step, choices), in order.");
  m.def("operators", &describe_operators, "Operator -> (arrays, options as (name, type), number of results).");
  for (const Function<ArrayTraits>& function : functions<ArrayTraits>) {
    define(m, function.name, function.call);
  }
  register_metrics(m);
  register_draw(m);
  register_runs(m);
  register_png(m);
}

}  // namespace deeperlab::binding
