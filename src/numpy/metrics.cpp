// SPDX-License-Identifier: Apache-2.0
// _numpy: the counts that deeperlab.metrics is made of.
#include "deeperlab/overlap.h"

#include <atomic>
#include <random>

#include "array_traits.h"
#include "id_maps.h"
#include "module.h"

namespace deeperlab::binding {
namespace {

// SplitMix64, which begins anywhere: nobody can choose ids by its numbers.
Hashing random_hashing() {
  static std::atomic<uint64_t> state{[] {
    std::random_device device;
    return uint64_t(device()) << 32 | device();
  }()};
  const auto next = [] {
    uint64_t z = state.fetch_add(0x9e3779b97f4a7c15u, std::memory_order_relaxed);
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
  };
  Hashing random{};
  random.start = next();
  for (int m = 0; m < max_maps; ++m) {
    random.low[m] = next();
    random.high[m] = next();
  }
  return random;
}

py::tuple overlap(const py::args& arguments) {
  const ArrayTraits traits{1};
  const cpu::Parallel parallel = traits.parallel();
  const Maps maps = checked_maps(arguments);
  const Views views(maps);
  const int64_t height = views.height, width = views.width, count = int64_t(maps.size());

  // Some thousands of combinations are plenty for a panoptic map. Where there are more, the next try has room for
  // eight times as many; a try ends where its room does, so that all of them together cost little more than the last.
  constexpr int64_t most = int64_t(1) << 30;
  const Hashing random = random_hashing();
  const int64_t limit = std::max<int64_t>(1, std::min(height * width, most));
  for (int64_t capacity = std::min<int64_t>(4096, limit);; capacity = std::min(8 * capacity, limit)) {
    py::array ids = ArrayTraits::make<int64_t>({capacity, count}), pixels = ArrayTraits::make<int64_t>({capacity});
    py::array scratch = ArrayTraits::make<uint8_t>({cpu::overlap_scratch_bytes(width, capacity)});
    auto* const id = static_cast<int64_t*>(ids.mutable_data());
    auto* const pixel = static_cast<int64_t*>(pixels.mutable_data());
    void* const block = scratch.mutable_data();
    int64_t found;
    {
      const py::gil_scoped_release released;
      found = cpu::overlap({views.view, int(count), height, width}, random, {id, pixel, capacity}, block, parallel);
    }
    traits.raise_interrupt();
    require(found >= 0 || capacity < limit, "maps: expected at most 2^30 combinations of ids");
    if (found < 0) {
      continue;
    }
    py::tuple result(size_t(count) + 1);
    for (int64_t m = 0; m < count; ++m) {
      py::array_t<int64_t> column(found);
      for (int64_t i = 0; i < found; ++i) {
        column.mutable_data()[i] = id[i * count + m];
      }
      const bool wide = !views.view[m].is_signed && views.view[m].bytes == 8;
      result[size_t(m)] = wide ? py::object(column.attr("view")("uint64")) : py::object(column);
    }
    result[size_t(count)] = py::array_t<int64_t>(found, pixel);
    return result;
  }
}

}  // namespace

void register_metrics(py::module_& m) {
  m.def(
      "overlap", &overlap,
      "overlap(*maps) -> (*ids, pixels): the distinct combinations of ids in 1 to 4 integer maps [H, W] laid over one "
      "another, in the order of their first pixels, and the pixels of each; all int64 (uint64 ids stay uint64).");
}

}  // namespace deeperlab::binding
