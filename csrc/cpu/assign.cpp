// SPDX-License-Identifier: Apache-2.0
#include "deeperlab/assign.h"

#include <algorithm>

#include "cells.h"
#include "deeperlab/problem.h"
#include "deeperlab/scratch.h"
#include "nearest.h"

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
  const bool agree = corners_agree(nodes.instance, shape.w, first);
  const int32_t common = nodes.instance[int64_t(first.y) * shape.w + first.x];
  for (int i = 0; i < length; ++i) {
    instance[i] = !things.has(label[i]) ? 0
                  : agree ? common
                          : assign_pixel(nodes, things, label[i], pixel_of_run(first, i), shape.stride, shape.w);
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

  // -1 for the lanes whose label is a thing.
  Int thing_lanes(Int own) const {
    Int thing{};
    for (uint32_t rest = all_bits<Int>; rest != 0;) {
      const int32_t next = own[__builtin_ctz(rest)];
      const auto same = equal(own, all<Int>(next));
      thing = choose(same, all<Int>(-int32_t(things.has(next))), thing);
      rest &= ~bits_of(same);
    }
    return thing;
  }

  // As assign_pixel of assign.h.
  void decide(int y, int x) const {
    const int64_t node = int64_t(y) * shape.w + x;
    const int64_t at[4] = {node, node + 1, node + shape.w, node + shape.w + 1};
    const int32_t first = nodes.instance[node];
    bool alike = true;
    for (int i = 1; i < 4; ++i) {
      alike = alike && nodes.instance[at[i]] == first;
    }
    const CellRow rows(shape, y);
    const bool whole = shape.stride == 4 && rows.end - rows.begin == 4 && rows.width_of(shape, x) == 4;
    int32_t own_label[max_cell_pixels], chosen[max_cell_pixels];
    if (!whole) {
      std::fill(own_label, own_label + pixels.padded, 0);
      read_cell(shape, y, x, maps.label, own_label);
    }
    for (int p = 0; p < pixels.padded; p += L::count) {
      Int own;
      if (whole) {
        load_rows(maps.label + int64_t(rows.begin + p / 4) * shape.width + x * 4, shape.width, own);
      } else {
        own = load<Int>(own_label + p);
      }
      const Int thing = thing_lanes(own);
      store(chosen + p, alike ? first & thing : thing & decide_lanes(own, at, p));
    }
    write_cell(shape, y, x, chosen, maps.instance);
  }

  Int decide_lanes(Int own, const int64_t* at, int p) const {
    Int rank[4], weight[4];
    Int best_rank = all<Int>(-1);
    for (int i = 0; i < 4; ++i) {
      weight[i] = load<Int>(pixels.weight[i] + p);
      const int32_t corner = nodes.label[at[i]];
      const int32_t other = nodes.instance[at[i]] == 0 ? -1 : things.has(corner);
      const int32_t same = nodes.instance[at[i]] == 0 ? -1 : 2;
      rank[i] = choose(equal(own, all<Int>(corner)), all<Int>(same), all<Int>(other));
      rank[i] = choose(equal(weight[i], Int{}), all<Int>(-1), rank[i]);
      best_rank = choose(less(best_rank, rank[i]), rank[i], best_rank);
    }
    for (int i = 0; i < 4; ++i) {  // what is not eligible weighs nothing
      weight[i] = choose(equal(rank[i], best_rank) & less(all<Int>(-1), rank[i]), weight[i], Int{});
    }
    Int winner{}, most{};
    Float least{};
    for (int i = 0; i < 4; ++i) {
      Int total{};
      Float distance = all<Float>(infinity);
      const Int candidate = all<Int>(nodes.instance[at[i]]);
      for (int j = 0; j < 4; ++j) {
        if (nodes.instance[at[j]] == nodes.instance[at[i]]) {
          const Float own_distance = all<Float>(nodes.distance[at[j]]);
          total += weight[j];
          distance = choose(less(Int{}, weight[j]) & less(own_distance, distance), own_distance, distance);
        }
      }
      const Int one = all<Int>(1);
      const Int smaller = choose(less(candidate, winner), one, Int{});
      const Int nearer = choose(equal(distance, least), smaller, choose(less(distance, least), one, Int{}));
      const Int better = choose(equal(total, most), nearer, choose(less(most, total), one, Int{}));
      winner = choose(less(Int{}, better), candidate, winner);
      least = choose(less(Int{}, better), distance, least);
      most = choose(less(Int{}, better), total, most);
    }
    return choose(less(Int{}, most), winner, Int{});
  }

  void assign_row(int y) const {
    const int w = shape.w;
    const int32_t* labels = nodes.label + int64_t(y) * w;
    const int32_t* own = nodes.instance + int64_t(y) * w;
    fill_cells(
        shape, y, maps.instance, [&](int x) { return own[x] > 0 && things.has(labels[x]) ? own[x] : 0; },
        [&](Cell first, int length, int32_t* to) {
          assign_run(nodes, things, shape, first, length, maps.label + (to - maps.instance), to);
        });
    if (y == shape.h - 1 || int64_t(y) * shape.stride >= shape.height) {
      return;
    }
    visit_blocks(w - 1, L::count, [&](int64_t x) {
      const uint32_t one_label = alike_cells<L>(labels + x, w), one_instance = alike_cells<L>(own + x, w);
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

  parallel_rows(parallel, shape.images, shape.h, shape.w, [&](int64_t n, int y) {
    const int64_t row = n * shape.nodes() + int64_t(y) * shape.w;
    const int32_t* column = targets.nodes.column + row;
    const int32_t used = targets.nodes.count[n * shape.h + y];
    const Point* predicted = targets.at + targets.nodes.packed(shape, keypoint_count, n, 0, y);
    const int64_t entries = targets.nodes.total(shape, n);
    int32_t* nearest = nodes.instance + row;
    float* least = nodes.distance + row;
    std::fill(nearest, nearest + shape.w, 0);
    std::fill(least, least + shape.w, infinity);
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
      const NearestInstances<decltype(lanes)> search{instances, dimensions};
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
      visit_cells(y, shape.width, shape.stride, shape.h, shape.w, [&](Cell first, int x, int length) {
        assign_run(image, things, shape, first, length, pixels.label + row + x, pixels.instance + row + x);
      });
    });
    return;
  }
  const CellPixels cell(shape.stride);
  parallel_rows(parallel, shape.images, shape.h, shape.w * shape.stride, [&](int64_t n, int y) {
    with_simd(parallel.simd, [&](auto lanes) {
      const NodeMaps image = nodes.image(shape, n);
      const PixelMaps maps = pixels.image(shape, n);
      const CellAssigner<decltype(lanes)> assigner{shape, cell, things, image, maps};
      assigner.assign_row(y);
    });
  });
}

}  // namespace deeperlab::cpu
