// SPDX-License-Identifier: Apache-2.0
// semantic_loss and its gradient for both bindings: checks, allocation, one call of the engine.
#pragma once

#include "call.h"
#include "deeperlab/semantic_loss.h"

namespace deeperlab::binding {

// A map [N, H, W] of any strides.
template <class Traits>
View pixel_view(const Call<Traits>& call, const char* name, const Shape& shape, bool integers) {
  const auto& array = call.array(name);
  require_shape<Traits>(array, name, {shape.images, shape.height, shape.width});
  Type type;
  if (!Traits::type(array, type) || (integers ? is_floating(type) : type != Type::float32)) {
    const char* const expected = integers ? "uint8, int16, int32 or int64" : "float32";
    Traits::refuse_type(std::string(name) + ": expected " + expected + ", got " + Traits::dtype(array));
  }
  Traits::require_place(array, name, call.array("logits"));
  Traits::require_memory(array, name);
  return {Traits::data(array), type, Traits::stride(array, 0), 0, Traits::stride(array, 1), Traits::stride(array, 2)};
}

// The arguments that a loss and its gradient share. The classes of some stuff lie here.
template <class Traits>
struct LossArguments {
  ClassSet stuff{};
  SemanticLoss of{};

  explicit LossArguments(const Call<Traits>& call) {
    const auto& logits = call.array("logits", 4, "[N, C, h, w]");
    const auto& labels = call.array("labels", 3, "[N, H, W]");
    const int64_t n = Traits::extent(logits, 0), classes = Traits::extent(logits, 1);
    const int64_t h = Traits::extent(logits, 2), w = Traits::extent(logits, 3);
    require(classes >= 1 && classes <= max_classes, "logits: expected 1 to ", max_classes, " classes, got ", classes);
    of.shape = make_shape(n, classes, "logits", {h, w}, call.integer("stride"), "labels",
                          {Traits::extent(labels, 1), Traits::extent(labels, 2)});
    of.logits = call.head("logits", "logits", {n, classes, h, w});
    of.labels = pixel_view(call, "labels", of.shape, true);
    of.weight = pixel_view(call, "weight", of.shape, false);
    for (const int64_t id : call.integers("stuff")) {
      require(id >= 0 && id < classes, "stuff: expected class ids in [0, ", classes, "), got ", id);
      stuff.words[id >> 5] |= 1u << (id & 31);
    }
    of.stuff = &stuff;
    of.has_stuff = !call.integers("stuff").empty();
  }
  LossArguments(const LossArguments&) = delete;
  LossArguments& operator=(const LossArguments&) = delete;

  void require_labels(const LabelRange& range) const {
    require(of.has_stuff || range.least != some_stuff,
            "labels: expected -2, some stuff, only where stuff has classes, got -2");
    const int64_t low = of.has_stuff ? some_stuff : no_label, high = of.shape.classes - 1;
    const int64_t wrong = range.least < low ? range.least : range.most;
    require(range.least >= low && range.most <= high, "labels: expected classes 0 to ", high, ", -1 for no label",
            of.has_stuff ? " or -2 for some stuff" : "", ", got ", wrong);
  }
};

template <class Traits>
Results<Traits> semantic_loss(const Call<Traits>& call) {
  LossArguments<Traits> arguments(call);
  SemanticLoss& of = arguments.of;
  of.top_k = call.template option<double>("top_k");
  require(of.top_k > 0.0 && of.top_k <= 1.0, "top_k: expected more than 0 and at most 1, got ", of.top_k);
  const Shape& shape = of.shape;
  const auto engine = call.traits.engine();
  if (shape.images > 0) {
    arguments.require_labels(engine.labels(of));
  }
  const auto loss = call.template make<float>({shape.images});
  const auto pixel_loss = call.template make<float>({shape.images, shape.height, shape.width});
  const auto log_sum = call.template make<float>({shape.images, shape.height, shape.width});
  const auto cut = call.template make<int32_t>({shape.images, 3});
  if (shape.images > 0) {
    const auto scratch = call.template make<uint8_t>({engine.scratch_bytes(shape)});
    void* const block = out<void, Traits>(scratch);
    const PixelLosses pixels{out<float, Traits>(pixel_loss), out<float, Traits>(log_sum)};
    call.run([&] { engine.semantic_loss(of, pixels, out<Cut, Traits>(cut), out<float, Traits>(loss), block); });
  }
  return {loss, pixel_loss, log_sum, cut};
}

template <class Traits>
Results<Traits> semantic_loss_backward(const Call<Traits>& call) {
  const LossArguments<Traits> arguments(call);
  const Shape& shape = arguments.of.shape;
  const int64_t n = shape.images, height = shape.height, width = shape.width;
  const PixelLosses pixels{call.template contiguous<float>("pixel_loss", Type::float32, {n, height, width}),
                           call.template contiguous<float>("log_sum", Type::float32, {n, height, width})};
  const SemanticLossBackward of{arguments.of, pixels, call.template contiguous<Cut>("cut", Type::int32, {n, 3}),
                                call.template contiguous<float>("gradient", Type::float32, {n})};
  for (const char* name : {"pixel_loss", "log_sum", "cut", "gradient"}) {
    Traits::require_place(call.array(name), name, call.array("logits"));
  }
  const auto gradient = call.template make<float>({n, shape.classes, shape.grid_h, shape.grid_w});
  if (n > 0) {
    const auto engine = call.traits.engine();
    const auto scratch = call.template make<uint8_t>({engine.scratch_bytes(shape)});
    void* const block = out<void, Traits>(scratch);
    call.run([&] { engine.semantic_loss_backward(of, out<float, Traits>(gradient), block); });
  }
  return {gradient};
}

}  // namespace deeperlab::binding
