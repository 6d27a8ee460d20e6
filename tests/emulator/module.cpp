// SPDX-License-Identifier: Apache-2.0
// Operators on NumPy arrays by the kernels of csrc/cuda on emulated threads; otherwise as in deeperlab._numpy.
#include <pybind11/stl.h>

#include "array_traits.h"
#include "common/crf.h"
#include "common/encode.h"
#include "common/fuse.h"
#include "common/resample.h"
#include "common/semantic_loss.h"
#include "common/top_down.h"

#include <cuda_runtime.h>

namespace deeperlab::binding {
namespace {

struct EmulatedEngine {
  bool reversed;

  int64_t scratch_bytes(const Problem& problem) const { return cuda::fuse_scratch_bytes(problem); }

  void fuse(const Heads& heads, const Problem& problem, const Panoptic& out, void* scratch) const {
    // Fresh device memory holds anything.
    memset(scratch, 0xa5, size_t(scratch_bytes(problem)));
    emulator::reversed = reversed;
    const char* fault = cuda::fuse(heads, problem, out, scratch, nullptr);
    require(fault == nullptr, fault == nullptr ? "" : fault);
  }

  void resample(const Resampling& of, float* out) const {
    emulator::reversed = reversed;
    const char* fault = cuda::resample(of, out, nullptr);
    require(fault == nullptr, fault == nullptr ? "" : fault);
  }

  int64_t scratch_bytes(const Shape& shape) const { return cuda::semantic_loss_scratch_bytes(shape); }
  static LabelRange labels(const SemanticLoss&) { return {}; }

  void semantic_loss(const SemanticLoss& of, const PixelLosses& pixels, Cut* cut, float* loss, void* scratch) const {
    memset(scratch, 0xa5, size_t(scratch_bytes(of.shape)));
    emulator::reversed = reversed;
    const char* fault = cuda::semantic_loss(of, pixels, cut, loss, scratch, nullptr);
    require(fault == nullptr, fault == nullptr ? "" : fault);
  }

  void semantic_loss_backward(const SemanticLossBackward& of, float* out, void* scratch) const {
    emulator::reversed = reversed;
    const char* fault = cuda::semantic_loss_backward(of, out, scratch, nullptr);
    require(fault == nullptr, fault == nullptr ? "" : fault);
  }

  int64_t scratch_bytes(const Encoding& of) const { return cuda::encode_scratch_bytes(of); }

  void encode(const Encoding& of, const TargetMaps& out, void* scratch) const {
    memset(scratch, 0xa5, size_t(scratch_bytes(of)));
    emulator::reversed = reversed;
    const char* fault = cuda::encode(of, out, scratch, nullptr);
    require(fault == nullptr, fault == nullptr ? "" : fault);
  }

  int64_t scratch_bytes(const TopDown& of) const { return cuda::top_down_scratch_bytes(of); }
  static cpu::DetectionFault fault(const TopDown&) { return {}; }

  void top_down(const TopDown& of, const Panoptic& out, void* scratch) const {
    memset(scratch, 0xa5, size_t(scratch_bytes(of)));
    emulator::reversed = reversed;
    const char* fault = cuda::top_down(of, out, scratch, nullptr);
    require(fault == nullptr, fault == nullptr ? "" : fault);
  }

  static int64_t crf_sort_bytes(const Crf& of) { return cuda::crf_sort_bytes(of); }
  static int64_t crf_lattice_bytes(const Crf& of) { return cuda::crf_lattice_bytes(of); }
  static int64_t crf_links_bytes(const Crf& of, const CrfCounts& counts) { return cuda::crf_links_bytes(of, counts); }
  static int64_t crf_values_bytes(const Crf& of, const CrfCounts& counts) { return cuda::crf_values_bytes(of, counts); }

  CrfCounts find_vertices(const Crf& of, int64_t n, const CrfBlocks& blocks, void* sort) const {
    memset(blocks.lattice, 0xa5, size_t(crf_lattice_bytes(of)));
    memset(sort, 0xa5, size_t(crf_sort_bytes(of)));
    emulator::reversed = reversed;
    CrfCounts counts{};
    const char* fault = cuda::find_vertices(of, n, blocks, sort, counts, nullptr);
    require(fault == nullptr, fault == nullptr ? "" : fault);
    return counts;
  }

  void link_vertices(const Crf& of, const CrfBlocks& blocks, void* sort) const {
    memset(blocks.links, 0xa5, size_t(crf_links_bytes(of, blocks.counts)));
    emulator::reversed = reversed;
    const char* fault = cuda::link_vertices(of, blocks, sort, nullptr);
    require(fault == nullptr, fault == nullptr ? "" : fault);
  }

  void crf(const Crf& of, int64_t n, const CrfBlocks& blocks, float* out) const {
    memset(blocks.values, 0xa5, size_t(crf_values_bytes(of, blocks.counts)));
    emulator::reversed = reversed;
    const char* fault = cuda::crf(of, n, blocks, out, nullptr);
    require(fault == nullptr, fault == nullptr ? "" : fault);
  }

  void crf_filter(const Crf& of, int64_t n, const CrfBlocks& blocks, float* out) const {
    memset(blocks.values, 0xa5, size_t(crf_values_bytes(of, blocks.counts)));
    emulator::reversed = reversed;
    const char* fault = cuda::crf_filter(of, n, blocks, out, nullptr);
    require(fault == nullptr, fault == nullptr ? "" : fault);
  }
};

struct EmulatedTraits : ArrayTraits {
  EmulatedEngine engine() const { return {threads != 1}; }  // num_threads: 1 forwards, 2 in reverse
};

}  // namespace

PYBIND11_MODULE(_emulated, m) {
  define(m, "fuse", &fuse<EmulatedTraits>);
  define(m, "resample", &resample<EmulatedTraits>);
  define(m, "semantic_loss", &semantic_loss<EmulatedTraits>);
  define(m, "semantic_loss_backward", &semantic_loss_backward<EmulatedTraits>);
  define(m, "encode", &encode<EmulatedTraits>);
  define(m, "top_down", &top_down<EmulatedTraits>);
  define(m, "crf", &crf<EmulatedTraits>);
  define(m, "crf_filter", &crf_filter<EmulatedTraits>);
  // Launches end with an error from now on: 1 no kernel image, 2 driver too old, 3 another; 0: they work.
  m.def("fail", [](int error) { emulator::launch_error = cudaError_t(error); });
  m.def("capture", [](bool captured) { emulator::captured = captured; });
}

}  // namespace deeperlab::binding
