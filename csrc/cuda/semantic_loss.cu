// SPDX-License-Identifier: Apache-2.0
#include "deeperlab/semantic_loss.h"

#include "class_set.cuh"
#include "deeperlab/scratch.h"
#include "launch.cuh"

namespace deeperlab::cuda {
namespace {

// The pixels of an image in parts, a block each, where all of them are counted.
constexpr int parts = 64;

struct Layout {
  ClassSet* stuff;
  int32_t* bins;    // [N, 3, cut_bins] of each digit
  int32_t* equal;   // [N, parts] pixels whose loss is that of the cut
  int32_t* left;    // [N] of these, how many count
  double* row_sum;  // [N, H]
  int64_t bytes;
};

Layout lay_out(const Shape& shape, void* block) {
  Scratch scratch(block);
  Layout at{};
  at.stuff = scratch.take<ClassSet>(1);
  at.bins = scratch.take<int32_t>(int64_t(shape.images) * 3 * cut_bins);
  at.equal = scratch.take<int32_t>(int64_t(shape.images) * parts);
  at.left = scratch.take<int32_t>(shape.images);
  at.row_sum = scratch.take<double>(int64_t(shape.images) * shape.height);
  at.bytes = scratch.bytes();
  return at;
}

// One pixel a thread.
__global__ void find_losses(SemanticLoss of, PixelLosses pixels) {
  const int64_t i = thread_index(), n = i / of.shape.pixels(), pixel = i % of.shape.pixels();
  if (n < of.shape.images) {
    find_loss<AnyFloat>(of, n, int(pixel / of.shape.width), int(pixel % of.shape.width), pixels);
  }
}

__device__ int64_t part_begin(int64_t pixels, int64_t part) { return pixels * part / parts; }

// Counts the pixels of a part in the bins of digit i.
__global__ void count_digit(const float* loss, int64_t pixels, int i, const Cut* cut, int32_t* all_bins) {
  __shared__ int32_t bins[cut_bins];
  const int64_t n = blockIdx.x / parts, part = blockIdx.x % parts;
  for (int bin = int(threadIdx.x); bin < cut_bins; bin += block) {
    bins[bin] = 0;
  }
  __syncthreads();
  const CutDigit digit = cut_digit(i);
  const int32_t key = i == 0 ? 0 : cut[n].key;
  const int64_t end = part_begin(pixels, part + 1);
  for (int64_t pixel = part_begin(pixels, part) + threadIdx.x; pixel < end; pixel += block) {
    const int32_t value = bit_cast<int32_t>(loss[n * pixels + pixel]);
    if (digit.follows(key, value)) {
      atomicAdd(&bins[digit.bin(value)], 1);
    }
  }
  __syncthreads();
  for (int bin = int(threadIdx.x); bin < cut_bins; bin += block) {
    if (bins[bin] != 0) {
      atomicAdd(&all_bins[(n * 3 + i) * cut_bins + bin], bins[bin]);
    }
  }
}

// One image a thread.
__global__ void choose_digit(int64_t images, double top_k, int i, const int32_t* all_bins, int32_t* left, Cut* cut) {
  const int64_t n = thread_index();
  if (n >= images) {
    return;
  }
  const int32_t* bins = all_bins + (n * 3 + i) * cut_bins;
  if (i == 0) {
    int32_t labeled = 0;
    for (int bin = 0; bin < cut_bins; ++bin) {
      labeled += bins[bin];
    }
    left[n] = hardest_count(labeled, top_k);
    cut[n] = {left[n] == 0 ? no_key : 0, -1, left[n]};
  }
  if (cut[n].count > 0) {
    descend(bins, cut_digit(i), left[n], cut[n].key);
  }
}

// A part's pixels whose loss is that of the cut; a warp a part.
__global__ void count_equal(const float* loss, int64_t images, int64_t pixels, const Cut* cut, int32_t* equal) {
  const int64_t task = thread_index() / warp, n = task / parts;
  if (n >= images) {
    return;  // the whole warp
  }
  int64_t found = 0;
  for (int64_t pixel = part_begin(pixels, task % parts) + lane_index(); pixel < part_begin(pixels, task % parts + 1);
       pixel += warp) {
    found += bit_cast<int32_t>(loss[n * pixels + pixel]) == cut[n].key;
  }
  found = sum_warp(found);
  if (lane_index() == 0) {
    equal[task] = int32_t(found);
  }
}

// The last pixel that counts; a warp an image.
__global__ void find_last(const float* loss, int64_t images, int64_t pixels, const int32_t* equal, const int32_t* left,
                          Cut* cut) {
  const int64_t n = thread_index() / warp;
  if (n >= images || cut[n].count == 0) {
    return;  // the whole warp
  }
  const int32_t key = cut[n].key;
  int32_t wanted = left[n];
  int64_t part = 0;
  for (; equal[n * parts + part] < wanted; ++part) {
    wanted -= equal[n * parts + part];
  }
  int64_t last = -1;
  for (int64_t first = part_begin(pixels, part); wanted > 0; first += warp) {
    const int64_t pixel = first + lane_index();
    unsigned found = __ballot_sync(all_lanes, pixel < pixels && bit_cast<int32_t>(loss[n * pixels + pixel]) == key);
    for (; found != 0 && wanted > 0; found &= found - 1, --wanted) {
      last = first + __ffs(int(found)) - 1;
    }
  }
  __syncwarp();
  if (lane_index() == 0) {
    cut[n].last = int32_t(last);
  }
}

// One row a thread.
__global__ void sum_rows(SemanticLoss of, PixelLosses pixels, const Cut* cut, double* row_sum) {
  const int64_t row = thread_index(), n = row / of.shape.height;
  if (n < of.shape.images) {
    row_sum[row] = sum_row(of, pixels, cut[n], n, int(row % of.shape.height));
  }
}

// One image a thread.
__global__ void average(Shape shape, const double* row_sum, const Cut* cut, float* loss) {
  const int64_t n = thread_index();
  if (n < shape.images) {
    loss[n] = mean_loss(row_sum + n * shape.height, shape.height, cut[n]);
  }
}

// A block has 16 x 16 cells, one a thread, and the 15 x 15 nodes that have all their cells among them.
constexpr int tile = 16;
static_assert(tile * tile == block);

DEEPERLAB_HD int64_t tiles_of(int64_t nodes) { return (nodes + tile - 2) / (tile - 1); }

__global__ void sum_gradients(SemanticLossBackward all, const ClassSet* stuff, float* out) {
  __shared__ CornersOf<float> said[block];
  all.of.stuff = stuff;
  const Shape& shape = all.of.shape;
  const int64_t across = tiles_of(shape.grid_w), down = tiles_of(shape.grid_h);
  const int64_t n = blockIdx.x / (across * down), at = blockIdx.x % (across * down);
  const int i = int(threadIdx.x), row = i / tile, column = i % tile;
  const int y = int(at / across) * (tile - 1) + row - 1, x = int(at % across) * (tile - 1) + column - 1;
  for (int c = 0; c < shape.classes; ++c) {
    __syncthreads();  // all have read the class before
    said[i] = cell_gradient<AnyFloat>(all, n, c, y, x);
    __syncthreads();
    if (row > 0 && column > 0 && y < shape.grid_h && x < shape.grid_w) {
      out[(n * shape.classes + c) * shape.nodes() + int64_t(y) * shape.grid_w + x] =
          node_gradient(said[i - tile - 1], said[i - tile], said[i - 1], said[i]);
    }
  }
}

}  // namespace

int64_t semantic_loss_scratch_bytes(const Shape& shape) { return lay_out(shape, nullptr).bytes; }

const char* semantic_loss(const SemanticLoss& call, const PixelLosses& pixels, Cut* cut, float* loss, void* scratch,
                          Stream stream) {
  const Shape& shape = call.shape;
  const int64_t images = shape.images, count = shape.pixels();
  const Layout at = lay_out(shape, scratch);
  SemanticLoss of = call;
  of.stuff = at.stuff;
  cudaGetLastError();  // of somebody else
  launch(keep_classes, 1, stream, *call.stuff, at.stuff);
  launch(find_losses, blocks_for(images * count, block), stream, of, pixels);
  fill_with_zeros(at.bins, images * 3 * cut_bins, stream);
  for (int i = 0; i < 3; ++i) {
    launch(count_digit, images * parts, stream, pixels.loss, count, i, cut, at.bins);
    launch(choose_digit, blocks_for(images, block), stream, images, of.top_k, i, at.bins, at.left, cut);
  }
  launch(count_equal, blocks_for(images * parts, warps_of_block), stream, pixels.loss, images, count, cut, at.equal);
  launch(find_last, blocks_for(images, warps_of_block), stream, pixels.loss, images, count, at.equal, at.left, cut);
  launch(sum_rows, blocks_for(images * shape.height, block), stream, of, pixels, cut, at.row_sum);
  launch(average, blocks_for(images, block), stream, shape, at.row_sum, cut, loss);
  return explain(cudaGetLastError());
}

const char* semantic_loss_backward(const SemanticLossBackward& of, float* out, void* scratch, Stream stream) {
  const Shape& shape = of.of.shape;
  const Layout at = lay_out(shape, scratch);
  cudaGetLastError();  // of somebody else
  launch(keep_classes, 1, stream, *of.of.stuff, at.stuff);
  launch(sum_gradients, shape.images * tiles_of(shape.grid_h) * tiles_of(shape.grid_w), stream, of, at.stuff, out);
  return explain(cudaGetLastError());
}

}  // namespace deeperlab::cuda
