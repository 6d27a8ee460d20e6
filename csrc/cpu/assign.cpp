// SPDX-License-Identifier: Apache-2.0
#include "deeperlab/assign.h"

#include <algorithm>

#include "cells.h"
#include "deeperlab/problem.h"
#include "deeperlab/scratch.h"
#include "assign_fast.h"

namespace deeperlab::cpu {
namespace {

// The plain form.

// Nearest of the instances to the node whose predictions are predicted[0], predicted[plane], …; 0 and +inf: none.
void find_nearest(const Point* predicted, int64_t plane, const Point* keypoints, int32_t count, int keypoint_count,
                  const AssignParams& params, int32_t& instance, float& distance) {
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

void assign_run(const NodeMaps& nodes, const Things& things, const Shape& shape, Cell first, int length,
                const int32_t* label, int32_t* instance) {
  // Where all corners have one instance, whichever of them are eligible have it too.
  const bool agree = corners_agree(nodes.instance, shape.grid_w, first);
  const int32_t common = nodes.instance[int64_t(first.y) * shape.grid_w + first.x];
  for (int i = 0; i < length; ++i) {
    instance[i] = !things.has(label[i]) ? 0
                  : agree ? common
                          : assign_pixel(nodes, things, label[i], pixel_of_run(first, i), shape.stride, shape.grid_w);
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
  const NodeMaps& nodes;  // [h, w]
  const PixelMaps& maps;  // [H, W]

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
    const int64_t node = int64_t(y) * shape.grid_w + x;
    const CellCorners corners =
        cell_corners(nodes, things, {node, node + 1, node + shape.grid_w, node + shape.grid_w + 1});
    const int32_t first = corners.instance[0];
    const bool alike = corners.instance[1] == first && corners.instance[2] == first && corners.instance[3] == first;
    const CellRow rows(shape, y);
    const bool in_place = shape.stride == 4 && rows.end - rows.begin == 4 && rows.width_of(shape, x) == 4;
    int32_t pixel_label[max_cell_pixels], chosen[max_cell_pixels];
    if (!in_place) {
      std::fill(pixel_label, pixel_label + pixels.padded, 0);
      read_cell(shape, y, x, maps.label, pixel_label);
    }
    for (int p = 0; p < pixels.padded; p += L::count) {
      Int labels;
      if (in_place) {
        load_rows(maps.label + int64_t(rows.begin + p / 4) * shape.width + x * 4, shape.width, labels);
      } else {
        labels = load<Int>(pixel_label + p);
      }
      const Int weight[4] = {load<Int>(pixels.weight[0] + p), load<Int>(pixels.weight[1] + p),
                             load<Int>(pixels.weight[2] + p), load<Int>(pixels.weight[3] + p)};
      store(chosen + p, of_things(labels, alike ? broadcast<Int>(first) : choose_instance(corners, labels, weight)));
    }
    write_cell(shape, y, x, chosen, maps.instance);
  }

  void assign_row(int y) const {
    const int w = shape.grid_w;
    const int32_t* labels = nodes.label + int64_t(y) * w;
    const int32_t* instances = nodes.instance + int64_t(y) * w;
    fill_cells(
        shape, y, maps.instance, [&](int x) { return instances[x] > 0 && things.has(labels[x]) ? instances[x] : 0; },
        [&](Cell first, int length, int32_t* to) {
          assign_run(nodes, things, shape, first, length, maps.label + (to - maps.instance), to);
        });
    if (y == shape.grid_h - 1 || int64_t(y) * shape.stride >= shape.height) {
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

Layout lay_out(const Problem& problem, void* block) {
  Scratch scratch(block);
  const int64_t room = whole_vectors(problem.params.max_instances);
  float* coordinates = scratch.take<float>(int64_t(problem.shape.images) * 2 * problem.keypoints() * room);
  return {coordinates, room, scratch.bytes()};
}

}  // namespace

int64_t assign_scratch_bytes(const Problem& problem) { return lay_out(problem, nullptr).bytes; }

void assign(const Targets& targets, const Instances& found, const Problem& problem, const NodeMaps& nodes,
            const PixelMaps& pixels, void* scratch, const Parallel& parallel) {
  const Shape& shape = problem.shape;
  const Params& params = problem.params;
  const Things& things = *problem.things;
  const Layout layout = lay_out(problem, scratch);
  const int keypoint_count = problem.keypoints(), dimensions = 2 * keypoint_count;

  parallel_for(parallel, int64_t(shape.images) * dimensions, 64, [&](int64_t task) {
    const int64_t n = task / dimensions, d = task % dimensions;
    const Point* from = found.keypoints + n * params.max_instances * keypoint_count + d / 2;
    float* to = layout.coordinates + task * layout.room;
    for (int32_t j = 0; j < found.count[n]; ++j) {
      const Point point = from[int64_t(j) * keypoint_count];
      to[j] = d % 2 == 0 ? point.x : point.y;
    }
    const int64_t end = whole_vectors(found.count[n]);
    std::fill(to + found.count[n], to + end, infinity);
  });

  parallel_rows(parallel, shape.images, shape.grid_h, shape.grid_w, [&](int64_t n, int y) {
    const int64_t row = n * shape.nodes() + int64_t(y) * shape.grid_w;
    const int32_t* column = targets.nodes.column + row;
    const int32_t used = targets.nodes.count[n * shape.grid_h + y];
    const Point* predicted = targets.at + targets.nodes.packed(shape, keypoint_count, n, 0, y);
    const int64_t entries = targets.nodes.total(shape, n);
    int32_t* nearest = nodes.instance + row;
    float* least = nodes.distance + row;
    std::fill(nearest, nearest + shape.grid_w, 0);
    std::fill(least, least + shape.grid_w, infinity);
    if (parallel.simd == Simd::plain) {
      const Point* keypoints = found.keypoints + n * params.max_instances * keypoint_count;
      for (int32_t i = 0; i < used; ++i) {
        find_nearest(predicted + i, entries, keypoints, found.count[n], keypoint_count, params, nearest[column[i]],
                     least[column[i]]);
      }
      return;
    }
    const InstanceColumns instances{layout.coordinates + n * dimensions * layout.room, layout.room, found.count[n]};
    with_simd(parallel.simd, [&](auto lanes) {
      const NearestInstances<decltype(lanes)> search{instances, keypoint_count};
      int32_t last = -1;
      for (int32_t i = 0, length = 0; i < used; i += length) {
        length = 1;  // a strip ends where nodes are left out: what comes after it often is another instance's
        while (length < std::min(strip, used - i) && column[i + length] == column[i] + length) {
          ++length;
        }
        Strip at;
        int32_t instance[strip];
        float distance[strip];
        const bool bounded = search.read(predicted + i, entries, length, at);
        search.find(at, bounded, instance, distance, last);
        for (int e = 0; e < length; ++e) {
          const bool near = distance[e] <= params.max_distance2;
          nearest[column[i + e]] = near ? instance[e] : 0;
          least[column[i + e]] = near ? distance[e] : infinity;
        }
      }
    });
  });

  if (parallel.simd == Simd::plain || !nodes.rule_pixels || !has_fast_cells(shape)) {
    parallel_rows(parallel, shape.images, shape.height, shape.width, [&](int64_t n, int y) {
      const int64_t row = (n * shape.height + y) * shape.width;
      const NodeMaps image = nodes.image(shape, n);
      visit_cells(y, shape.width, shape.stride, shape.grid_h, shape.grid_w, [&](Cell first, int x, int length) {
        assign_run(image, things, shape, first, length, pixels.label + row + x, pixels.instance + row + x);
      });
    });
    return;
  }
  const CellPixels cell(shape.stride);
  parallel_rows(parallel, shape.images, shape.grid_h, shape.grid_w * shape.stride, [&](int64_t n, int y) {
    with_simd(parallel.simd, [&](auto lanes) {
      const NodeMaps image = nodes.image(shape, n);
      const PixelMaps maps = pixels.image(shape, n);
      const CellAssigner<decltype(lanes)> assigner{shape, cell, things, image, maps};
      assigner.assign_row(y);
    });
  });
}

}  // namespace deeperlab::cpu
