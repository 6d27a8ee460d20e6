// SPDX-License-Identifier: Apache-2.0
// Arrays of a call -> the engine's views, checked, for both bindings. ArrayTraits say how one of them sees memory:
// Array; rank(a), extent(a, axis), require_memory(a, name): aligned, and all there; require_place(a, name, like): in
// the memory that `like` is in; stride(a, axis) in elements, 0 where there are no two elements; data(a), type(a,
// Type&), dtype(a) as text, refuse_type(message); make<T>(sizes), an uninitialized contiguous array; Release, held
// while the engine runs; raise_interrupt(), after it; parallel() for the stages, engine() for the whole.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <utility>

#include "checks.h"
#include "deeperlab/crf.h"
#include "deeperlab/encode.h"
#include "deeperlab/fuse.h"
#include "deeperlab/resample.h"
#include "deeperlab/semantic_loss.h"
#include "deeperlab/top_down.h"
#include "simd/dispatch.h"

namespace deeperlab::binding {

using Sizes = std::initializer_list<int64_t>;

inline int64_t product(Sizes sizes) {
  int64_t result = 1;
  for (const int64_t size : sizes) {
    result *= size;
  }
  return result;
}

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

// The engine on the CPU, for arrays whose memory lies there.
struct CpuEngine {
  cpu::Parallel parallel;

  int64_t scratch_bytes(const Problem& problem) const { return cpu::fuse_scratch_bytes(problem); }

  void fuse(const Heads& heads, const Problem& problem, const Panoptic& out, void* scratch) const {
    cpu::fuse(heads, problem, out, scratch, parallel);
  }
  void resample(const Resampling& of, float* out) const { cpu::resample(of, out, parallel); }

  int64_t scratch_bytes(const Shape& shape) const { return cpu::semantic_loss_scratch_bytes(shape); }
  LabelRange labels(const SemanticLoss& of) const { return cpu::label_range(of); }
  void semantic_loss(const SemanticLoss& of, const PixelLosses& pixels, Cut* cut, float* loss, void* scratch) const {
    cpu::semantic_loss(of, pixels, cut, loss, scratch, parallel);
  }
  void semantic_loss_backward(const SemanticLossBackward& of, float* out, void* scratch) const {
    cpu::semantic_loss_backward(of, out, scratch, parallel);
  }

  int64_t scratch_bytes(const Encoding& of) const { return cpu::encode_scratch_bytes(of); }
  void encode(const Encoding& of, const TargetMaps& out, void* scratch) const {
    cpu::encode(of, out, scratch, parallel);
  }

  int64_t scratch_bytes(const TopDown& of) const { return cpu::top_down_scratch_bytes(of); }
  cpu::DetectionFault fault(const TopDown& of) const { return cpu::find_fault(of); }
  void top_down(const TopDown& of, const Panoptic& out, void* scratch) const {
    cpu::top_down(of, out, scratch, parallel);
  }

  static int64_t crf_sort_bytes(const Crf& of) { return cpu::crf_sort_bytes(of); }
  static int64_t crf_lattice_bytes(const Crf& of) { return cpu::crf_lattice_bytes(of); }
  static int64_t crf_links_bytes(const Crf& of, const CrfCounts& counts) { return cpu::crf_links_bytes(of, counts); }
  static int64_t crf_values_bytes(const Crf& of, const CrfCounts& counts) { return cpu::crf_values_bytes(of, counts); }
  CrfCounts find_vertices(const Crf& of, int64_t n, const CrfBlocks& blocks, void* sort) const {
    return cpu::find_vertices(of, n, blocks, sort, parallel);
  }
  void link_vertices(const Crf& of, const CrfBlocks& blocks, void* sort) const {
    cpu::link_vertices(of, blocks, sort, parallel);
  }
  void crf(const Crf& of, int64_t n, const CrfBlocks& blocks, float* out) const {
    cpu::crf(of, n, blocks, out, parallel);
  }
  void crf_filter(const Crf& of, int64_t n, const CrfBlocks& blocks, float* out) const {
    cpu::crf_filter(of, n, blocks, out, parallel);
  }
};

template <class Traits>
using ArrayOf = typename Traits::Array;

template <class Traits>
using Results = std::vector<ArrayOf<Traits>>;

// Memory of an array that this call has made.
template <class T, class Traits>
T* out(const ArrayOf<Traits>& array) {
  return static_cast<T*>(const_cast<void*>(static_cast<const void*>(Traits::data(array))));
}

template <class Traits>
Ints sizes_of(const ArrayOf<Traits>& array) {
  Ints sizes;
  for (int64_t axis = 0; axis < Traits::rank(array); ++axis) {
    sizes.push_back(Traits::extent(array, axis));
  }
  return sizes;
}

template <class Traits>
void require_shape(const ArrayOf<Traits>& array, const char* name, Sizes expected) {
  const Ints sizes = sizes_of<Traits>(array);
  require(std::equal(expected.begin(), expected.end(), sizes.begin(), sizes.end()), name, ": expected shape ",
          text(expected.begin(), expected.size()), ", got ", text(sizes.data(), sizes.size()));
}

// A head [N, channels, h, w] of any floating type and any strides. Every head of a call has the type of `like`.
template <class Traits>
View head_view(const ArrayOf<Traits>& array, const char* name, const ArrayOf<Traits>& like, Sizes expected) {
  require_shape<Traits>(array, name, expected);
  Type type;
  if (!Traits::type(array, type) || !is_floating(type)) {
    Traits::refuse_type(std::string(name) + ": expected " + Traits::floats + ", got " + Traits::dtype(array));
  }
  Traits::require_place(array, name, like);
  require(Traits::dtype(array) == Traits::dtype(like), name, ": expected the dtype of the other heads, ",
          Traits::dtype(like), ", got ", Traits::dtype(array));
  Traits::require_memory(array, name);
  return {Traits::data(array),     type, Traits::stride(array, 0), Traits::stride(array, 1), Traits::stride(array, 2),
          Traits::stride(array, 3)};
}

// Integers [N, H, W] of any strides.
template <class Traits>
View integer_view(const ArrayOf<Traits>& array, const char* name, const ArrayOf<Traits>& like, Sizes expected) {
  require_shape<Traits>(array, name, expected);
  Type type;
  if (!Traits::type(array, type) || is_floating(type)) {
    Traits::refuse_type(std::string(name) + ": expected labels of type uint8, int16, int32 or int64, got " +
                        Traits::dtype(array));
  }
  Traits::require_place(array, name, like);
  Traits::require_memory(array, name);
  return {Traits::data(array), type, Traits::stride(array, 0), 0, Traits::stride(array, 1), Traits::stride(array, 2)};
}

// Logits [N, C, h, w], or integer labels [N, H, W].
template <class Traits>
View semantic_view(const ArrayOf<Traits>& array, const ArrayOf<Traits>& like, const Shape& shape) {
  if (Traits::rank(array) == 4) {
    return head_view<Traits>(array, "semantic", like, {shape.images, shape.classes, shape.grid_h, shape.grid_w});
  }
  return integer_view<Traits>(array, "semantic", like, {shape.images, shape.height, shape.width});
}

// What one stage hands to the next: contiguous, of one exact type. A Point counts as two floats, a Candidate as three
// integers. The engine takes values that it only reads by the same structs as those that it writes, so the pointer is
// not const.
template <class Traits, class T>
T* contiguous(const ArrayOf<Traits>& array, const char* name, Type expected, Sizes sizes) {
  require_shape<Traits>(array, name, sizes);
  Type type;
  if (!Traits::type(array, type) || type != expected) {
    constexpr const char* names[] = {"float32", "float16", "bfloat16", "uint8", "int16", "int32", "int64"};
    Traits::refuse_type(std::string(name) + ": expected " + names[int(expected)] + ", got " + Traits::dtype(array));
  }
  Traits::require_memory(array, name);
  Ints strides(sizes.size());
  int64_t step = 1, count = 1;
  bool dense = true;
  for (int64_t axis = Traits::rank(array) - 1; axis >= 0; --axis) {
    strides[size_t(axis)] = Traits::stride(array, axis);
    dense = dense && (Traits::extent(array, axis) == 1 || Traits::stride(array, axis) == step);
    step *= Traits::extent(array, axis);
    count *= Traits::extent(array, axis);
  }
  require(dense || count == 0, name, ": expected contiguous memory, got strides ", text(strides.data(), strides.size()),
          "; pass a copy");
  return out<T, Traits>(array);
}

// The least and the greatest of some integers.
inline std::pair<int32_t, int32_t> extremes(const int32_t* values, int64_t count) {
  int32_t least = std::numeric_limits<int32_t>::max(), most = std::numeric_limits<int32_t>::min();
  for (int64_t i = 0; i < count; ++i) {
    least = std::min(least, values[i]);
    most = std::max(most, values[i]);
  }
  return {least, most};
}

}  // namespace deeperlab::binding
