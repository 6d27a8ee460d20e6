// SPDX-License-Identifier: Apache-2.0
// deeperlab._C: the operators of torch and their CPU implementations, through the stable ABI.
#include <utility>

#include "common/functions.h"
#include "tensor_traits.h"

namespace deeperlab::binding {
namespace {

// An operator as torch calls it: arguments come on a stack, in the order of the schema, and results go there.
template <size_t i>
void boxed(StableIValue* stack, uint64_t, uint64_t) {
  constexpr Function<TensorTraits> function = functions<TensorTraits>[i];
  static const Operator& op = operator_named(function.name);
  Arguments arguments(op, stack);
  const TensorTraits traits;
  write_results(function.call({op, traits, std::move(arguments.arrays), std::move(arguments.options)}), stack);
}

template <size_t... i>
void implement(torch::stable::detail::StableLibrary& m, std::index_sequence<i...>) {
  (m.impl(functions<TensorTraits>[i].name, &boxed<i>), ...);
}

}  // namespace

STABLE_TORCH_LIBRARY(deeperlab, m) {
  for (const Operator& op : operators()) {
    m.def(op.schema().c_str());
  }
}

STABLE_TORCH_LIBRARY_IMPL(deeperlab, CPU, m) {
  implement(m, std::make_index_sequence<std::size(functions<TensorTraits>)>());
}

}  // namespace deeperlab::binding
