// SPDX-License-Identifier: Apache-2.0
// fuse of NumPy arrays by the kernels of csrc/cuda on emulated threads; otherwise as deeperlab._numpy.fuse.
#include <pybind11/stl.h>

#include "arrays.h"
#include "common/fuse.h"

#include <cuda_runtime.h>

namespace deeperlab::binding {
namespace {

struct EmulatedEngine {
  bool reversed;

  int64_t fuse_scratch_bytes(const Shape& shape, const Graph& graph, const Params& params) const {
    return cuda::fuse_scratch_bytes(shape, graph, params);
  }

  void fuse(const Heads& heads, const Graph& graph, const Things& things, const Shape& shape, const Params& params,
            const Panoptic& out, void* scratch) const {
    // Fresh device memory holds anything.
    memset(scratch, 0xa5, size_t(fuse_scratch_bytes(shape, graph, params)));
    emulator::reversed = reversed;
    const char* fault = cuda::fuse(heads, graph, things, shape, params, out, scratch, nullptr);
    require(fault == nullptr, fault == nullptr ? "" : fault);
  }
};

struct EmulatedFace : ArrayFace {
  EmulatedEngine engine() const { return {threads != 1}; }  // num_threads: 1 forwards, 2 in reverse
};

template <auto Function>
struct Emulated;

template <class R, class... Arguments, R (*Function)(const EmulatedFace&, Arguments...)>
struct Emulated<Function> {
  static R call(Arguments... arguments, int num_threads) { return Function(EmulatedFace{{num_threads}}, arguments...); }
};

}  // namespace

PYBIND11_MODULE(_emulated, m) {
  m.def("fuse", &Emulated<&fuse<EmulatedFace>>::call);
  // Launches end with an error from now on: 1 no kernel image, 2 driver too old, 3 another; 0: they work.
  m.def("fail", [](int error) { emulator::launch_error = cudaError_t(error); });
}

}  // namespace deeperlab::binding
