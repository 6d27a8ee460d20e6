// SPDX-License-Identifier: Apache-2.0
// crf and the filter of its kernels for both bindings: checks, allocation, the calls of the engine.
#pragma once

#include <cmath>

#include "call.h"
#include "deeperlab/crf.h"

namespace deeperlab::binding {

constexpr double max_crf_weight = 1e4, least_crf_sigma = 1e-2, most_crf_sigma = 1e6;
constexpr double wide_crf_sigma = 2.5;  // px: nodes two apart are then within 5 % of the kernel

// The keys of an image's vertices: how many bits each coordinate needs, from the range of the features.
inline CrfKeys make_crf_keys(const Shape& shape, double sigma_alpha, double sigma_beta) {
  CrfKeys keys{};
  double most[crf_features];
  for (int i = 0; i < crf_features; ++i) {
    const double sigma = i < 2 ? sigma_alpha : sigma_beta;
    const double unit = std::sqrt(2.0 / 3.0) * crf_corners / std::sqrt(double((i + 1) * (i + 2)));
    keys.scale[i] = float(unit / sigma);
    most[i] = double(i == 0 ? shape.width - 1 : i == 1 ? shape.height - 1 : 255) * (unit / sigma);
  }
  // Coordinate i is the sum of the features from i on, less i times the one before; so the ranges of what CrfKeys::mix
  // makes of them are these. A corner lies less than 6 beside the point in each coordinate, a vertex next to it 5 more,
  // and no integer is made of more than four times a coordinate.
  constexpr double margin = 4 * 11;
  const double least[crf_features] = {-4 * most[3], -3 * most[2], -2 * most[1], 0.0, 0.0};
  const double greatest[crf_features] = {most[4], most[3] + most[4], most[2] + most[3] + most[4], 2 * most[0],
                                         6 * most[1]};
  for (int i = 0; i < crf_features; ++i) {
    const double low = std::floor(least[i]) - margin, high = std::ceil(greatest[i]) + margin;
    int bits = 1;
    for (; std::ldexp(1.0, bits) <= high - low; ++bits) {
    }
    require(bits <= 20, i < 3 ? "sigma_beta" : "sigma_alpha", ": expected a lattice of at most 2^20 vertices along an ",
            "axis, got 2^", bits, " for ", shape.height, " x ", shape.width, " pixels, sigma_alpha = ", sigma_alpha,
            " and sigma_beta = ", sigma_beta, "; choose larger ones");
    keys.low[i] = int32_t(low);
    keys.shift[i] = keys.bits;
    keys.bits += bits;
  }
  require(keys.bits <= crf_key_bits, "sigma_beta: expected a lattice whose vertices have keys of at most 63 bits, got ",
          keys.bits, " for ", shape.height, " x ", shape.width, " pixels, sigma_alpha = ", sigma_alpha,
          " and sigma_beta = ", sigma_beta, "; choose larger ones");
  return keys;
}

// The arguments that both operators take.
template <class Traits>
Crf read_crf(const Call<Traits>& call, const char* name, int64_t stride) {
  const auto& values = call.array(name, 4, "[N, C, h, w]");
  const auto& image = call.array("image", 4, "[N, H, W, 3]");
  const int64_t n = Traits::extent(values, 0), classes = Traits::extent(values, 1);
  const int64_t h = Traits::extent(values, 2), w = Traits::extent(values, 3);
  const int64_t height = Traits::extent(image, 1), width = Traits::extent(image, 2);
  Crf of{};
  require(classes >= 1 && classes <= max_classes, name, ": expected 1 to ", max_classes, " classes, got ", classes);
  of.shape = make_shape(n, classes, name, {h, w}, stride, "image", {height, width});
  require(of.shape.pixels() <= max_crf_pixels, "image: expected at most 2^28 pixels, got ", height, " x ", width);
  of.semantic = call.head(name, name, {n, classes, h, w});
  require_shape<Traits>(image, "image", {n, height, width, 3});
  Type type;
  if (!Traits::type(image, type) || type != Type::uint8) {
    Traits::refuse_type("image: expected uint8, got " + Traits::dtype(image));
  }
  Traits::require_place(image, "image", values);
  Traits::require_memory(image, "image");
  of.image = {Traits::data(image),      type,
              Traits::stride(image, 0), Traits::stride(image, 3),
              Traits::stride(image, 1), Traits::stride(image, 2)};
  const auto real = [&](const char* option, double low, double high) {
    return in_range(option, call.template option<double>(option), low, high);
  };
  of.w1 = float(real("w1", 0, max_crf_weight));
  of.w2 = float(real("w2", 0, max_crf_weight));
  const double sigma_alpha = real("sigma_alpha", least_crf_sigma, most_crf_sigma);
  const double sigma_beta = real("sigma_beta", least_crf_sigma, most_crf_sigma);
  const double sigma_gamma = real("sigma_gamma", least_crf_sigma, most_crf_sigma);
  if (of.w1 > 0.0f) {
    of.keys = make_crf_keys(of.shape, sigma_alpha, sigma_beta);
  }
  of.step = sigma_gamma >= wide_crf_sigma ? 2 : 1;
  const double variance = of.step == 2 ? (sigma_gamma * sigma_gamma - 1.0) / 4.0 : sigma_gamma * sigma_gamma;
  of.curvature = float(0.5 / variance);
  of.half_width = int(std::min(3.0 * std::sqrt(variance), double(of.nodes(int(std::max(height, width))) - 1)));
  of.after = call.template option<bool>("after");
  return of;
}

// Image after image: run(engine, n, blocks).
template <class Traits, class Run>
void visit_lattices(const Call<Traits>& call, const Crf& of, const Run& run) {
  const auto engine = call.traits.engine();
  const bool has_lattice = of.w1 > 0.0f;
  for (int64_t n = 0; n < of.shape.images; ++n) {
    CrfBlocks blocks{};
    const auto lattice = call.template make<uint8_t>({has_lattice ? engine.crf_lattice_bytes(of) : 0});
    blocks.lattice = out<void, Traits>(lattice);
    auto links = call.template make<uint8_t>({0});
    if (has_lattice) {
      const auto sort = call.template make<uint8_t>({engine.crf_sort_bytes(of)});
      void* const room = out<void, Traits>(sort);
      call.run([&] { blocks.counts = engine.find_vertices(of, n, blocks, room); });
      links = call.template make<uint8_t>({engine.crf_links_bytes(of, blocks.counts)});
      blocks.links = out<void, Traits>(links);
      call.run([&] { engine.link_vertices(of, blocks, room); });
    }
    const auto values = call.template make<uint8_t>({engine.crf_values_bytes(of, blocks.counts)});
    blocks.values = out<void, Traits>(values);
    call.run([&] { run(engine, n, blocks); });
  }
}

template <class Traits>
Results<Traits> crf(const Call<Traits>& call) {
  Crf of = read_crf(call, "semantic", call.integer("stride"));
  of.iterations = int(in_range("iterations", call.integer("iterations"), 0, 1 << 16));
  of.probable = call.template option<bool>("probabilities");
  const Shape& shape = of.shape;
  const auto q = call.template make<float>({shape.images, shape.classes, shape.height, shape.width});
  float* const planes = out<float, Traits>(q);
  visit_lattices(call, of, [&](const auto& engine, int64_t n, const CrfBlocks& blocks) {
    engine.crf(of, n, blocks, planes + n * shape.classes * shape.pixels());
  });
  return {q};
}

template <class Traits>
Results<Traits> crf_filter(const Call<Traits>& call) {
  Crf of = read_crf(call, "values", 1);
  of.transposed = call.template option<bool>("transposed");
  const Shape& shape = of.shape;
  require_shape<Traits>(call.array("values"), "values", {shape.images, shape.classes, shape.height, shape.width});
  require(of.semantic.type == Type::float32, "values: expected float32, got ", Traits::dtype(call.array("values")));
  const auto message = call.template make<float>({shape.images, shape.classes, shape.height, shape.width});
  float* const planes = out<float, Traits>(message);
  visit_lattices(call, of, [&](const auto& engine, int64_t n, const CrfBlocks& blocks) {
    engine.crf_filter(of, n, blocks, planes + n * shape.classes * shape.pixels());
  });
  return {message};
}

}  // namespace deeperlab::binding
