// SPDX-License-Identifier: Apache-2.0
// deeperlab._C: the operators of torch on CUDA tensors. No CUDA header here: the engine takes a stream as a pointer.
#include "common/crf.h"
#include "common/encode.h"
#include "common/fuse.h"
#include "common/resample.h"
#include "common/semantic_loss.h"
#include "common/top_down.h"
#include "tensor_traits.h"

#include <torch/csrc/stable/accelerator.h>

// Absent from a torch without CUDA, beside which this library loads too.
extern "C" __attribute__((weak)) AOTITorchError aoti_torch_get_current_cuda_stream(int32_t device_index,
                                                                                   void** ret_stream);

namespace deeperlab::binding {
namespace {

// The engine on the current stream of the tensors' device. Nothing waits for it.
struct CudaEngine {
  int32_t device;

  int64_t scratch_bytes(const Problem& problem) const { return cuda::fuse_scratch_bytes(problem); }

  void fuse(const Heads& heads, const Problem& problem, const Panoptic& out, void* scratch) const {
    check("heatmap", cuda::fuse(heads, problem, out, scratch, stream("heatmap")));
  }
  void resample(const Resampling& of, float* out) const { check("head", cuda::resample(of, out, stream("head"))); }

  int64_t scratch_bytes(const Shape& shape) const { return cuda::semantic_loss_scratch_bytes(shape); }
  static LabelRange labels(const SemanticLoss&) { return {}; }  // the host does not look: a wrong one makes NaN
  void semantic_loss(const SemanticLoss& of, const PixelLosses& pixels, Cut* cut, float* loss, void* scratch) const {
    check("logits", cuda::semantic_loss(of, pixels, cut, loss, scratch, stream("logits")));
  }
  void semantic_loss_backward(const SemanticLossBackward& of, float* out, void* scratch) const {
    check("logits", cuda::semantic_loss_backward(of, out, scratch, stream("logits")));
  }

  int64_t scratch_bytes(const Encoding& of) const { return cuda::encode_scratch_bytes(of); }
  void encode(const Encoding& of, const TargetMaps& out, void* scratch) const {
    check("instance", cuda::encode(of, out, scratch, stream("instance")));
  }

  int64_t scratch_bytes(const TopDown& of) const { return cuda::top_down_scratch_bytes(of); }
  static cpu::DetectionFault fault(const TopDown&) { return {}; }  // the host does not look: it is left out
  void top_down(const TopDown& of, const Panoptic& out, void* scratch) const {
    check("semantic", cuda::top_down(of, out, scratch, stream("semantic")));
  }

  static int64_t crf_sort_bytes(const Crf& of) { return cuda::crf_sort_bytes(of); }
  static int64_t crf_lattice_bytes(const Crf& of) { return cuda::crf_lattice_bytes(of); }
  static int64_t crf_links_bytes(const Crf& of, const CrfCounts& counts) { return cuda::crf_links_bytes(of, counts); }
  static int64_t crf_values_bytes(const Crf& of, const CrfCounts& counts) { return cuda::crf_values_bytes(of, counts); }
  CrfCounts find_vertices(const Crf& of, int64_t n, const CrfBlocks& blocks, void* sort) const {
    CrfCounts counts{};
    check("image", cuda::find_vertices(of, n, blocks, sort, counts, stream("image")));
    return counts;
  }
  void link_vertices(const Crf& of, const CrfBlocks& blocks, void* sort) const {
    check("image", cuda::link_vertices(of, blocks, sort, stream("image")));
  }
  void crf(const Crf& of, int64_t n, const CrfBlocks& blocks, float* out) const {
    check("semantic", cuda::crf(of, n, blocks, out, stream("semantic")));
  }
  void crf_filter(const Crf& of, int64_t n, const CrfBlocks& blocks, float* out) const {
    check("values", cuda::crf_filter(of, n, blocks, out, stream("values")));
  }

 private:
  void* stream(const char* name) const {
    void* current = nullptr;
    require(aoti_torch_get_current_cuda_stream != nullptr && aoti_torch_get_current_cuda_stream(device, &current) == 0,
            name, ": expected a torch with CUDA, got none; install torch for CUDA or pass tensors on the CPU");
    return current;
  }

  void check(const char* name, const char* fault) const {
    require(fault == nullptr, name, ": the CUDA kernels do not run on device ", device, ": ",
            fault == nullptr ? "" : fault);
  }
};

// CUDA tensors, of one device. Outputs and scratch come from torch's allocator, on the current stream.
struct CudaTraits : TensorTraits {
  int32_t device;

  template <class T>
  Array make(Sizes sizes) const {
    return empty(sizes, scalar_type<T>(), sizeof(T), {torch::headeronly::DeviceType::CUDA, device});
  }

  CudaEngine engine() const { return {device}; }
};

// Its last tensor says where all of them are.
template <Results<CudaTraits> (*function)(const Call<CudaTraits>&)>
void boxed(const Operator& op, StableIValue* stack) {
  Arguments arguments(op, stack);
  const int32_t device = arguments.arrays.back().get_device_index();
  const torch::stable::accelerator::DeviceGuard guard(device);
  const CudaTraits traits{{}, device};
  write_results(function({op, traits, std::move(arguments.arrays), std::move(arguments.options)}), stack);
}

void boxed_fuse(StableIValue* stack, uint64_t, uint64_t) {
  static const Operator& op = operator_named("fuse");
  boxed<&binding::fuse<CudaTraits>>(op, stack);
}

void boxed_resample(StableIValue* stack, uint64_t, uint64_t) {
  static const Operator& op = operator_named("resample");
  boxed<&binding::resample<CudaTraits>>(op, stack);
}

void boxed_semantic_loss(StableIValue* stack, uint64_t, uint64_t) {
  static const Operator& op = operator_named("semantic_loss");
  boxed<&binding::semantic_loss<CudaTraits>>(op, stack);
}

void boxed_semantic_loss_backward(StableIValue* stack, uint64_t, uint64_t) {
  static const Operator& op = operator_named("semantic_loss_backward");
  boxed<&binding::semantic_loss_backward<CudaTraits>>(op, stack);
}

void boxed_encode(StableIValue* stack, uint64_t, uint64_t) {
  static const Operator& op = operator_named("encode");
  boxed<&binding::encode<CudaTraits>>(op, stack);
}

void boxed_top_down(StableIValue* stack, uint64_t, uint64_t) {
  static const Operator& op = operator_named("top_down");
  boxed<&binding::top_down<CudaTraits>>(op, stack);
}

void boxed_crf(StableIValue* stack, uint64_t, uint64_t) {
  static const Operator& op = operator_named("crf");
  boxed<&binding::crf<CudaTraits>>(op, stack);
}

void boxed_crf_filter(StableIValue* stack, uint64_t, uint64_t) {
  static const Operator& op = operator_named("crf_filter");
  boxed<&binding::crf_filter<CudaTraits>>(op, stack);
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(deeperlab, CUDA, m) {
  m.impl("fuse", &boxed_fuse);
  m.impl("resample", &boxed_resample);
  m.impl("semantic_loss", &boxed_semantic_loss);
  m.impl("semantic_loss_backward", &boxed_semantic_loss_backward);
  m.impl("encode", &boxed_encode);
  m.impl("top_down", &boxed_top_down);
  m.impl("crf", &boxed_crf);
  m.impl("crf_filter", &boxed_crf_filter);
}

}  // namespace deeperlab::binding
