// SPDX-License-Identifier: Apache-2.0
#include "deeperlab/merge.h"

#include <algorithm>

#include "cells.h"
#include "deeperlab/problem.h"
#include "deeperlab/scratch.h"

namespace deeperlab::cpu {
namespace {

// The rows of an image are counted in so many bands, each on its own; their sums do not depend on who did which.
constexpr int bands = 8;

struct Layout {
  int32_t* ballots;  // [N, M + 1, C] votes for the class of an instance
  int32_t* areas;    // [N, bands, M + 1] pixels of each instance
  int32_t* orphans;  // [N, bands, C] pixels of no instance, by class
  int64_t bytes;
};

Layout lay_out(const Problem& problem, void* block) {
  Scratch scratch(block);
  const Shape& shape = problem.shape;
  const int64_t images = shape.images, places = problem.params.max_instances + 1;
  int32_t* ballots = scratch.take<int32_t>(images * places * shape.classes);
  int32_t* areas = scratch.take<int32_t>(images * bands * places);
  int32_t* orphans = scratch.take<int32_t>(images * bands * shape.classes);
  return {ballots, areas, orphans, scratch.bytes()};
}

// Smallest class with the most votes, -1 where nobody voted.
int32_t winner(const int32_t* votes, int classes) {
  const int32_t* most = std::max_element(votes, votes + classes);
  return *most > 0 ? int32_t(most - votes) : -1;
}

// Votes of the thing nodes of an image for the classes of their instances.
void cast_ballots(const NodeMaps& maps, const Nodes& nodes, int64_t n, const Instances& found, const Problem& problem,
                  int32_t* ballots) {
  const Shape& shape = problem.shape;
  const Params& params = problem.params;
  const int keypoint_count = problem.keypoints();
  const Point* keypoints = found.keypoints + n * params.max_instances * keypoint_count;
  for (int64_t y = n * shape.grid_h; y < (n + 1) * shape.grid_h; ++y) {
    for (int64_t i = y * shape.grid_w; i < y * shape.grid_w + nodes.count[y]; ++i) {
      const int64_t node = y * shape.grid_w + nodes.column[i];
      const int32_t j = maps.instance[node], label = maps.label[node];
      if (j > 0 && problem.things->has(label)) {
        const Box box = box_of(keypoints + int64_t(j - 1) * keypoint_count, keypoint_count);
        if (fits(maps.distance[node], box.area(), keypoint_count, params.radius, params)) {
          ++ballots[int64_t(j) * shape.classes + label];
        }
      }
    }
  }
}

// What a band of rows counts and writes. An instance's class is `decided` by nodes (-1: not yet).
struct Band {
  const int32_t* label;     // [H, W]
  const int32_t* instance;  // [H, W]
  const int32_t* decided;   // [M]
  int32_t* semantic;        // [H, W]; may be `label`
  int32_t* areas;           // [M + 1]
  int32_t* orphans;         // [C]

  void count(int32_t pixel_label, int32_t j, int32_t pixels) const {
    areas[j] += pixels;
    if (j == 0 && pixel_label >= 0) {
      orphans[pixel_label] += pixels;
    }
  }

  int32_t final_label(int32_t pixel_label, int32_t j) const {
    return j > 0 && decided[j - 1] >= 0 ? decided[j - 1] : pixel_label;
  }

  // The plain form.
  void merge_run(int64_t begin, int64_t length) const {
    for (int64_t i = begin; i < begin + length; ++i) {
      const int32_t pixel_label = label[i], j = instance[i];
      count(pixel_label, j, 1);
      semantic[i] = final_label(pixel_label, j);
    }
  }
};

// The fast form, in place: runs of cells with one label and one instance are counted together, and written only where
// the class changes.
template <class L>
struct CellMerger {
  using Int = typename L::Int;

  const Shape& shape;
  const Band& band;
  const NodeMaps nodes;  // [h, w]

  // A whole cell of several labels or instances: the pixels that share both are counted together.
  void merge_cell(int y, int x) const {
    const int s = shape.stride, count = s * s;
    const int64_t first = int64_t(y) * s * shape.width + int64_t(x) * s;
    int32_t label[max_cell_pixels], instance[max_cell_pixels];
    if (s != 4) {
      read_cell(shape, y, x, band.label, label);
      read_cell(shape, y, x, band.instance, instance);
    }
    for (int i = 0; i < count; i += L::count) {
      Int labels, instances;
      if (s == 4) {
        const int64_t row = first + int64_t(i / 4) * shape.width;
        load_rows(band.label + row, shape.width, labels);
        load_rows(band.instance + row, shape.width, instances);
        store(label + i, labels);
        store(instance + i, instances);
      } else {
        labels = load<Int>(label + i), instances = load<Int>(instance + i);
      }
      for (uint32_t rest = all_bits<Int> >> std::max(0, L::count - (count - i)); rest != 0;) {
        const int lane = __builtin_ctz(rest);
        const int32_t pixel_label = label[i + lane], j = instance[i + lane], last = band.final_label(pixel_label, j);
        const uint32_t same =
            rest & bits_of(equal(labels, broadcast<Int>(pixel_label)) & equal(instances, broadcast<Int>(j)));
        band.count(pixel_label, j, __builtin_popcount(same));
        for (uint32_t todo = last != pixel_label ? same : 0; todo != 0; todo &= todo - 1) {
          const int pixel = i + __builtin_ctz(todo);
          band.semantic[first + int64_t(pixel / s) * shape.width + pixel % s] = last;
        }
        rest &= ~same;
      }
    }
  }

  void merge_row(int y) const {
    const CellRow rows(shape, y);
    const int w = shape.grid_w, s = shape.stride;
    const auto merge_pixels = [&](int begin, int end) {  // columns
      for (int i = rows.begin; i < rows.end; ++i) {
        band.merge_run(int64_t(i) * shape.width + begin, end - begin);
      }
    };
    if (y == shape.grid_h - 1 || rows.begin >= rows.end) {
      return merge_pixels(0, shape.width);
    }
    const int32_t* labels = nodes.label + int64_t(y) * w;
    const int32_t* instances = nodes.instance + int64_t(y) * w;
    const auto merge_cells = [&](int x, int cells) {  // of one label; where that is a thing, of one instance
      const int32_t cell_label = labels[x];
      const int begin = std::min(x * s, shape.width), end = std::min((x + cells) * s, shape.width);
      const int64_t first = int64_t(rows.begin) * shape.width + begin;
      if (begin < end) {
        const int32_t j = band.instance[first], last = band.final_label(cell_label, j);
        band.count(cell_label, j, (end - begin) * (rows.end - rows.begin));
        for (int i = rows.begin; i < rows.end && last != cell_label; ++i) {
          std::fill(band.semantic + int64_t(i) * shape.width + begin, band.semantic + int64_t(i) * shape.width + end,
                    last);
        }
      }
    };
    int64_t done = 0;
    visit_blocks(w - 1, L::count, [&](int64_t x) {
      const uint32_t uniform = alike_cells<L>(labels + x, w) & alike_cells<L>(instances + x, w);
      for (int i = int(done - x), next; i < L::count; i = next) {
        next = i + 1;
        const int cell = int(x) + i;
        if (uniform >> i & 1u) {  // neighbors that are uniform too share its corners, and so their values
          next = std::min(i + __builtin_ctz(~(uniform >> i)), L::count);
          merge_cells(cell, next - i);
        } else if (rows.end - rows.begin == s && rows.width_of(shape, cell) == s) {
          merge_cell(y, cell);
        } else {
          merge_pixels(std::min(cell * s, shape.width), std::min((cell + 1) * s, shape.width));
        }
      }
      done = x + L::count;
    });
    merge_pixels(rows.past, shape.width);
  }
};

// Calls task(i) for every pixel of an instance without a category. Where node_instance is known to be what pixels have
// their instance from, only cells with such a corner are looked at.
template <class Task>
void visit_undecided(const Shape& shape, const int32_t* instance, const int32_t* node_instance, const int32_t* category,
                     const Parallel& parallel, const Task& task) {
  const auto undecided = [&](int32_t j) { return j > 0 && category[j - 1] < 0; };
  const auto visit_rows = [&](int begin, int end, int left, int right) {
    for (int y = begin; y < end && !parallel.stopped(parallel); ++y) {
      for (int64_t i = int64_t(y) * shape.width + left; i < int64_t(y) * shape.width + right; ++i) {
        if (undecided(instance[i])) {
          task(i);
        }
      }
    }
  };
  if (node_instance == nullptr) {
    return visit_rows(0, shape.height, 0, shape.width);
  }
  for (int y = 0; y < shape.grid_h; ++y) {
    const CellRow rows(shape, y);
    const int32_t* above = node_instance + int64_t(y) * shape.grid_w;
    const int32_t* below = y + 1 < shape.grid_h ? above + shape.grid_w : above;
    bool here = false;  // of this column of nodes
    for (int x = shape.grid_w - 1; x >= 0; --x) {
      const bool next = here;
      here = undecided(above[x]) || undecided(below[x]);
      if (here || next) {
        const int left = std::min(x * shape.stride, shape.width);
        visit_rows(rows.begin, rows.end, left, x == shape.grid_w - 1 ? shape.width : left + rows.width_of(shape, x));
      }
    }
  }
}

}  // namespace

int64_t merge_scratch_bytes(const Problem& problem) { return lay_out(problem, nullptr).bytes; }

void merge(const PixelMaps& pixels, const NodeMaps& maps, const Nodes& nodes, const Problem& problem,
           const Panoptic& out, void* scratch, const Parallel& parallel) {
  const Shape& shape = problem.shape;
  const Params& params = problem.params;
  const int64_t places = params.max_instances, classes = shape.classes;
  const Layout layout = lay_out(problem, scratch);
  const bool in_place = out.semantic == pixels.label;
  const bool fast = parallel.simd != Simd::plain && maps.rule_pixels && in_place && has_fast_cells(shape);

  parallel_for(parallel, shape.images, 1, [&](int64_t n) {
    int32_t* ballots = layout.ballots + n * (places + 1) * classes;
    std::fill(ballots, ballots + (out.found.count[n] + 1) * classes, 0);
    if (!params.majority_all) {
      cast_ballots(maps, nodes, n, out.found, problem, ballots);
    }
    for (int64_t j = 0; j < places; ++j) {
      out.category[n * places + j] = j < out.found.count[n] ? winner(ballots + (j + 1) * classes, int(classes)) : -1;
    }
  });

  parallel_for(parallel, int64_t(shape.images) * bands, 1, [&](int64_t task) {
    const int64_t n = task / bands, index = task % bands;
    const PixelMaps image = pixels.image(shape, n);
    const Band band{image.label,
                    image.instance,
                    out.category + n * places,
                    out.semantic + n * shape.pixels(),
                    layout.areas + task * (places + 1),
                    layout.orphans + task * classes};
    std::fill(band.areas, band.areas + places + 1, 0);
    std::fill(band.orphans, band.orphans + classes, 0);
    if (fast) {
      with_simd(parallel.simd, [&](auto lanes) {
        const CellMerger<decltype(lanes)> merger{shape, band, maps.image(shape, n)};
        for (int64_t y = shape.grid_h * index / bands; y < shape.grid_h * (index + 1) / bands; ++y) {
          merger.merge_row(int(y));
        }
      });
    } else {
      const int64_t begin = shape.height * index / bands, end = shape.height * (index + 1) / bands;
      band.merge_run(begin * shape.width, (end - begin) * shape.width);
    }
  });

  parallel_for(parallel, shape.images, 1, [&](int64_t n) {
    int32_t* ballots = layout.ballots + n * (places + 1) * classes;
    const auto total = [&](const int32_t* counts, int64_t length, int64_t i) {
      int32_t sum = 0;
      for (int band = 0; band < bands; ++band) {
        sum += counts[(n * bands + band) * length + i];
      }
      return sum;
    };
    bool undecided = false;
    for (int64_t j = 1; j <= places; ++j) {
      int32_t& category = out.category[n * places + j - 1];
      int32_t& area = out.area[n * places + j - 1];
      area = total(layout.areas, places + 1, j);
      undecided = undecided || (area > 0 && category < 0);
      category = area > 0 ? category : -1;
    }
    if (undecided) {  // where no node had a vote, all pixels do
      int32_t* const category = out.category + n * places;
      const int32_t* const area = out.area + n * places;
      const PixelMaps image = pixels.image(shape, n);
      const auto visit = [&](const auto& task) {
        visit_undecided(shape, image.instance, fast ? maps.image(shape, n).instance : nullptr, category, parallel,
                        task);
      };
      visit([&](int64_t i) {
        const int32_t j = image.instance[i], label = image.label[i];
        ballots[j * classes + std::max(label, 0)] += problem.things->has(label);
      });
      int32_t* const late = layout.areas + n * bands * (places + 1);  // added up by now
      for (int64_t j = 1; j <= places; ++j) {
        late[j] = area[j - 1] > 0 && category[j - 1] < 0 ? winner(ballots + j * classes, int(classes)) : -1;
      }
      visit([&](int64_t i) { out.semantic[n * shape.pixels() + i] = late[image.instance[i]]; });
      for (int64_t j = 1; j <= places; ++j) {
        category[j - 1] = category[j - 1] < 0 ? late[j] : category[j - 1];
      }
    }
    for (int64_t c = 0; c < classes; ++c) {
      out.class_area[n * classes + c] = total(layout.orphans, classes, c);
    }
  });
}

}  // namespace deeperlab::cpu
