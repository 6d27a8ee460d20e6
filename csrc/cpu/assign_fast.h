// SPDX-License-Identifier: Apache-2.0
// The fast form of assign for nodes. A strip of neighbors lies in a box, one interval for each coordinate of each
// keypoint. Every distance from the strip to an instance is bounded by those of the box, computed by the same
// operations: rounding is monotonic, so the bounds hold for the floats themselves, and an instance is left out only if
// another is nearer to every node. What is left is nearly independent of the number of instances.
#pragma once

#include <algorithm>

#include "deeperlab/assign.h"
#include "simd/number.h"

namespace deeperlab::cpu {

constexpr int strip = 16;  // nodes: the wider, the looser the bounds

// Strips and instances are kept coordinate by coordinate: x of keypoint 0, y of keypoint 0, x of keypoint 1, …
struct Strip {
  float at[2 * max_keypoints][strip];  // px
  Box box[max_keypoints];              // of the predictions of each keypoint
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
  int keypoint_count;

  // The predictions of `used` entries, target[k · plane + i]; the rest of the strip repeats the first of them.
  // False: some are not finite, and no box holds them.
  bool read(const Point* target, int64_t plane, int used, Strip& nodes) const {
    Float sum{};  // of 0 · x: NaN where any coordinate is not finite
    for (int k = 0; k < keypoint_count; ++k) {
      const Point* from = target + k * plane;
      Point padded[strip];
      if (used < strip) {
        std::fill(std::copy(from, from + used, padded), padded + strip, *from);
        from = padded;
      }
      Float low[2], high[2];
      for (int i = 0; i < strip; i += L::count) {
        const Float a = load<Float>(from + i), b = load<Float>(from + i + L::count / 2);
        const Float value[2] = {concat_even(a, b), concat_odd(a, b)};
        for (int c = 0; c < 2; ++c) {
          low[c] = i == 0 ? value[c] : minimum(value[c], low[c]);
          high[c] = i == 0 ? value[c] : maximum(value[c], high[c]);
          sum += value[c] * 0.0f;
          store(nodes.at[2 * k + c] + i, value[c]);
        }
      }
      nodes.box[k] = {least_lane(low[0]), least_lane(low[1]), -least_lane(-high[0]), -least_lane(-high[1])};
    }
    return all(equal(sum, Float{}));
  }

  // Keypoint k of instance j, and of the instances from j on.
  Point keypoint(int32_t j, int k) const {
    const float* x = instances.coordinates + 2 * k * instances.room + j;
    return {x[0], x[instances.room]};
  }

  PointOf<Float> keypoints(int32_t j, int k) const {
    const float* x = instances.coordinates + 2 * k * instances.room + j;
    return {load<Float>(x), load<Float>(x + instances.room)};
  }

  // What the nodes from i on of a strip predict for keypoint k.
  static PointOf<Float> predictions(const Strip& nodes, int i, int k) {
    return {load<Float>(nodes.at[2 * k] + i), load<Float>(nodes.at[2 * k + 1] + i)};
  }

  // Least and greatest distance of instances j … from anything in the boxes of a strip, of keypoints k and on.
  Float least_distance(const Strip& nodes, int32_t j, int k) const {
    Float sum{};
    for (; k < keypoint_count; ++k) {
      sum = add_least_distance(sum, nodes.box[k], keypoints(j, k));
    }
    return sum;
  }

  Float greatest_distance(const Strip& nodes, int32_t j) const {
    Float sum{};
    for (int k = 0; k < keypoint_count; ++k) {
      sum = add_greatest_distance(sum, nodes.box[k], keypoints(j, k));
    }
    return sum;
  }

  // Calls visit(j, lanes) for the instances that may lie within `limit` of the strip. The last keypoint alone (the mass
  // center) rules out most: what it adds is part of the sum, which no other term makes less.
  template <class Visit>
  void visit_within(const Strip& nodes, const float& limit, const Visit& visit) const {
    for (int32_t j = 0; j < instances.count; j += L::count) {
      uint32_t left = (2u << std::min(instances.count - j - 1, L::count - 1)) - 1;
      left &= ~bits_of(less(broadcast<Float>(limit), least_distance(nodes, j, keypoint_count - 1)));  // NaN stays
      if (left != 0) {
        left &= ~bits_of(less(broadcast<Float>(limit), least_distance(nodes, j, 0)));
      }
      if (left != 0) {
        visit(j, left);
      }
    }
  }

  Float distance_of(const Strip& nodes, int i, int32_t j) const {
    Float sum{};
    for (int k = 0; k < keypoint_count; ++k) {
      sum = add_distance(sum, predictions(nodes, i, k), keypoint(j, k));
    }
    return sum;
  }

  // enough: distances that others are known to have; what exceeds them by its last term alone is not looked at further.
  void offer(const Strip& nodes, int32_t j, const float* enough, int32_t* instance, float* distance) const {
    const int k = keypoint_count - 1;
    for (int i = 0; i < strip; i += L::count) {
      const Float least = load<Float>(distance + i), limit = minimum(least, load<Float>(enough + i));
      if (any(less_equal(squared_distance(predictions(nodes, i, k), keypoint(j, k)), limit))) {
        const Float sum = distance_of(nodes, i, j);
        store(instance + i, select(less(sum, least), broadcast<Int>(j + 1), load<Int>(instance + i)));
        store(distance + i, select(less(sum, least), sum, least));
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
      store(enough + i, last < 0 ? broadcast<Float>(infinity) : number_or_infinity(distance_of(nodes, i, last)));
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

  static Float number_or_infinity(Float value) {
    return select(equal(value, value), value, broadcast<Float>(infinity));
  }
};

}  // namespace deeperlab::cpu
