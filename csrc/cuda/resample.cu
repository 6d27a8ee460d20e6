// SPDX-License-Identifier: Apache-2.0
#include "deeperlab/resample.h"

#include "launch.cuh"

namespace deeperlab::cuda {
namespace {

// One node of one channel a thread.
__global__ void resample_nodes(Resampling of, float* out) {
  const int64_t i = thread_index(), nodes = int64_t(of.rows()) * of.columns(), plane = i / nodes;
  if (plane < of.images * of.channels) {
    const int y = int(i % nodes / of.columns()), x = int(i % of.columns());
    out[i] = resample_node<AnyFloat>(of, plane / of.channels, plane % of.channels, y, x);
  }
}

}  // namespace

const char* resample(const Resampling& of, float* out, Stream stream) {
  const int64_t count = of.images * of.channels * of.rows() * of.columns();
  cudaGetLastError();  // of somebody else
  launch(resample_nodes, blocks_for(count, block), stream, of, out);
  return explain(cudaGetLastError());
}

}  // namespace deeperlab::cuda
