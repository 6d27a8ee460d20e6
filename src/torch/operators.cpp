// SPDX-License-Identifier: Apache-2.0
// deeperlab._C: the operators of torch and their CPU implementations, through the stable ABI.
#include "common/fuse.h"
#include "common/stages.h"
#include "tensor_traits.h"

namespace deeperlab::binding {
namespace {

using Function = Results<TensorTraits> (*)(const Call<TensorTraits>&);

// A function of fuse.h or stages.h as torch calls it.
template <const auto& name, Function function>
void boxed(StableIValue* stack, uint64_t, uint64_t) {
  static const Operator& op = operator_named(name);
  Arguments arguments(op, stack);
  const TensorTraits traits;
  write_results(function({op, traits, std::move(arguments.arrays), std::move(arguments.options)}), stack);
}

constexpr char fuse_name[] = "fuse", argmax_name[] = "argmax", refine_name[] = "refine", vote_name[] = "vote",
               peaks_name[] = "peaks", trace_name[] = "trace", rescore_name[] = "rescore", select_name[] = "select",
               assign_name[] = "assign", merge_name[] = "merge";

}  // namespace

STABLE_TORCH_LIBRARY(deeperlab, m) {
  for (const Operator& op : operators()) {
    m.def(op.schema().c_str());
  }
}

STABLE_TORCH_LIBRARY_IMPL(deeperlab, CPU, m) {
  m.impl(fuse_name, &boxed<fuse_name, &binding::fuse<TensorTraits>>);
  m.impl(argmax_name, &boxed<argmax_name, &binding::argmax<TensorTraits>>);
  m.impl(refine_name, &boxed<refine_name, &binding::refine<TensorTraits>>);
  m.impl(vote_name, &boxed<vote_name, &binding::vote<TensorTraits>>);
  m.impl(peaks_name, &boxed<peaks_name, &binding::peaks<TensorTraits>>);
  m.impl(trace_name, &boxed<trace_name, &binding::trace<TensorTraits>>);
  m.impl(rescore_name, &boxed<rescore_name, &binding::rescore<TensorTraits>>);
  m.impl(select_name, &boxed<select_name, &binding::select<TensorTraits>>);
  m.impl(assign_name, &boxed<assign_name, &binding::assign<TensorTraits>>);
  m.impl(merge_name, &boxed<merge_name, &binding::merge<TensorTraits>>);
}

}  // namespace deeperlab::binding
