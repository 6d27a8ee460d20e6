// SPDX-License-Identifier: Apache-2.0
#include "deeperlab/assign.h"

#include <algorithm>

#include "cells.h"
#include "deeperlab/scratch.h"
#include "nearest.h"
#include "nodes.h"

namespace deeperlab::cpu {
namespace {

// The plain form.

// Nearest of the instances to the node whose predictions are predicted[0], predicted[plane], …; 0 and +inf: none.
void find_nearest(const Point* predicted, int64_t plane, const Point* keypoints, int32_t count, int keypoint_count,
                  const Params& params, int32_t& instance, float& distance) {
  instance = 0;
  distance = infinity;
  for (int32_t j = 0; j < count; ++j) {
    float sum = 0.0f;
    for (int k = 0; k < keypoint_count; ++k) {
      sum = add_distance(sum, predicted[k * plane], keypoints[int64_t(j) * keypoint_count + k]);
    }
    if (sum < distance && sum <= params.max_distance2) {  // false for NaN
      instance = j + 1;
      distance = sum;
    }
  }
}

void assign_run(const int32_t* node_label, const int32_t* node_instance, const float* node_distance,
                const Things& things, const Shape& shape, Cell first, int length, const int32_t* label,
                int32_t* instance) {
  // Where all corners have one instance, whichever of them are eligible have it too.
  const bool agree = corners_agree(node_instance, shape.w, first);
  const int32_t common = node_instance[int64_t(first.y) * shape.w + first.x];
  for (int i = 0; i < length; ++i) {
    instance[i] = !things.has(label[i]) ? 0
                  : agree               ? common
                                        : assign_pixel(node_label, node_instance, node_distance, things, label[i],
                                                       pixel_of_run(first, i), shape.stride, shape.w);
  }
}

// The fast form for pixels, where those of a cell whose corners carry one label have it too. Such a cell whose corners
// have one instance is filled. In the others all pixels are decided side by side.

template <class L>
struct CellAssigner {
  using Float = typename L::Float;
  using Int = typename L::Int;

  const Shape& shape;
  const CellPixels& pixels;
  const Things& things;
  const int32_t* node_label;
  const int32_t* node_instance;
  const float* node_distance;
  const int32_t* label;
  int32_t* instance;

  // `instance` where a label is a thing, 0 elsewhere.
  Int of_things(const Int& labels, const Int& chosen) const {
    Int out{};
    for (uint32_t rest = all_bits<Int>; rest != 0;) {
      const int32_t next = labels[__builtin_ctz(rest)];
      const auto same = equal(labels, broadcast<Int>(next));
      out = things.has(next) ? select(same, chosen, out) : out;
      rest &= ~bits_of(same);
    }
    return out;
  }

  void decide(int y, int x) const {
    const int64_t node = int64_t(y) * shape.w + x;
    const CellCorners corners = cell_corners(node_label, node_instance, node_distance, things,
                                             {node, node + 1, node + shape.w, node + shape.w + 1});
    const int32_t first = corners.instance[0];
    const bool alike = corners.instance[1] == first && corners.instance[2] == first && corners.instance[3] == first;
    const CellRow rows(shape, y);
    const bool in_place = shape.stride == 4 && rows.end - rows.begin == 4 && rows.width_of(shape, x) == 4;
    int32_t pixel_label[max_cell_pixels], chosen[max_cell_pixels];
    if (!in_place) {
      std::fill(pixel_label, pixel_label + pixels.padded, 0);
      read_cell(shape, y, x, label, pixel_label);
    }
    for (int p = 0; p < pixels.padded; p += L::count) {
      Int labels;
      if (in_place) {
        load_rows(label + int64_t(rows.begin + p / 4) * shape.width + x * 4, shape.width, labels);
      } else {
        labels = load<Int>(pixel_label + p);
      }
      const Int weight[4] = {load<Int>(pixels.weight[0] + p), load<Int>(pixels.weight[1] + p),
                             load<Int>(pixels.weight[2] + p), load<Int>(pixels.weight[3] + p)};
      store(chosen + p, of_things(labels, alike ? broadcast<Int>(first) : choose_instance(corners, labels, weight)));
    }
    write_cell(shape, y, x, chosen, instance);
  }

  void assign_row(int y) const {
    const int w = shape.w;
    const int32_t* labels = node_label + int64_t(y) * w;
    const int32_t* instances = node_instance + int64_t(y) * w;
    fill_cells(
        shape, y, instance, [&](int x) { return instances[x] > 0 && things.has(labels[x]) ? instances[x] : 0; },
        [&](Cell first, int length, int32_t* to) {
          assign_run(node_label, node_instance, node_distance, things, shape, first, length, label + (to - instance),
                     to);
        });
    if (y == shape.h - 1 || int64_t(y) * shape.stride >= shape.height) {
      return;
    }
    visit_blocks(w - 1, L::count, [&](int64_t x) {
      const uint32_t one_label = alike_cells<L>(labels + x, w), one_instance = alike_cells<L>(instances + x, w);
      visit_bits(all_bits<Int> & ~(one_label & one_instance), [&](int i) {
        if (!(one_label >> i & 1u) || things.has(labels[x + i])) {
          decide(y, int(x) + i);
        }
      });
    });
  }
};

struct Layout {
  float* coordinates;  // [N, 2P, room] of the instances
  int64_t room;
  int64_t bytes;
};

Layout lay_out(const Shape& shape, int keypoint_count, const Params& params, void* block) {
  Scratch scratch(block);
  const int64_t room = whole_vectors(params.max_instances);
  float* coordinates = scratch.take<float>(int64_t(shape.images) * 2 * keypoint_count * room);
  return {coordinates, room, scratch.bytes()};
}

}  // namespace

int64_t assign_scratch_bytes(const Shape& shape, int keypoint_count, const Params& params) {
  return lay_out(shape, keypoint_count, params, nullptr).bytes;
}

void assign(const Point* target, const Nodes& nodes, const int32_t* node_label, const int32_t* label,
            bool label_of_nodes, const Point* keypoints, const int32_t* count, const Things& things, const Shape& shape,
            int keypoint_count, const Params& params, int32_t* node_instance, float* node_distance, int32_t* instance,
            void* scratch, const Parallel& parallel) {
  const int64_t plane = int64_t(shape.h) * shape.w, pixels = int64_t(shape.height) * shape.width;
  const Layout layout = lay_out(shape, keypoint_count, params, scratch);
  const int dimensions = 2 * keypoint_count;

  parallel_for(parallel, int64_t(shape.images) * dimensions, 64, [&](int64_t task) {
    const int64_t n = task / dimensions, d = task % dimensions;
    const Point* from = keypoints + n * params.max_instances * keypoint_count + d / 2;
    float* to = layout.coordinates + task * layout.room;
    for (int32_t j = 0; j < count[n]; ++j) {
      const Point point = from[int64_t(j) * keypoint_count];
      to[j] = d % 2 == 0 ? point.x : point.y;
    }
    const int64_t end = whole_vectors(count[n]);
    std::fill(to + count[n], to + end, infinity);
  });

  parallel_rows(parallel, shape.images, shape.h, shape.w, [&](int64_t n, int y) {
    const int64_t row = n * plane + int64_t(y) * shape.w;
    const int32_t* column = nodes.column + row;
    const int32_t used = nodes.count[n * shape.h + y];
    const Point* targets = target + nodes.packed(shape, keypoint_count, n, 0, y);
    const int64_t entries = nodes.total(shape, n);
    int32_t* nearest = node_instance + row;
    float* least = node_distance + row;
    std::fill(nearest, nearest + shape.w, 0);
    std::fill(least, least + shape.w, infinity);
    if (parallel.simd == Simd::plain) {
      const Point* found = keypoints + n * params.max_instances * keypoint_count;
      for (int32_t i = 0; i < used; ++i) {
        find_nearest(targets + i, entries, found, count[n], keypoint_count, params, nearest[column[i]],
                     least[column[i]]);
      }
      return;
    }
    const InstanceColumns instances{layout.coordinates + n * dimensions * layout.room, layout.room, count[n]};
    with_simd(parallel.simd, [&](auto lanes) {
      const NearestInstances<decltype(lanes)> search{instances, keypoint_count};
      int32_t last = -1;
      for (int32_t i = 0, length = 0; i < used; i += length) {
        length = 1;  // a strip ends where nodes are left out: what comes after it often is another instance's
        while (length < std::min(strip, used - i) && column[i + length] == column[i] + length) {
          ++length;
        }
        Strip at;
        int32_t found[strip];
        float distance[strip];
        const bool bounded = search.read(targets + i, entries, length, at);
        search.find(at, bounded, found, distance, last);
        for (int e = 0; e < length; ++e) {
          const bool near = distance[e] <= params.max_distance2;
          nearest[column[i + e]] = near ? found[e] : 0;
          least[column[i + e]] = near ? distance[e] : infinity;
        }
      }
    });
  });

  if (parallel.simd == Simd::plain || !label_of_nodes || !has_fast_cells(shape)) {
    parallel_rows(parallel, shape.images, shape.height, shape.width, [&](int64_t n, int y) {
      const int64_t row = (n * shape.height + y) * shape.width;
      visit_cells(y, shape.width, shape.stride, shape.h, shape.w, [&](Cell first, int x, int length) {
        assign_run(node_label + n * plane, node_instance + n * plane, node_distance + n * plane, things, shape, first,
                   length, label + row + x, instance + row + x);
      });
    });
    return;
  }
  const CellPixels cell(shape.stride);
  parallel_rows(parallel, shape.images, shape.h, shape.w * shape.stride, [&](int64_t n, int y) {
    with_simd(parallel.simd, [&](auto lanes) {
      const CellAssigner<decltype(lanes)> assigner{shape,
                                                   cell,
                                                   things,
                                                   node_label + n * plane,
                                                   node_instance + n * plane,
                                                   node_distance + n * plane,
                                                   label + n * pixels,
                                                   instance + n * pixels};
      assigner.assign_row(y);
    });
  });
}

}  // namespace deeperlab::cpu
