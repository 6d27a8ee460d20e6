// SPDX-License-Identifier: Apache-2.0
#include "deeperlab/top_down.h"

#include "class_set.cuh"
#include "deeperlab/problem.h"
#include "deeperlab/scratch.h"
#include "table.cuh"

namespace deeperlab::cuda {
namespace {

using Counters = Table<10>;
constexpr int blocks_of_mask = 64;  // of one image, whatever the mask's size, which the host does not know

struct Layout {
  Things *things, *stuff;
  int32_t* ranked;      // [N, K] detection + 1, best first; 0: none
  int32_t* number;      // [N, K + 1] instances before each
  uint32_t* counted;    // [N, K, 2] px of each mask, and of those in better instances
  int32_t* node_label;  // [N, h, w]
  uint8_t* speaks;      // [N, h, w] of argmax, of no account here
  int64_t bytes;
};

Layout lay_out(const TopDown& of, void* block) {
  Scratch scratch(block);
  const Shape& shape = of.shape;
  const int64_t images = shape.images, all = images * of.detections;
  Layout at{};
  at.things = scratch.take<Things>(1);
  at.stuff = scratch.take<Things>(1);
  at.ranked = scratch.take<int32_t>(all);
  at.number = scratch.take<int32_t>(all + images);
  at.counted = scratch.take<uint32_t>(2 * all);
  at.node_label = scratch.take<int32_t>(images * shape.nodes());
  at.speaks = scratch.take<uint8_t>(images * shape.nodes());
  at.bytes = scratch.bytes();
  return at;
}

// One detection a thread: how many come before it.
__global__ void rank_detections(TopDown of, Layout at) {
  const int64_t i = thread_index(), n = i / (of.detections > 0 ? of.detections : 1);
  if (n >= of.shape.images || !is_candidate(of, n, int(i % of.detections))) {
    return;
  }
  const int k = int(i % of.detections);
  const float* const score = of.score + n * of.detections;
  int32_t rank = 0;
  for (int j = 0; j < of.detections; ++j) {
    const bool before = score[j] > score[k] || (score[j] == score[k] && j < k);
    rank += before && is_candidate(of, n, j);
  }
  at.ranked[n * of.detections + rank] = k + 1;
}

// The places of all images, before any is taken.
__global__ void clear_places(TopDown of, Panoptic out) {
  const int64_t i = thread_index();
  if (i < int64_t(of.shape.images) * of.room) {
    out.found.score[i] = 0.0f;
    out.category[i] = -1;
    out.area[i] = 0;
  }
  if (i < of.shape.images) {
    out.found.truncated[i] = false;
  }
}

// visit(pixel) for the pixels of a mask that this thread looks at; blocks_of_mask blocks an image.
template <class T, class Visit>
__device__ void visit_mask(const TopDown& of, int64_t n, int k, const Visit& visit) {
  const PasteArea area = paste_area(of, n, k);
  const int64_t rows = area.rows.end - area.rows.begin, columns = area.columns.end - area.columns.begin;
  const Plane<T> mask = of.mask.plane<T>(n, k);
  const int64_t first = (blockIdx.x % blocks_of_mask) * int64_t(block) + threadIdx.x;
  for (int64_t i = first; i < rows * columns; i += int64_t(blocks_of_mask) * block) {
    const int y = area.rows.begin + int(i / columns), x = area.columns.begin + int(i % columns);
    if (is_in_mask(of, area, mask, y, x)) {
      visit((n * of.shape.height + y) * of.shape.width + x);
    }
  }
}

// The pixels of the mask of rank `rank` in every image.
template <class T>
__global__ void count_mask(TopDown of, Layout at, const int32_t* instance, int rank) {
  const int64_t n = blockIdx.x / blocks_of_mask, place = n * of.detections + rank;
  const int k = at.ranked[place] - 1;
  int64_t area = 0, overlap = 0;
  if (k >= 0) {
    visit_mask<T>(of, n, k, [&](int64_t pixel) {
      ++area;
      overlap += instance[pixel] > 0;
    });
  }
  area = sum_warp(area);
  overlap = sum_warp(overlap);
  if (lane_index() == 0 && area > 0) {
    atomicAdd(at.counted + 2 * place, uint32_t(area));
    atomicAdd(at.counted + 2 * place + 1, uint32_t(overlap));
  }
}

// Once it is counted. Every block decides alike; the first of an image tells what it has decided.
template <class T>
__global__ void paint_mask(TopDown of, Layout at, Panoptic out, int rank) {
  const int64_t n = blockIdx.x / blocks_of_mask, place = n * of.detections + rank;
  const int k = at.ranked[place] - 1;
  const int64_t area = at.counted[2 * place], overlap = at.counted[2 * place + 1];
  int32_t* const number = at.number + n * (of.detections + 1) + rank;
  const int32_t before = number[0];
  const bool fits = k >= 0 && is_accepted(area, overlap, of.overlap_threshold), accepted = fits && before < of.room;
  if (blockIdx.x % blocks_of_mask == 0 && threadIdx.x == 0) {
    number[1] = before + accepted;
    if (accepted) {
      const int64_t to = n * of.room + before;
      out.found.score[to] = of.score[n * of.detections + k];
      out.area[to] = int32_t(area - overlap);
      out.category[to] = area > overlap ? of.label[n * of.detections + k] : -1;
    } else if (fits) {
      out.found.truncated[n] = true;
    }
  }
  if (accepted) {
    visit_mask<T>(of, n, k, [&](int64_t pixel) {
      if (out.instance[pixel] == 0) {
        out.instance[pixel] = before + 1;
      }
    });
  }
}

// One pixel a thread, all of a block in one image: the class of an instance, or its own label, where that is stuff.
__global__ void write_classes(TopDown of, Layout at, Panoptic out) {
  __shared__ Counters table;
  const int64_t plane = of.shape.pixels(), blocks = (plane + block - 1) / block, n = blockIdx.x / blocks;
  const int64_t i = (blockIdx.x % blocks) * block + threadIdx.x, pixel = n * plane + i;
  const auto add = [&](uint32_t label, uint32_t pixels) {
    atomicAdd(out.class_area + n * of.shape.classes + label, int32_t(pixels));
  };
  table.clear();
  __syncthreads();
  if (i < plane) {
    const int32_t number = out.instance[pixel], label = out.semantic[pixel];
    const bool fills = number == 0 && at.stuff->has(label);
    out.semantic[pixel] = number > 0 ? out.category[n * of.room + number - 1] : fills ? label : -1;
    table.add(uint32_t(fills ? label : 0), fills, add);
  }
  __syncthreads();
  table.flush(add);
  if (i == 0) {
    out.found.count[n] = at.number[n * (of.detections + 1) + of.detections];
  }
}

__global__ void drop_small_stuff(TopDown of, Panoptic out) {
  const int64_t i = thread_index(), plane = of.shape.pixels(), n = i / plane;
  if (n < of.shape.images && out.instance[i] == 0 && out.semantic[i] >= 0 &&
      out.class_area[n * of.shape.classes + out.semantic[i]] < of.stuff_area) {
    out.semantic[i] = -1;
  }
}

__global__ void drop_small_areas(TopDown of, Panoptic out) {
  const int64_t i = thread_index();
  if (i < int64_t(of.shape.images) * of.shape.classes && out.class_area[i] < of.stuff_area) {
    out.class_area[i] = 0;
  }
}

}  // namespace

int64_t top_down_scratch_bytes(const TopDown& of) { return lay_out(of, nullptr).bytes; }

const char* top_down(const TopDown& call, const Panoptic& out, void* scratch, Stream stream) {
  const Layout at = lay_out(call, scratch);
  const Shape& shape = call.shape;
  const int64_t images = shape.images, all = images * call.detections, pixels = images * shape.pixels();
  TopDown of = call;
  of.things = at.things;
  of.stuff = at.stuff;
  Problem problem{};
  problem.shape = shape;
  problem.things = at.things;

  cudaGetLastError();  // of somebody else
  launch(keep_classes, 1, stream, *call.things, at.things);
  launch(keep_classes, 1, stream, *call.stuff, at.stuff);
  argmax(of.semantic, problem, {at.node_label, nullptr, nullptr, true}, out.semantic, at.speaks, stream);
  fill_with_zeros(out.instance, pixels, stream);
  fill_with_zeros(out.class_area, images * shape.classes, stream);
  fill_with_zeros(at.ranked, all, stream);
  fill_with_zeros(at.number, all + images, stream);
  fill_with_zeros(at.counted, 2 * all, stream);
  launch(clear_places, blocks_for(images * of.room, block), stream, of, out);
  if (all > 0) {
    launch(rank_detections, blocks_for(all, block), stream, of, at);
  }
  for (int rank = 0; rank < of.detections; ++rank) {
    const int64_t blocks = images * blocks_of_mask;
    launch(of.side == 0 ? count_mask<uint8_t> : count_mask<AnyFloat>, blocks, stream, of, at, out.instance, rank);
    launch(of.side == 0 ? paint_mask<uint8_t> : paint_mask<AnyFloat>, blocks, stream, of, at, out, rank);
  }
  launch(write_classes, images * blocks_for(shape.pixels(), block), stream, of, at, out);
  launch(drop_small_stuff, blocks_for(pixels, block), stream, of, out);
  launch(drop_small_areas, blocks_for(images * shape.classes, block), stream, of, out);
  return explain(cudaGetLastError());
}

}  // namespace deeperlab::cuda
