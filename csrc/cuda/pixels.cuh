// SPDX-License-Identifier: Apache-2.0
// The last part of assign, for pixels, and what merge does with them, in one pass over the images.
#pragma once

#include "deeperlab/assign.h"
#include "table.cuh"

namespace deeperlab::cuda {

constexpr int run = 8;  // neighboring pixels of a thread, which mostly count for the same
using Counters = Table<10>;

struct alignas(16) Four {
  int32_t value[4];
};

// What the pixels of all images are made from and become.
struct Maps {
  const int32_t *node_label, *node_instance;  // [N, h, w]
  const float* node_distance;                 // [N, h, w]
  int32_t *semantic, *instance;               // [N, H, W]; semantic: labels at first
  const int32_t* category;                    // [N, M]
  int32_t *area, *class_area;                 // [N, M], [N, C]
  int32_t *ballots, *late;
};

// The instance of a pixel with a thing's label.
__device__ inline int32_t instance_of(const Maps& maps, const Shape& shape, const Things& things, int64_t n, int y,
                                      int x, int32_t label) {
  const int64_t nodes = n * shape.h * shape.w;
  const Cell cell = cell_of_pixel(y, x, shape.stride, shape.h, shape.w);
  if (corners_agree(maps.node_instance + nodes, shape.w, cell)) {
    return maps.node_instance[nodes + int64_t(cell.y) * shape.w + cell.x];
  }
  return assign_pixel(maps.node_label + nodes, maps.node_instance + nodes, maps.node_distance + nodes, things, label,
                      cell, shape.stride, shape.w);
}

// A run of neighbors a thread, rows and images one after the other: their instances, classes and areas.
static __global__ void write_pixels(Maps maps, const Things* things, Shape shape, Params params) {
  __shared__ Counters table;
  const int64_t plane = int64_t(shape.height) * shape.width, total = plane * shape.images;
  const int64_t first = thread_index() * run, places = params.max_instances;
  const int64_t first_image = int64_t(blockIdx.x) * block * run / plane;
  table.clear();
  __syncthreads();

  // Counters of an image: the areas of the instances, then those of the classes.
  const auto add = [&](int64_t n, uint32_t key, uint32_t pixels) {
    atomicAdd(key < places ? maps.area + n * places + key : maps.class_area + n * shape.classes + (key - places),
              int32_t(pixels));
  };
  const auto add_to_first = [&](uint32_t key, uint32_t pixels) { add(first_image, key, pixels); };
  const int length = int(total - first < run ? total - first : run);
  if (length > 0) {
    alignas(16) int32_t semantic[run], instance[run];
    if (length == run) {
      for (int i = 0; i < run; i += 4) {
        *reinterpret_cast<Four*>(semantic + i) = *reinterpret_cast<const Four*>(maps.semantic + first + i);
      }
    } else {
      for (int i = 0; i < length; ++i) {
        semantic[i] = maps.semantic[first + i];
      }
    }
    int64_t n = first / plane;
    int y = int(first % plane / shape.width), x = int(first % plane % shape.width);
    uint32_t key = 0, pixels = 0;  // of the neighbors counted together
    const auto count = [&] {
      if (n == first_image) {
        table.add(key, pixels, add_to_first);
      } else if (pixels > 0) {
        add(n, key, pixels);
      }
      pixels = 0;
    };
    for (int i = 0; i < run; ++i) {
      if (i >= length) {
        break;
      }
      const int32_t label = semantic[i];
      const int32_t j = things->has(label) ? instance_of(maps, shape, *things, n, y, x, label) : 0;
      instance[i] = j;
      if (j > 0 || label >= 0) {
        const uint32_t next = j > 0 ? uint32_t(j - 1) : uint32_t(places + label);
        if (next != key) {
          count();
        }
        key = next;
        ++pixels;
      }
      if (j > 0) {
        const int32_t decided = maps.category[n * places + j - 1];
        semantic[i] = decided >= 0 ? decided : label;
        if (decided < 0) {
          *maps.late = 1;
          atomicAdd(maps.ballots + (n * (places + 1) + j) * shape.classes + label, 1);
        }
      }
      if (++x == shape.width) {
        x = 0;
        if (++y == shape.height) {
          count();
          y = 0;
          ++n;
        }
      }
    }
    if (pixels > 0) {  // n may be past the last image where nothing is left to count
      count();
    }
    if (length == run) {
      for (int i = 0; i < run; i += 4) {
        *reinterpret_cast<Four*>(maps.semantic + first + i) = *reinterpret_cast<const Four*>(semantic + i);
        *reinterpret_cast<Four*>(maps.instance + first + i) = *reinterpret_cast<const Four*>(instance + i);
      }
    } else {
      for (int i = 0; i < length; ++i) {
        maps.semantic[first + i] = semantic[i];
        maps.instance[first + i] = instance[i];
      }
    }
  }
  __syncthreads();
  table.flush(add_to_first);
}

}  // namespace deeperlab::cuda
