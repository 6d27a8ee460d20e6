// SPDX-License-Identifier: Apache-2.0
// top_down for both bindings: checks, allocation, one call of the engine.
#pragma once

#include <cmath>

#include "call.h"
#include "deeperlab/top_down.h"

namespace deeperlab::binding {

// In the order of Paste.
constexpr const char* paste_names[] = {"detectron2", "torchvision"};

// The arguments of a call. The sets of classes lie here.
template <class Traits>
struct TopDownArguments {
  Things things{};
  ClassSet stuff{};
  TopDown of{};

  explicit TopDownArguments(const Call<Traits>& call) {
    const auto& semantic = call.array("semantic");
    const auto& scores = call.array("scores", 2, "[N, K]");
    const auto& masks = call.array("masks", 4, "[N, K, m, m] of probabilities or [N, K, H, W] of uint8");
    const int64_t n = Traits::extent(scores, 0), detections = Traits::extent(scores, 1);
    const int64_t classes = call.integer("num_classes");
    const Ints& size = call.integers("size");
    require(detections <= most_detections, "scores: expected at most 2^16 detections, got ", detections);
    of.shape = read_shape(call, n, classes, size);
    of.semantic = semantic_view<Traits>(semantic, semantic, of.shape);
    read_classes(call.integers("things"), "things", classes, things);
    read_classes(call.integers("stuff"), "stuff", classes, stuff);
    of.things = &things;
    of.stuff = &stuff;
    read_masks(masks, n, detections);
    of.box = call.template contiguous<float>("boxes", Type::float32, {n, detections, 4});
    of.score = call.template contiguous<float>("scores", Type::float32, {n, detections});
    of.label = call.template contiguous<int32_t>("labels", Type::int32, {n, detections});
    of.detections = int(detections);
    for (const char* name : {"masks", "boxes", "scores", "labels"}) {
      Traits::require_place(call.array(name), name, semantic);
    }
    of.room = int(in_range("max_instances", call.integer("max_instances"), 1, most_instances));
    of.score_threshold = finite(call, "score_threshold");
    of.overlap_threshold = finite(call, "overlap_threshold");
    of.stuff_area = int64_t(in_range("stuff_area", call.integer("stuff_area"), 0, double(max_pixels)));
    read_paste(call);
  }
  TopDownArguments(const TopDownArguments&) = delete;
  TopDownArguments& operator=(const TopDownArguments&) = delete;

 private:
  // Labels lie on pixels: the nodes of their shape are as few as can be.
  static Shape read_shape(const Call<Traits>& call, int64_t n, int64_t classes, const Ints& size) {
    const auto& semantic = call.array("semantic");
    const int64_t rank = Traits::rank(semantic);
    require(rank == 3 || rank == 4, "semantic: expected [N, C, h, w] logits or [N, H, W] labels, got ", rank,
            " dimensions");
    require(Traits::extent(semantic, 0) == n, "semantic: expected ", n, " images as scores has, got ",
            Traits::extent(semantic, 0));
    if (rank == 4) {
      return make_shape(n, classes, "semantic", {Traits::extent(semantic, 2), Traits::extent(semantic, 3)},
                        call.integer("stride"), "size", size);
    }
    require(size.size() == 2, "size: expected two integers, got ", size.size());
    return make_shape(n, classes, "semantic", {(size[0] - 1) / max_stride + 1, (size[1] - 1) / max_stride + 1},
                      max_stride, "size", size);
  }

  static void read_classes(const Ints& ids, const char* name, int64_t classes, ClassSet& set) {
    for (const int64_t id : ids) {
      require(id >= 0 && id < classes, name, ": expected class ids in [0, ", classes, "), got ", id);
      set.words[id >> 5] |= 1u << (id & 31);
    }
  }

  void read_masks(const ArrayOf<Traits>& masks, int64_t n, int64_t detections) {
    Type type;
    require(Traits::type(masks, type), "masks: expected probabilities (", Traits::floats, ") or uint8, got ",
            Traits::dtype(masks));
    const int64_t side = Traits::extent(masks, 3);
    if (is_floating(type)) {
      require_shape<Traits>(masks, "masks", {n, detections, side, side});
      of.side = int(in_range("masks", side, 1, max_mask_side));
    } else {
      require(type == Type::uint8, "masks: expected probabilities (", Traits::floats, ") or uint8, got ",
              Traits::dtype(masks));
      require_shape<Traits>(masks, "masks", {n, detections, of.shape.height, of.shape.width});
      of.side = 0;
    }
    Traits::require_memory(masks, "masks");
    of.mask = {Traits::data(masks),      type,
               Traits::stride(masks, 0), Traits::stride(masks, 1),
               Traits::stride(masks, 2), Traits::stride(masks, 3)};
  }

  static double finite(const Call<Traits>& call, const char* name) {
    const double value = call.template option<double>(name);
    require(std::isfinite(value), name, ": expected a finite number, got ", value);
    return value;
  }

  // Detectron2 takes probabilities of the threshold and more, torchvision's users take those above it.
  void read_paste(const Call<Traits>& call) {
    const std::string& paste = call.template option<std::string>("paste");
    const auto known = std::find(std::begin(paste_names), std::end(paste_names), paste);
    require(known != std::end(paste_names), "paste: expected 'detectron2' or 'torchvision', got '", paste, "'");
    of.paste = Paste(known - std::begin(paste_names));
    const double threshold = call.template option<double>("mask_threshold");
    require(threshold > 0.0 && threshold <= 1.0, "mask_threshold: expected more than 0 and at most 1, got ", threshold);
    const auto least = std::max(float(threshold), std::numeric_limits<float>::min());
    of.least = of.paste == Paste::torchvision ? std::nextafter(least, infinity) : least;
  }
};

inline void refuse_detection(const TopDown& of, const cpu::DetectionFault& fault) {
  const int64_t at = fault.image * of.detections + fault.detection;
  std::ostringstream place;
  place << " (detection " << fault.detection << " of image " << fault.image << ')';
  require(fault.kind != cpu::DetectionFault::score, "scores: expected numbers, got nan", place.str());
  require(fault.kind != cpu::DetectionFault::label, "labels: expected thing classes, got ", of.label[at], place.str());
  require(fault.kind != cpu::DetectionFault::box, "boxes: expected numbers up to 2^24, got ", of.box[4 * at], ", ",
          of.box[4 * at + 1], ", ", of.box[4 * at + 2], ", ", of.box[4 * at + 3], place.str());
}

template <class Traits>
Results<Traits> top_down(const Call<Traits>& call) {
  const TopDownArguments<Traits> arguments(call);
  const TopDown& of = arguments.of;
  const int64_t n = of.shape.images, height = of.shape.height, width = of.shape.width, m = of.room;
  const auto engine = call.traits.engine();
  refuse_detection(of, engine.fault(of));
  const auto semantic = call.template make<int32_t>({n, height, width});
  const auto instance = call.template make<int32_t>({n, height, width});
  const auto score = call.template make<float>({n, m});
  const auto category = call.template make<int32_t>({n, m});
  const auto area = call.template make<int32_t>({n, m});
  const auto class_area = call.template make<int32_t>({n, of.shape.classes});
  const auto count = call.template make<int32_t>({n});
  const auto truncated = call.template make<bool>({n});
  const Panoptic panoptic{
      out<int32_t, Traits>(semantic),
      out<int32_t, Traits>(instance),
      {nullptr, out<float, Traits>(score), out<int32_t, Traits>(count), out<bool, Traits>(truncated)},
      out<int32_t, Traits>(category),
      out<int32_t, Traits>(area),
      out<int32_t, Traits>(class_area)};
  if (n > 0) {
    const auto scratch = call.template make<uint8_t>({engine.scratch_bytes(of)});
    void* const block = out<void, Traits>(scratch);
    call.run([&] { engine.top_down(of, panoptic, block); });
  }
  return {semantic, instance, score, category, area, class_area, count, truncated};
}

}  // namespace deeperlab::binding
