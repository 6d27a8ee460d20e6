// SPDX-License-Identifier: Apache-2.0
// deeperlab._C: the operators of torch on CUDA tensors. No CUDA header here: the engine takes a stream as a pointer.
#include "common/fuse.h"
#include "tensors.h"

#include <torch/csrc/stable/accelerator.h>

// Absent from a torch without CUDA, beside which this library loads too.
extern "C" __attribute__((weak)) AOTITorchError aoti_torch_get_current_cuda_stream(int32_t device_index,
                                                                                   void** ret_stream);

namespace deeperlab::binding {
namespace {

// The engine on the current stream of the tensors' device. Nothing waits for it.
struct CudaEngine {
  int32_t device;

  int64_t fuse_scratch_bytes(const Shape& shape, const Graph& graph, const Params& params) const {
    return cuda::fuse_scratch_bytes(shape, graph, params);
  }

  void fuse(const Heads& heads, const Graph& graph, const Things& things, const Shape& shape, const Params& params,
            const Panoptic& out, void* scratch) const {
    void* stream = nullptr;
    require(aoti_torch_get_current_cuda_stream != nullptr && aoti_torch_get_current_cuda_stream(device, &stream) == 0,
            "heatmap: expected a torch with CUDA, got none; install torch for CUDA or pass tensors on the CPU");
    const char* fault = cuda::fuse(heads, graph, things, shape, params, out, scratch, stream);
    require(fault == nullptr, "heatmap: the CUDA kernels do not run on device ", device, ": ",
            fault == nullptr ? "" : fault);
  }
};

// CUDA tensors, of one device. Outputs and scratch come from torch's allocator, on the current stream.
struct CudaFace : TensorFace {
  int32_t device;

  template <class T>
  Array make(Sizes sizes) const {
    const torch::headeronly::IntHeaderOnlyArrayRef shape(sizes.begin(), sizes.size());
    return torch::stable::empty(shape, scalar_type<T>(), std::nullopt,
                                torch::stable::Device(torch::headeronly::DeviceType::CUDA, device));
  }

  CudaEngine engine() const { return {device}; }
};

template <auto Function>
struct CudaOperator;

// A function of a CUDA face, its first two arguments tensors: the second says where all of them are.
template <class R, class... Rest,
          R (*Function)(const CudaFace&, const TensorFace::Array&, const TensorFace::Array&, Rest...)>
struct CudaOperator<Function> {
  static R call(const TensorFace::Array& first, const TensorFace::Array& second, Rest... rest) {
    const int32_t device = second.get_device_index();
    const torch::stable::accelerator::DeviceGuard guard(device);
    return Function(CudaFace{{}, device}, first, second, rest...);
  }
};

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(deeperlab, CUDA, m) {
  m.impl("fuse", TORCH_BOX(&CudaOperator<&binding::fuse<CudaFace>>::call));
}

}  // namespace deeperlab::binding
