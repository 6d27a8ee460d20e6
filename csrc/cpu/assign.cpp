// SPDX-License-Identifier: Apache-2.0
#include "deeperlab/assign.h"

#include <algorithm>
#include <limits>

#include "cells.h"
#include "deeperlab/scratch.h"
#include "lanes.h"
#include "nodes.h"

namespace deeperlab::cpu {
namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();

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

// The fast form for nodes. A strip of neighbours lies in a box, one interval for each coordinate of each keypoint.
// Every distance from the strip to an instance is bounded by those of the box, computed by the same operations:
// rounding is monotonic, so the bounds hold for the floats themselves, and an instance is left out only if another is
// nearer to every node. What is left is nearly independent of the number of instances.

constexpr int strip = 16;  // nodes: the wider, the looser the bounds
constexpr int widest = 16;

// Strips and instances are kept coordinate by coordinate: x of keypoint 0, y of keypoint 0, x of keypoint 1, …
struct Strip {
  float at[2 * max_keypoints][strip];  // px
  float low[2 * max_keypoints], high[2 * max_keypoints];
};

struct Instances {
  const float* coordinates;  // [2P, room] px, infinite past the last
  int64_t room;              // max_instances, in whole vectors
  int32_t count;
};

template <class L>
struct NearestInstances {
  using Float = typename L::Float;
  using Int = typename L::Int;

  const Instances& instances;
  int dimensions;  // 2P

  // The predictions of `used` entries, target[k · plane + i]; the rest of the strip repeats the first of them.
  // False: some are not finite, and no box holds them.
  bool read(const Point* target, int64_t plane, int used, Strip& nodes) const {
    Float sum{};  // of 0 · x: NaN where any coordinate is not finite
    for (int d = 0; d < dimensions; d += 2) {
      const Point* from = target + d / 2 * plane;
      Point padded[strip];
      if (used < strip) {
        std::fill(std::copy(from, from + used, padded), padded + strip, *from);
        from = padded;
      }
      Float low[2], high[2];
      for (int i = 0; i < strip; i += L::count) {
        const Float a = load<Float>(from + i), b = load<Float>(from + i + L::count / 2);
        const Float value[2] = {even_lanes(a, b), odd_lanes(a, b)};
        for (int c = 0; c < 2; ++c) {
          low[c] = i == 0 ? value[c] : choose(less(value[c], low[c]), value[c], low[c]);
          high[c] = i == 0 ? value[c] : choose(less(high[c], value[c]), value[c], high[c]);
          sum += value[c] * 0.0f;
          store(nodes.at[d + c] + i, value[c]);
        }
      }
      for (int c = 0; c < 2; ++c) {
        nodes.low[d + c] = reduce(low[c], [](float x, float y) { return x < y ? x : y; });
        nodes.high[d + c] = reduce(high[c], [](float x, float y) { return x > y ? x : y; });
      }
    }
    return reduce(sum, [](float x, float y) { return x + y; }) == 0.0f;
  }

  template <class Combine>
  static float reduce(Float values, const Combine& combine) {
    float result = values[0];
    for (int i = 1; i < L::count; ++i) {
      result = combine(result, values[i]);
    }
    return result;
  }

  Float coordinate(int d, int32_t j) const { return load<Float>(instances.coordinates + d * instances.room + j); }

  // Least and greatest distance of instances j … from anything in the box of the strip, counting coordinates from d on.
  Float least_distance(const Strip& nodes, int32_t j, int d) const {
    Float sum{};
    for (; d < dimensions; d += 2) {
      Float square[2];
      for (int c = 0; c < 2; ++c) {
        const Float at = coordinate(d + c, j), under = nodes.low[d + c] - at, over = at - nodes.high[d + c];
        const Float distance = max_lanes(max_lanes(under, over), Float{});
        square[c] = distance * distance;
      }
      sum = sum + (square[0] + square[1]);
    }
    return sum;
  }

  Float greatest_distance(const Strip& nodes, int32_t j) const {
    Float sum{};
    for (int d = 0; d < dimensions; d += 2) {
      Float square[2];
      for (int c = 0; c < 2; ++c) {
        const Float at = coordinate(d + c, j);
        const Float distance = max_lanes(at - nodes.low[d + c], nodes.high[d + c] - at);
        square[c] = distance * distance;
      }
      sum = sum + (square[0] + square[1]);
    }
    return sum;
  }

  // Calls visit(j, lanes) for the instances that may lie within `limit` of the strip. The last keypoint alone (the mass
  // centre) rules out most: what it adds is part of the sum, which no other term makes less.
  template <class Visit>
  void visit_within(const Strip& nodes, const float& limit, const Visit& visit) const {
    for (int32_t j = 0; j < instances.count; j += L::count) {
      uint32_t left = (2u << std::min(instances.count - j - 1, L::count - 1)) - 1;
      left &= ~bits_of(less(all<Float>(limit), least_distance(nodes, j, dimensions - 2)));  // NaN stays
      if (left != 0) {
        left &= ~bits_of(less(all<Float>(limit), least_distance(nodes, j, 0)));
      }
      if (left != 0) {
        visit(j, left);
      }
    }
  }

  // What keypoint d / 2 adds to the distances of nodes i … from instance j.
  Float square(const Strip& nodes, int i, int32_t j, int d) const {
    const Float dx = load<Float>(nodes.at[d] + i) - instances.coordinates[d * instances.room + j];
    const Float dy = load<Float>(nodes.at[d + 1] + i) - instances.coordinates[(d + 1) * instances.room + j];
    return dx * dx + dy * dy;
  }

  Float distance_of(const Strip& nodes, int i, int32_t j) const {
    Float sum{};
    for (int d = 0; d < dimensions; d += 2) {
      sum = sum + square(nodes, i, j, d);
    }
    return sum;
  }

  // enough: distances that others are known to have; what exceeds them by its last term alone is not looked at further.
  void offer(const Strip& nodes, int32_t j, const float* enough, int32_t* instance, float* distance) const {
    for (int i = 0; i < strip; i += L::count) {
      const Float least = load<Float>(distance + i), limit = min_lanes(least, load<Float>(enough + i));
      if (bits_of(less_equal(square(nodes, i, j, dimensions - 2), limit)) != 0) {
        const Float sum = distance_of(nodes, i, j);
        store(instance + i, choose(less(sum, least), all<Int>(j + 1), load<Int>(instance + i)));
        store(distance + i, choose(less(sum, least), sum, least));
      }
    }
  }

  // Nearest instance of every node of a strip; 0 and +inf: none. `last` is one that was near the strip before, or -1.
  void find(const Strip& nodes, bool bounded, int32_t* instance, float* distance, int32_t& last) const {
    std::fill(instance, instance + strip, 0);
    std::fill(distance, distance + strip, infinity);
    float limit = infinity;  // no node is farther from its nearest instance
    float enough[strip];
    for (int i = 0; i < strip; i += L::count) {
      store(enough + i, last < 0 ? all<Float>(infinity) : number_or_infinity(distance_of(nodes, i, last)));
    }
    const auto tighten = [&](int32_t j) {
      limit = std::min(limit, least_lane(number_or_infinity(greatest_distance(nodes, j))));
    };
    if (bounded && last >= 0) {
      tighten(last / L::count * L::count);
    }
    visit_within(nodes, limit, [&](int32_t j, uint32_t left) {
      if (bounded) {
        tighten(j);
      }
      visit_bits(left, [&](int i) { offer(nodes, j + i, enough, instance, distance); });
    });
    last = instance[0] - 1;
  }

  static Float number_or_infinity(Float value) { return choose(equal(value, value), value, all<Float>(infinity)); }
};

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
    const int32_t first = node_instance[node];
    bool alike = true;
    for (int i = 1; i < 4; ++i) {
      alike = alike && node_instance[at[i]] == first;
    }
    const CellRow rows(shape, y);
    const bool whole = shape.stride == 4 && rows.end - rows.begin == 4 && rows.width_of(shape, x) == 4;
    const int32_t* own_pixels = label + int64_t(rows.begin) * shape.width + int64_t(x) * shape.stride;
    int32_t own_label[max_cell_pixels], chosen[max_cell_pixels];
    if (!whole) {
      std::fill(own_label, own_label + pixels.padded, 0);
      read_cell(shape, y, x, label, own_label);
    }
    for (int p = 0; p < pixels.padded; p += L::count) {
      Int own;
      if (whole) {
        load_rows(own_pixels + int64_t(p / 4) * shape.width, shape.width, own);
      } else {
        own = load<Int>(own_label + p);
      }
      const Int thing = thing_lanes(own);
      store(chosen + p, alike ? first & thing : thing & decide_lanes(own, at, p));
    }
    write_cell(shape, y, x, chosen, instance);
  }

  Int decide_lanes(Int own, const int64_t* at, int p) const {
    Int rank[4], weight[4];
    Int best_rank = all<Int>(-1);
    for (int i = 0; i < 4; ++i) {
      weight[i] = load<Int>(pixels.weight[i] + p);
      const int32_t corner = node_label[at[i]];
      const int32_t other = node_instance[at[i]] == 0 ? -1 : things.has(corner);
      const int32_t same = node_instance[at[i]] == 0 ? -1 : 2;
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
      const Int candidate = all<Int>(node_instance[at[i]]);
      for (int j = 0; j < 4; ++j) {
        if (node_instance[at[j]] == node_instance[at[i]]) {
          const Float own_distance = all<Float>(node_distance[at[j]]);
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
    const int32_t* labels = node_label + int64_t(y) * w;
    const int32_t* own = node_instance + int64_t(y) * w;
    fill_cells(
        shape, y, instance, [&](int x) { return own[x] > 0 && things.has(labels[x]) ? own[x] : 0; },
        [&](Cell first, int length, int32_t* to) {
          assign_run(node_label, node_instance, node_distance, things, shape, first, length, label + (to - instance),
                     to);
        });
    if (y == shape.h - 1 || int64_t(y) * shape.stride >= shape.height) {
      return;
    }
    visit_blocks(w - 1, L::count, [&](int64_t x) {
      const auto alike = [&](const int32_t* map) {
        const Int here = load<Int>(map + x);
        return bits_of(equal(here, load<Int>(map + x + 1)) & equal(here, load<Int>(map + x + w)) &
                       equal(here, load<Int>(map + x + w + 1)));
      };
      const uint32_t one_label = alike(labels), one_instance = alike(own);
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
  const int64_t room = (params.max_instances + widest - 1) / widest * widest;
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

  parallel_for(parallel, shape.images * dimensions, 64, [&](int64_t task) {
    const int64_t n = task / dimensions, d = task % dimensions;
    const Point* from = keypoints + n * params.max_instances * keypoint_count + d / 2;
    float* to = layout.coordinates + task * layout.room;
    for (int32_t j = 0; j < count[n]; ++j) {
      const Point point = from[int64_t(j) * keypoint_count];
      to[j] = d % 2 == 0 ? point.x : point.y;
    }
    const int64_t end = (count[n] + widest - 1) / widest * widest;
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
    const Instances instances{layout.coordinates + n * dimensions * layout.room, layout.room, count[n]};
    with_simd(parallel.simd, [&](auto lanes) {
      const NearestInstances<decltype(lanes)> search{instances, dimensions};
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
