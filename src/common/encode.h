// SPDX-License-Identifier: Apache-2.0
// encode for both bindings: checks, allocation, one call of the engine.
#pragma once

#include <cmath>

#include "call.h"
#include "deeperlab/encode.h"

namespace deeperlab::binding {

// In the order of Place.
constexpr const char* place_names[] = {"top_left", "top_right", "bottom_right", "bottom_left", "center",
                                       "top",      "right",     "bottom",       "left",        "given"};

// The names of places, with commas between them. Returns how many.
inline int read_places(const std::string& names, Place* place) {
  std::istringstream parts(names);
  int count = 0;
  for (std::string name; std::getline(parts, name, ','); ++count) {
    const auto known = std::find(std::begin(place_names), std::end(place_names), name);
    require(known != std::end(place_names), "keypoints: expected names of places with commas between them, got ", name);
    require(count < max_keypoints, "keypoints: expected 0 to ", max_keypoints, ", got ", names);
    place[count] = Place(known - std::begin(place_names));
  }
  return require_keypoints("keypoints", count);
}

template <class Traits>
Encoding read_encoding(const Call<Traits>& call) {
  const auto& instance = call.array("instance", 3, "[N, H, W]");
  const auto& rows = call.array("ids", 2, "[N, K]");
  Encoding of{};
  const int64_t n = of.images = Traits::extent(instance, 0);
  const int64_t height = Traits::extent(instance, 1), width = Traits::extent(instance, 2);
  require(n <= most_images, "instance: expected fewer than 2^29 images, got ", n);
  require(height >= 1 && width >= 1 && height <= max_side && width <= max_side && height * width <= max_pixels,
          "instance: expected 1 to 2^20 pixels a side and at most 2^31 - 1 in all, got ", height, " x ", width);
  of.height = int(height);
  of.width = int(width);
  of.stride = int(in_range("stride", call.integer("stride"), 1, max_stride));
  of.grid_h = (of.height - 1) / of.stride + 1;
  of.grid_w = (of.width - 1) / of.stride + 1;
  of.room = int(in_range("max_instances", call.integer("max_instances"), 1, double(most_ids)));
  const double disk_radius = call.template option<double>("disk_radius");
  require(std::isfinite(disk_radius) && disk_radius >= 0, "disk_radius: expected a finite number >= 0, got ",
          disk_radius);
  of.limit = int64_t(std::min(disk_radius, farthest) * std::min(disk_radius, farthest));
  const int keypoints = read_places(call.template option<std::string>("keypoints"), of.place);
  typename Call<Traits>::Problem problem(Shape{}, keypoints, {});
  call.read_edges(problem);
  of.graph = problem.graph;
  const int64_t planes = 3 * int64_t(keypoints) + problem.graph.edges + 1;
  constexpr int64_t most = int64_t(1) << 58;
  require(n == 0 || (of.nodes() <= most / (planes * n) && of.room <= most / (64 * planes * n)),
          "instance: expected targets of at most 2^58 nodes, got those of ", n, " x ", planes, " x ", of.nodes());
  of.instance = integer_view<Traits>(instance, "instance", instance, {n, height, width});
  const auto& ignore = call.array("ignore", 3, "[N, H, W]");
  if (Traits::extent(ignore, 0) > 0) {
    of.ignore = integer_view<Traits>(ignore, "ignore", instance, {n, height, width});
    require(of.ignore.type == Type::uint8, "ignore: expected uint8, got ", Traits::dtype(ignore));
  }
  of.rows = Traits::extent(rows, 1);
  require(of.rows <= most_ids, "ids: expected at most 2^28 for each image, got ", of.rows);
  Traits::require_place(rows, "ids", instance);
  Traits::require_place(call.array("points"), "points", instance);
  of.ids = call.template contiguous<int64_t>("ids", Type::int64, {n, of.rows});
  of.points = call.template contiguous<Pixel>("points", Type::int32, {n, of.rows, keypoints, 2});
  return of;
}

template <class Traits>
Results<Traits> encode(const Call<Traits>& call) {
  const Encoding of = read_encoding(call);
  const int64_t n = of.images, h = of.grid_h, w = of.grid_w, p = of.graph.keypoints, e = of.graph.edges, m = of.room;
  const Results<Traits> maps{
      call.template make<float>({n, p, h, w}),
      call.template make<float>({n, 2 * p, h, w}),
      call.template make<float>({n, 2 * e, h, w}),
      call.template make<float>({n, 2 * p, h, w}),
      call.template make<bool>({n, 1, h, w}),
      call.template make<bool>({n, p, h, w}),
      call.template make<bool>({n, e, h, w}),
      call.template make<bool>({n, 1, h, w}),
      call.template make<int64_t>({n, m}),
      call.template make<float>({n, m, p, 2}),
      call.template make<int32_t>({n}),
  };
  if (n > 0) {
    const auto floats = [&](size_t i) { return out<float, Traits>(maps[i]); };
    const auto flags = [&](size_t i) { return out<bool, Traits>(maps[i]); };
    const TargetMaps targets{floats(0),
                             floats(1),
                             floats(2),
                             floats(3),
                             flags(4),
                             flags(5),
                             flags(6),
                             flags(7),
                             out<int64_t, Traits>(maps[8]),
                             out<Point, Traits>(maps[9]),
                             out<int32_t, Traits>(maps[10])};
    const auto engine = call.traits.engine();
    const auto scratch = call.template make<uint8_t>({engine.scratch_bytes(of)});
    void* const block = out<void, Traits>(scratch);
    call.run([&] { engine.encode(of, targets, block); });
  }
  return maps;
}

}  // namespace deeperlab::binding
