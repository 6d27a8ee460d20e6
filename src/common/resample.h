// SPDX-License-Identifier: Apache-2.0
// resample for both bindings: checks, allocation, one call of the engine.
#pragma once

#include "call.h"
#include "deeperlab/resample.h"

namespace deeperlab::binding {

template <class Traits>
Results<Traits> resample(const Call<Traits>& call) {
  const auto& head = call.array("head", 4, "[N, channels, h, w]");
  const int64_t n = Traits::extent(head, 0), channels = Traits::extent(head, 1);
  const int64_t h = Traits::extent(head, 2), w = Traits::extent(head, 3);
  const Shape shape = make_shape(n, 1, "head", {h, w}, call.integer("stride"), "size", {1, 1});
  const bool offsets = call.template option<bool>("offsets");
  require(!offsets || channels % 2 == 0, "head: expected an x and a y channel for each offset, got ", channels,
          " channels");
  require(n == 0 || channels <= (int64_t(1) << 60) / (n * (h + 1) * (w + 1)),
          "head: expected at most 2^60 values, got those of ", n, " x ", channels, " channels");
  const Resampling of{
      call.head("head", "head", {n, channels, h, w}), n, channels, shape.grid_h, shape.grid_w, shape.stride, offsets};
  const auto resampled = call.template make<float>({n, channels, h + 1, w + 1});
  if (n * channels > 0) {
    float* const nodes = out<float, Traits>(resampled);
    const auto engine = call.traits.engine();
    call.run([&] { engine.resample(of, nodes); });
  }
  return {resampled};
}

}  // namespace deeperlab::binding
