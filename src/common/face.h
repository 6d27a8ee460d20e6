// SPDX-License-Identifier: Apache-2.0
// What the bindings share: a face says how one of them sees memory, and the checks here are written once for all.
//
// A face has: Array; rank(a), extent(a, axis), require_strides(a, name), require_place(a, name, like): in the memory
// that `like` is in; stride(a, axis) in elements, data(a), type(a, Type&), dtype(a) as text, refuse_type(message);
// make<T>(sizes), an uninitialized contiguous array; Release, held while the engine runs; parallel() for the stages,
// engine() for the whole.
#pragma once

#include <algorithm>
#include <cstdlib>

#include "arguments.h"
#include "cpu/nodes.h"
#include "simd/dispatch.h"

namespace deeperlab::binding {

template <class Face>
using ArrayOf = typename Face::Array;

using Sizes = std::initializer_list<int64_t>;

constexpr const char* simd_names[] = {"plain", "baseline", "avx2", "avx512"};

// The form of the stages that this process runs: the best for its machine, or the one that DEEPERLAB_SIMD names. Read
// once, at the first call.
inline cpu::Simd simd() {
  static const cpu::Simd chosen = [] {
    const char* wanted = std::getenv("DEEPERLAB_SIMD");
    const cpu::Simd best = cpu::best_simd();
    if (wanted == nullptr || *wanted == '\0') {
      return best;
    }
    const auto name = std::find(std::begin(simd_names), std::end(simd_names), std::string(wanted));
    require(name != std::end(simd_names), "DEEPERLAB_SIMD: expected plain, baseline, avx2 or avx512, got ", wanted);
    const auto level = cpu::Simd(name - std::begin(simd_names));
    require(level <= best, "DEEPERLAB_SIMD: expected at most ", simd_names[int(best)],
            ", the best this machine has, got ", wanted);
    return level;
  }();
  return chosen;
}

// The engine on the CPU: of a face whose memory lies there.
struct CpuEngine {
  cpu::Parallel parallel;

  int64_t fuse_scratch_bytes(const Shape& shape, const Graph& graph, const Params& params) const {
    return cpu::fuse_scratch_bytes(shape, graph, params);
  }

  void fuse(const Heads& heads, const Graph& graph, const Things& things, const Shape& shape, const Params& params,
            const Panoptic& out, void* scratch) const {
    cpu::fuse(heads, graph, things, shape, params, out, scratch, parallel);
  }
};

template <class Face>
Ints sizes_of(const ArrayOf<Face>& array) {
  Ints sizes;
  for (int64_t axis = 0; axis < Face::rank(array); ++axis) {
    sizes.push_back(Face::extent(array, axis));
  }
  return sizes;
}

template <class Face>
void require_rank(const ArrayOf<Face>& array, const char* name, int64_t rank, const char* shape) {
  require(Face::rank(array) == rank, name, ": expected shape ", shape, ", got ", Face::rank(array), " dimensions");
}

template <class Face>
void require_shape(const ArrayOf<Face>& array, const char* name, Sizes expected) {
  const Ints sizes = sizes_of<Face>(array);
  require(std::equal(expected.begin(), expected.end(), sizes.begin(), sizes.end()), name, ": expected shape ",
          text(expected.begin(), expected.size()), ", got ", text(sizes.data(), sizes.size()));
}

// A head [N, channels, h, w] of any floating type and any strides. Every head of a call has the type of `like`.
template <class Face>
View head(const ArrayOf<Face>& array, const char* name, const ArrayOf<Face>& like, Sizes expected) {
  require_shape<Face>(array, name, expected);
  Type type;
  if (!Face::type(array, type) || !is_floating(type)) {
    Face::refuse_type(std::string(name) + ": expected " + Face::floats + ", got " + Face::dtype(array));
  }
  Face::require_place(array, name, like);
  require(Face::dtype(array) == Face::dtype(like), name, ": expected the dtype of the other heads, ", Face::dtype(like),
          ", got ", Face::dtype(array));
  Face::require_strides(array, name);
  return {Face::data(array),     type, Face::stride(array, 0), Face::stride(array, 1), Face::stride(array, 2),
          Face::stride(array, 3)};
}

// Logits [N, C, h, w], or integer labels [N, H, W].
template <class Face>
View semantic_view(const ArrayOf<Face>& array, const ArrayOf<Face>& like, const Shape& shape) {
  if (Face::rank(array) == 4) {
    return head<Face>(array, "semantic", like, {shape.images, shape.classes, shape.h, shape.w});
  }
  require_shape<Face>(array, "semantic", {shape.images, shape.height, shape.width});
  Type type;
  if (!Face::type(array, type) || is_floating(type)) {
    Face::refuse_type("semantic: expected labels of type uint8, int16, int32 or int64, got " + Face::dtype(array));
  }
  Face::require_place(array, "semantic", like);
  Face::require_strides(array, "semantic");
  return {Face::data(array), type, Face::stride(array, 0), 0, Face::stride(array, 1), Face::stride(array, 2)};
}

// What one stage hands to the next: contiguous, of one exact type. A Point counts as two floats, a Candidate as three
// integers.
template <class Face, class T>
const T* contiguous(const ArrayOf<Face>& array, const char* name, Type expected, Sizes sizes) {
  require_shape<Face>(array, name, sizes);
  Type type;
  if (!Face::type(array, type) || type != expected) {
    constexpr const char* names[] = {"float32", "float16", "bfloat16", "uint8", "int16", "int32", "int64"};
    Face::refuse_type(std::string(name) + ": expected " + names[int(expected)] + ", got " + Face::dtype(array));
  }
  Face::require_strides(array, name);
  Ints strides(sizes.size());
  int64_t step = 1, count = 1;
  bool dense = true;
  for (int64_t axis = Face::rank(array) - 1; axis >= 0; --axis) {
    strides[size_t(axis)] = Face::stride(array, axis);
    dense = dense && (Face::extent(array, axis) == 1 || Face::stride(array, axis) == step);
    step *= Face::extent(array, axis);
    count *= Face::extent(array, axis);
  }
  require(dense || count == 0, name, ": expected contiguous memory, got strides ", text(strides.data(), strides.size()),
          "; pass a copy");
  return static_cast<const T*>(Face::data(array));
}

// The same for integers that index memory: every value must lie in [low, high].
template <class Face>
const int32_t* indices(const ArrayOf<Face>& array, const char* name, Sizes sizes, int64_t low, int64_t high) {
  const int32_t* data = contiguous<Face, int32_t>(array, name, Type::int32, sizes);
  int64_t count = 1;
  for (const int64_t size : sizes) {
    count *= size;
  }
  for (int64_t i = 0; i < count; ++i) {
    require(data[i] >= low && data[i] <= high, name, ": expected values in [", low, ", ", high, "], got ", data[i]);
  }
  return data;
}

// All votes for a keypoint add up to at most 66 * 2^36: 2^24 nodes, 2^6 + 2 each, two weights of 2^11. Their moments,
// times positions up to 2^20 + 2^16 px, stay within 64 bits up to this bound and not much beyond.
inline void require_votes(const int64_t* votes, int64_t planes, int64_t cells) {
  for (int64_t plane = 0; plane < planes; ++plane) {
    int64_t rest = int64_t(9) << 39;
    for (int64_t i = plane * cells; i < (plane + 1) * cells; ++i) {
      require(votes[i] >= 0 && votes[i] <= rest, "votes: expected a sum of 0 to 9 * 2^39 for a keypoint, got ",
              votes[i]);
      rest -= votes[i];
    }
  }
}

// An image holds no instance that was not found in it.
inline void require_found(const char* name, const int32_t* instance, int64_t size, const int32_t* count, int64_t n) {
  for (int64_t i = 0; i < n * size; ++i) {
    require(instance[i] <= count[i / size], name, ": expected at most ", count[i / size], " in image ", i / size,
            ", got ", instance[i]);
  }
}

// Memory of an array that this call has made.
template <class T, class Face>
T* out(const ArrayOf<Face>& array) {
  return static_cast<T*>(const_cast<void*>(static_cast<const void*>(Face::data(array))));
}

// A stage by itself works on every node.
template <class Face>
struct EveryNode {
  ArrayOf<Face> scratch;
  cpu::Nodes nodes;

  EveryNode(const Face& face, const Shape& shape)
      : scratch(Face::template make<uint8_t>({cpu::nodes_scratch_bytes(shape)})),
        nodes(cpu::lay_out_nodes(shape, out<void, Face>(scratch))) {
    cpu::choose_all(shape, nodes, face.parallel());
  }
};

}  // namespace deeperlab::binding
