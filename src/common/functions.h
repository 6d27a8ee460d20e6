// SPDX-License-Identifier: Apache-2.0
// Which function is which operator, for both bindings.
#pragma once

#include "crf.h"
#include "encode.h"
#include "fuse.h"
#include "resample.h"
#include "semantic_loss.h"
#include "stages.h"
#include "top_down.h"

namespace deeperlab::binding {

template <class Traits>
struct Function {
  const char* name;
  Results<Traits> (*call)(const Call<Traits>& call);
};

template <class Traits>
constexpr Function<Traits> functions[] = {
    {"fuse", &binding::fuse<Traits>},
    {"argmax", &binding::argmax<Traits>},
    {"refine", &binding::refine<Traits>},
    {"vote", &binding::vote<Traits>},
    {"peaks", &binding::peaks<Traits>},
    {"trace", &binding::trace<Traits>},
    {"rescore", &binding::rescore<Traits>},
    {"select", &binding::select<Traits>},
    {"assign", &binding::assign<Traits>},
    {"merge", &binding::merge<Traits>},
    {"resample", &binding::resample<Traits>},
    {"semantic_loss", &binding::semantic_loss<Traits>},
    {"semantic_loss_backward", &binding::semantic_loss_backward<Traits>},
    {"encode", &binding::encode<Traits>},
    {"top_down", &binding::top_down<Traits>},
    {"crf", &binding::crf<Traits>},
    {"crf_filter", &binding::crf_filter<Traits>},
};

}  // namespace deeperlab::binding
