// SPDX-License-Identifier: Apache-2.0
#include "deeperlab/semantic_loss.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "semantic_loss_fast.h"

namespace deeperlab::cpu {
namespace {

// The hardest pixels of an image: from the greatest loss down, digit by digit.
void find_cut(const float* loss, const SemanticLoss& of, int32_t* bins, Cut& cut) {
  const int64_t pixels = of.shape.pixels();
  int32_t left = 0;
  cut = {0, -1, 0};
  for (int i = 0; i < 3; ++i) {
    const CutDigit digit = cut_digit(i);
    std::fill(bins, bins + cut_bins, 0);
    for (int64_t pixel = 0; pixel < pixels; ++pixel) {
      const int32_t value = bit_cast<int32_t>(loss[pixel]);
      if (digit.follows(cut.key, value)) {
        ++bins[digit.bin(value)];
      }
    }
    if (i == 0) {
      cut.count = hardest_count(int32_t(std::accumulate(bins, bins + cut_bins, int64_t(0))), of.top_k);
      left = cut.count;
    }
    if (cut.count == 0) {
      cut.key = no_key;
      return;
    }
    descend(bins, digit, left, cut.key);
  }
  for (; left > 0; left -= bit_cast<int32_t>(loss[cut.last]) == cut.key) {
    ++cut.last;
  }
}

// The fast form goes through an image in bands of rows of cells, each with room of its own.
constexpr int rows_of_band = 16;

struct Layout {
  double* row_sum;  // [N, H]
  int32_t* bins;    // [N, cut_bins]
  char* rooms;      // [N, bands]
  int64_t bands, room_bytes, bytes;

  LossRoom room(const Shape& shape, int64_t band) const {
    Scratch scratch(rooms + band * room_bytes);
    return {shape, scratch};
  }
};

Layout lay_out(const Shape& shape, void* block) {
  Scratch scratch(block), of_room(nullptr);
  Layout at{};
  at.row_sum = scratch.take<double>(int64_t(shape.images) * shape.height);
  at.bins = scratch.take<int32_t>(int64_t(shape.images) * cut_bins);
  at.bands = (shape.grid_h + rows_of_band - 1) / rows_of_band;
  if (shape.stride <= max_fast_stride) {
    const LossRoom room(shape, of_room);
    at.room_bytes = of_room.bytes();
  }
  at.rooms = scratch.take<char>(shape.images * at.bands * at.room_bytes);
  at.bytes = scratch.bytes();
  return at;
}

// Calls visit(i, y, x) for the pixels of row y of cells, where i is their place in the room's maps.
template <class Visit>
void visit_pixels(const Shape& shape, const LossRoom& room, int y, const Visit& visit) {
  const CellRow cells(shape, y);
  for (int row = cells.begin; row < cells.end; ++row) {
    const int64_t first = int64_t(row - cells.begin) * shape.stride * room.row;
    for (int x = 0, column = 0; x < shape.width; ++column) {
      for (int i = 0; i < shape.stride && x < shape.width; ++i, ++x) {
        visit(first + i * room.row + column, row, x);
      }
    }
  }
}

// The nodes of all rows of a band, two at a time: calls task(y).
template <class Task>
void visit_band(const SemanticLoss& of, int64_t n, int band, LossRoom& room, const Parallel& parallel,
                const Task& task) {
  const auto read = [&](int y, float* out) {
    with_float_type(of.logits.type, [&](auto element) {
      with_density(of.logits.column == 1, [&](auto dense) {
        with_simd(parallel.simd, [&](auto lanes) {
          read_nodes<decltype(lanes), decltype(element), decltype(dense)::value>(of, n, y, room.row, out);
        });
      });
    });
  };
  const int64_t cells = int64_t(of.shape.stride) * of.shape.stride * room.row;
  const int begin = band * rows_of_band, end = std::min(begin + rows_of_band, of.shape.grid_h);
  read(begin, room.upper);
  for (int y = begin; y < end && !parallel.stopped(parallel); ++y) {
    read(std::min(y + 1, of.shape.grid_h - 1), room.lower);
    std::fill(room.label, room.label + cells, no_label);
    task(y);
    std::swap(room.upper, room.lower);
  }
}

void find_losses_fast(const SemanticLoss& of, const PixelLosses& pixels, const Layout& layout,
                      const Parallel& parallel) {
  const Shape& shape = of.shape;
  parallel_for(parallel, shape.images * layout.bands, 1, [&](int64_t task) {
    const int64_t n = task / layout.bands;
    LossRoom room = layout.room(shape, task);
    visit_band(of, n, int(task % layout.bands), room, parallel, [&](int y) {
      with_integer_type(of.labels.type, [&](auto element) {
        const auto* labels = static_cast<const decltype(element)*>(of.labels.data) + n * of.labels.image;
        visit_pixels(shape, room, y, [&](int64_t i, int row, int x) {
          room.label[i] = loss_label(int64_t(labels[row * of.labels.row + x * of.labels.column]), of);
        });
      });
      with_simd(parallel.simd, [&](auto lanes) { find_losses<decltype(lanes)>(of, room, y); });
      const int64_t first = n * shape.pixels();
      visit_pixels(shape, room, y, [&](int64_t i, int row, int x) {
        const int64_t at = first + int64_t(row) * shape.width + x;
        const bool none = room.label[i] == no_label;
        pixels.loss[at] = none ? -1.0f : room.loss[i];
        pixels.log_sum[at] = none ? 0.0f : room.log_sum[i];
      });
    });
  });
}

void backward_fast(const SemanticLossBackward& all, float* out, const Layout& layout, const Parallel& parallel) {
  const SemanticLoss& of = all.of;
  const Shape& shape = of.shape;
  const int64_t nodes = shape.nodes(), w = shape.grid_w;
  parallel_for(parallel, shape.images * layout.bands, 1, [&](int64_t task) {
    const int64_t n = task / layout.bands;
    LossRoom room = layout.room(shape, task);
    const int band = int(task % layout.bands), begin = band * rows_of_band;
    const int last = std::min(begin + rows_of_band, shape.grid_h) - 1;
    float* const image = out + n * shape.classes * nodes;
    visit_band(of, n, band, room, parallel, [&](int y) {
      visit_pixels(shape, room, y, [&](int64_t i, int row, int x) {
        const PixelGradient at = pixel_gradient(all, n, row, x);
        room.label[i] = at.wanted;
        room.factor[i] = at.factor;
        room.loss[i] = at.loss;
        room.log_sum[i] = at.log_sum;
      });
      const GradientRows rows{image + y * w, y < last ? image + (y + 1) * w : room.edge, nodes, y < last ? nodes : w,
                              y == begin};
      with_simd(parallel.simd, [&](auto lanes) { add_gradients<decltype(lanes)>(of, room, y, rows); });
    });
  });
  // What the last row of a band says to the first of the next one.
  parallel_for(parallel, shape.images * layout.bands, 1, [&](int64_t task) {
    const int band = int(task % layout.bands);
    if (band > 0) {
      const LossRoom above = layout.room(shape, task - 1);
      float* const first = out + task / layout.bands * shape.classes * nodes + int64_t(band) * rows_of_band * w;
      for (int64_t i = 0; i < shape.classes * w; ++i) {
        float& node = first[i / w * nodes + i % w];
        node = above.edge[i] + node;
      }
    }
  });
}

// The plain form.

template <class T>
float gradient_of_node(const SemanticLossBackward& of, int64_t n, int c, int y, int x) {
  const auto cell = [&](int above, int left) { return cell_gradient<T>(of, n, c, y - above, x - left); };
  return node_gradient(cell(1, 1), cell(1, 0), cell(0, 1), cell(0, 0));
}

}  // namespace

LabelRange label_range(const SemanticLoss& of) {
  LabelRange range;
  with_integer_type(of.labels.type, [&](auto element) {
    using I = decltype(element);
    const I* const all = static_cast<const I*>(of.labels.data);
    I least = *all, most = *all;
    for (int64_t row = 0; row < int64_t(of.shape.images) * of.shape.height; ++row) {
      const I* from = all + row / of.shape.height * of.labels.image + row % of.shape.height * of.labels.row;
      for (int x = 0; x < of.shape.width; ++x) {
        least = std::min(least, from[x * of.labels.column]);
        most = std::max(most, from[x * of.labels.column]);
      }
    }
    range = {int64_t(least), int64_t(most)};
  });
  return range;
}

int64_t semantic_loss_scratch_bytes(const Shape& shape) { return lay_out(shape, nullptr).bytes; }

void semantic_loss(const SemanticLoss& of, const PixelLosses& pixels, Cut* cut, float* loss, void* scratch,
                   const Parallel& parallel) {
  const Shape& shape = of.shape;
  const Layout layout = lay_out(shape, scratch);
  if (parallel.simd != Simd::plain && shape.stride <= max_fast_stride) {
    find_losses_fast(of, pixels, layout, parallel);
  } else {
    with_float_type(of.logits.type, [&](auto element) {
      parallel_for(parallel, int64_t(shape.images) * shape.height, 1, [&](int64_t row) {
        for (int x = 0; x < shape.width; ++x) {
          find_loss<decltype(element)>(of, row / shape.height, int(row % shape.height), x, pixels);
        }
      });
    });
  }
  parallel_for(parallel, shape.images, 1,
               [&](int64_t n) { find_cut(pixels.loss + n * shape.pixels(), of, layout.bins + n * cut_bins, cut[n]); });
  parallel_rows(parallel, shape.images, shape.height, shape.width,
                [&](int64_t n, int y) { layout.row_sum[n * shape.height + y] = sum_row(of, pixels, cut[n], n, y); });
  parallel_for(parallel, shape.images, shape.images, [&](int64_t n) {
    const double* rows = layout.row_sum + n * shape.height;
    loss[n] = mean_loss(rows, shape.height, cut[n]);
  });
}

void semantic_loss_backward(const SemanticLossBackward& of, float* out, void* scratch, const Parallel& parallel) {
  const Shape& shape = of.of.shape;
  if (parallel.simd != Simd::plain && shape.stride <= max_fast_stride) {
    return backward_fast(of, out, lay_out(shape, scratch), parallel);
  }
  with_float_type(of.of.logits.type, [&](auto element) {
    parallel_for(parallel, int64_t(shape.images) * shape.classes * shape.grid_h, 1, [&](int64_t row) {
      const int64_t plane = row / shape.grid_h;
      for (int x = 0; x < shape.grid_w; ++x) {
        out[row * shape.grid_w + x] = gradient_of_node<decltype(element)>(
            of, plane / shape.classes, int(plane % shape.classes), int(row % shape.grid_h), x);
      }
    });
  });
}

}  // namespace deeperlab::cpu
