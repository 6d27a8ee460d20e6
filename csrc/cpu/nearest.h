// SPDX-License-Identifier: Apache-2.0
// The fast form of assign for nodes. A strip of neighbors lies in a box, one interval for each coordinate of each
// keypoint. Every distance from the strip to an instance is bounded by those of the box, computed by the same
// operations: rounding is monotonic, so the bounds hold for the floats themselves, and an instance is left out only if
// another is nearer to every node. What is left is nearly independent of the number of instances.
#pragma once

#include <algorithm>

#include "deeperlab/graph.h"
#include "deeperlab/view.h"
#include "simd/lanes.h"

namespace deeperlab::cpu {

constexpr int strip = 16;  // nodes: the wider, the looser the bounds

// Strips and instances are kept coordinate by coordinate: x of keypoint 0, y of keypoint 0, x of keypoint 1, …
struct Strip {
  float at[2 * max_keypoints][strip];  // px
  float low[2 * max_keypoints], high[2 * max_keypoints];
};

struct InstanceColumns {
  const float* coordinates;  // [2P, room] px, infinite past the last
  int64_t room;              // max_instances, in whole vectors
  int32_t count;
};

template <class L>
struct NearestInstances {
  using Float = typename L::Float;
  using Int = typename L::Int;

  const InstanceColumns& instances;
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
          low[c] = i == 0 ? value[c] : min_lanes(value[c], low[c]);
          high[c] = i == 0 ? value[c] : max_lanes(value[c], high[c]);
          sum += value[c] * 0.0f;
          store(nodes.at[d + c] + i, value[c]);
        }
      }
      for (int c = 0; c < 2; ++c) {
        nodes.low[d + c] = least_lane(low[c]);
        nodes.high[d + c] = -least_lane(-high[c]);
      }
    }
    return bits_of(equal(sum, Float{})) == all_bits<Float>;
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
  // center) rules out most: what it adds is part of the sum, which no other term makes less.
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

}  // namespace deeperlab::cpu
