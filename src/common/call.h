// SPDX-License-Identifier: Apache-2.0
// A call of an operator: its arguments by name, and what the engine is told of them.
#pragma once

#include <cstring>

#include "operators.h"
#include "traits.h"

namespace deeperlab::binding {

constexpr int64_t most_images = (int64_t(1) << 29) - 1;

// No bound is a habit: beyond it an index or a fixed-point sum would leave its type.
inline Shape make_shape(int64_t images, int64_t classes, const char* nodes_name, const Ints& nodes, int64_t stride,
                        const char* size_name, const Ints& size) {
  require(nodes.size() == 2, nodes_name, ": expected two integers, got ", nodes.size());
  require(size.size() == 2, size_name, ": expected two integers, got ", size.size());
  const int64_t h = nodes[0], w = nodes[1], height = size[0], width = size[1];
  in_range("num_classes", classes, 1, max_classes);
  require(h >= 1 && w >= 1, nodes_name, ": expected at least 1 x 1 nodes, got ", h, " x ", w);
  require(h <= max_grid_side && w <= max_grid_side && h * w <= max_nodes, nodes_name,
          ": expected at most 2^26 nodes in one image (the fixed point of the votes) and 2^24 a side, got ", h, " x ",
          w);
  in_range("stride", stride, 1, max_stride);
  require(height >= 1 && height <= stride * h && width >= 1 && width <= stride * w, size_name,
          ": expected 1 to stride * h = ", stride * h, " by 1 to stride * w = ", stride * w, " pixels, got ", height,
          " x ", width);
  require(height <= max_side && width <= max_side && height * width <= max_pixels, size_name,
          ": expected at most 2^20 pixels a side and 2^31 - 1 in all, got ", height, " x ", width);
  require(images <= most_images, nodes_name, ": expected fewer than 2^29 images, got ", images);
  return {int(images), int(classes), int(h), int(w), int(stride), int(height), int(width)};
}

inline int require_keypoints(const char* name, int64_t keypoints) {
  require(keypoints >= 0 && keypoints <= max_keypoints, name, ": expected 0 to ", max_keypoints, " keypoints, got ",
          keypoints);
  return int(keypoints);
}

// A call by a binding. `options` are in the order of op.options.
template <class Traits>
struct Call {
  using Array = ArrayOf<Traits>;

  const Operator& op;
  const Traits& traits;
  std::vector<Array> arrays;
  std::vector<Value> options;
  mutable std::vector<Array> copies{};
  cpu::FloatEnvironment environment{};  // for parameters, which are rounded too

  // A Problem whose things lie here, as those of the host always do.
  struct Problem : deeperlab::Problem {
    Things thing_classes{};

    Problem(const Shape& of_shape, int keypoints, const Params& of_params) {
      shape = of_shape;
      graph.keypoints = keypoints;
      graph.edges = 0;
      params = of_params;
      things = &thing_classes;
    }
    Problem(const Problem&) = delete;
    Problem& operator=(const Problem&) = delete;
  };

  const Array& array(const char* name) const {
    const auto at = std::find(op.arrays.begin(), op.arrays.end(), name);
    return arrays[size_t(at - op.arrays.begin())];
  }

  // An array of so many dimensions; `shape` names them.
  const Array& array(const char* name, int64_t rank, const char* shape) const {
    const Array& found = array(name);
    require(Traits::rank(found) == rank, name, ": expected shape ", shape, ", got ", Traits::rank(found),
            " dimensions");
    return found;
  }

  template <class T>
  const T& option(const char* name) const {
    const auto at = std::find_if(op.options.begin(), op.options.end(), [&](const Option& o) { return o.name == name; });
    return std::get<T>(options[size_t(at - op.options.begin())]);
  }
  int64_t integer(const char* name) const { return option<int64_t>(name); }
  const Ints& integers(const char* name) const { return option<Ints>(name); }

  View head(const char* name, const char* like, Sizes expected) const {
    return head_view<Traits>(array(name), name, array(like), expected);
  }
  template <class T>
  T* contiguous(const char* name, Type expected, Sizes sizes) const {
    return binding::contiguous<Traits, T>(array(name), name, expected, sizes);
  }
  // The same, copied: what becomes an index may not change after it was checked, whoever writes to the caller's memory
  // while the engine runs.
  template <class T>
  T* copied(const char* name, Type expected, Sizes sizes) const {
    const T* from = contiguous<T>(name, expected, sizes);
    const int64_t bytes = (expected == Type::int64 ? 8 : 4) * product(sizes);
    copies.push_back(make<uint8_t>({bytes}));
    T* const copy = out<T, Traits>(copies.back());
    if (bytes > 0) {
      memcpy(static_cast<void*>(copy), from, size_t(bytes));
    }
    return copy;
  }
  // Integers that index memory: every value must lie in [low, high].
  int32_t* indices(const char* name, Sizes sizes, int32_t low, int64_t high) const {
    int32_t* const copy = copied<int32_t>(name, Type::int32, sizes);
    const int64_t count = product(sizes);
    const auto [least, most] = extremes(copy, count);
    if (count > 0 && (least < low || most > high)) {
      const int32_t wrong = least < low ? least : most;
      require(false, name, ": expected values in [", low, ", ", high, "], got ", wrong);
    }
    return copy;
  }
  template <class T>
  Array make(Sizes sizes) const {
    return traits.template make<T>(sizes);
  }

  // Calls the engine, which needs no GIL. What the handler of a signal has raised meanwhile is raised here.
  template <class Engine>
  void run(const Engine& engine) const {
    {
      [[maybe_unused]] const typename Traits::Release release;
      engine();
    }
    traits.raise_interrupt();
  }

  // The parameters that the operator takes; the others are 0.
  Params params(int keypoints) const {
    Params made{};
    for (size_t i = 0; i < options.size(); ++i) {
      if (const Parameter* parameter = op.options[i].parameter) {
        parameter->store(options[i], keypoints, made);
      }
    }
    return made;
  }

  void read_things(Problem& problem, int64_t classes) const {
    for (const int64_t id : integers("things")) {
      require(id >= 0 && id < classes, "things: expected class ids in [0, ", classes, "), got ", id);
      problem.thing_classes.words[id >> 5] |= 1u << (id & 31);
    }
  }

  // edges: source, target, source, target, ...
  void read_edges(Problem& problem) const {
    const Ints& edges = integers("edges");
    Graph& graph = problem.graph;
    require(edges.size() % 2 == 0 && edges.size() / 2 <= size_t(max_edges), "edges: expected at most ", max_edges,
            " pairs, got ", edges.size(), " numbers");
    graph.edges = int(edges.size() / 2);
    for (int e = 0; e < graph.edges; ++e) {
      for (const int64_t end : {edges[2 * e], edges[2 * e + 1]}) {
        require(end >= 0 && end < graph.keypoints, "edges: expected keypoints in [0, ", graph.keypoints, "), got ",
                end);
      }
      graph.source[e] = uint8_t(edges[2 * e]);
      graph.target[e] = uint8_t(edges[2 * e + 1]);
    }
    Paths paths;
    require(breadth_first_paths(graph, paths), "edges: expected every keypoint to be reachable from every other, got ",
            text(edges.data(), edges.size()));
  }

  // M, which the result or `name` has room for.
  void require_places(const char* name, int64_t places, const Shape& shape) const {
    in_range(name, places, 1, most_instances);
    require((places + 1) * shape.classes <= max_ballots, name, ": expected (max_instances + 1) * ",
            "num_classes to be at most 2^28 (the ballots of the majority vote), got ", places, " and ", shape.classes);
  }
};

}  // namespace deeperlab::binding
