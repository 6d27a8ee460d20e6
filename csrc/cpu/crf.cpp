// SPDX-License-Identifier: Apache-2.0
#include "deeperlab/crf.h"

#include <algorithm>

#include "crf_fast.h"

namespace deeperlab::cpu {
namespace {

// A row of nodes of all classes, as rows of values.
template <class T>
void read_nodes(const Crf& of, int64_t n, int y, int nodes, float* to) {
  const int row = of.row();
  for (int c = 0; c < of.shape.classes; ++c) {
    const Plane<T> plane = of.semantic.plane<T>(n, c);
    for (int x = 0; x < nodes; ++x) {
      to[int64_t(x) * row + c] = plane(y, x);
    }
  }
}

// The scores of the head at every pixel.
template <class T>
void read_scores(const Crf& of, int64_t n, const CrfValues& values, const Parallel& parallel) {
  const Shape& shape = of.shape;
  const int64_t row = of.row();
  const int nodes = std::min(shape.grid_w, (shape.width - 1) / shape.stride + 2);
  parallel_for_with_room(parallel, of.bands(), BandRoom::count(of), [&](int64_t band, int64_t number) {
    float *const upper = values.room + number * values.room_floats, *const lower = upper + nodes * row;
    int read_y = -1;
    const Part first(of, band * of.part_columns());
    for (int y = first.top; y < first.bottom; ++y) {
      const Cell cell = cell_of_pixel(y, 0, shape.stride, shape.grid_h, shape.grid_w);
      if (cell.y != read_y) {
        read_nodes<T>(of, n, cell.y, nodes, upper);
        if (shape.stride > 1) {
          read_nodes<T>(of, n, std::min(cell.y + 1, shape.grid_h - 1), nodes, lower);
        }
        read_y = cell.y;
      }
      with_widths(parallel.simd, [&](auto lanes, auto) {
        for (int x = 0; x < shape.width; ++x) {
          const Cell at = cell_of_pixel(y, x, shape.stride, shape.grid_h, shape.grid_w);
          read_pixel<decltype(lanes)>(of, at, upper, lower, values.unary + of.place(y, x) * row);
        }
      });
    }
  });
}

// Planes [C, H, W] to rows of [P].
void read_values(const Crf& of, int64_t n, float* rows, const Parallel& parallel) {
  const int row = of.row();
  parallel_rows(parallel, 1, of.shape.height, of.shape.width, [&](int64_t, int y) {
    for (int c = 0; c < row; ++c) {
      const bool is_there = c < of.shape.classes;
      const Plane<float> plane = of.semantic.plane<float>(n, is_there ? c : 0);
      for (int x = 0; x < of.shape.width; ++x) {
        rows[of.place(y, x) * row + c] = is_there ? plane(y, x) : 0.0f;
      }
    }
  });
}

void find_lines(const Crf& of, const CrfValues& values, const Parallel& parallel) {
  for (int r = 0; r <= of.half_width; ++r) {
    values.weight[r] = spatial_weight(r, of.curvature);
  }
  const auto find = [&](int length, CrfFactors* factors) {
    parallel_for(parallel, length, 64, [&](int64_t i) {
      factors[i] = crf_factors(spatial_sum(int(i), length, of, values.weight), of.after, of.transposed);
    });
  };
  find(of.shape.width, values.columns);
  find(of.shape.height, values.lines);
}

constexpr int64_t vertices_of_task = 256;

// Adds up the groups of the vertices and blurs them. Returns the result.
float* filter_vertices(const Links& links, int row, const float* groups, float* const (&vertex)[2], bool backwards,
                       const Parallel& parallel) {
  const int64_t tasks = (links.vertices + vertices_of_task - 1) / vertices_of_task;
  const auto visit = [&](const auto& task) {
    parallel_for(parallel, tasks, 1, [&](int64_t i) {
      const int64_t begin = i * vertices_of_task + 1, end = std::min(begin + vertices_of_task, links.vertices + 1);
      with_widths(row > 1 ? parallel.simd : Simd::plain, [&](auto lanes, auto wide) { task(lanes, wide, begin, end); });
    });
  };
  std::fill(vertex[0], vertex[0] + row, 0.0f);
  std::fill(vertex[1], vertex[1] + row, 0.0f);
  visit([&](auto lanes, auto wide, int64_t begin, int64_t end) {
    add_groups<decltype(lanes), decltype(wide)>(links, begin, end, row, groups, vertex[0]);
  });
  for (int i = 0; i < crf_corners; ++i) {
    const int axis = backwards ? crf_features - i : i;
    const float* const from = vertex[i % 2];
    float* const to = vertex[1 - i % 2];
    visit([&](auto lanes, auto wide, int64_t begin, int64_t end) {
      blur_vertices<decltype(lanes), decltype(wide)>(links, axis, begin, end, row, from, to);
    });
  }
  return vertex[crf_corners % 2];
}

// The factors of the lattice's normalization, from its answer to ones.
void normalize_lattice(const Crf& of, const CrfMemory& memory, const Parallel& parallel) {
  const Lattice& lattice = memory.lattice;
  const Links& links = memory.links;
  const CrfValues& values = memory.values;
  const auto end_of = [&](int64_t part) {
    return part + 1 < of.parts() ? Part(of, part + 1).first : of.shape.pixels();
  };
  parallel_for(parallel, of.parts(), 1, [&](int64_t part) {
    float* const group = values.group + lattice.before[part];
    std::fill(group, values.group + lattice.before[part + 1], 0.0f);
    for (int64_t entry = Part(of, part).first * crf_corners; entry < end_of(part) * crf_corners; ++entry) {
      group[lattice.group[entry]] += lattice.weight[entry];
    }
  });
  float* const ones[2] = {values.ones, values.ones + links.vertices + 1};
  const float* const sums = filter_vertices(links, 1, values.group, ones, false, parallel);
  parallel_for(parallel, of.parts(), 1, [&](int64_t part) {
    const int32_t* const vertex_of = links.vertex + lattice.before[part];
    for (int64_t pixel = Part(of, part).first; pixel < end_of(part); ++pixel) {
      float sum = 0.0f;
      for (int64_t entry = pixel * crf_corners; entry < (pixel + 1) * crf_corners; ++entry) {
        sum += lattice.weight[entry] * sums[vertex_of[lattice.group[entry]]];
      }
      const CrfFactors factors = crf_factors(sum, of.after, of.transposed);
      lattice.factors[pixel] = {factors.in, factors.out * of.w1};
    }
  });
}

// The filters of one image.
struct Filters {
  const Crf& of;
  const CrfMemory& memory;
  const Parallel& parallel;
  const CrfValues& values = memory.values;

  void prepare() const {
    if (of.w1 > 0.0f) {
      normalize_lattice(of, memory, parallel);
    }
    if (of.w2 > 0.0f) {
      find_lines(of, values, parallel);
      const int64_t line = of.nodes(of.shape.width) * of.row(), frame = of.reach(of.shape.height) * line;
      for (float* const nodes : values.nodes) {
        float* const end = nodes + of.nodes(of.shape.height) * line;
        std::fill(nodes - frame, nodes, 0.0f);
        std::fill(end, end + frame, 0.0f);
      }
    }
  }

  // An update whose Q is said to the pixels. Returns what they hear; `turn` is 0 and 1 in turns.
  Messages say(Update update, int turn) const {
    update.nodes = of.w2 > 0.0f ? values.nodes[turn] : nullptr;
    update.splats = of.w1 > 0.0f;
    run(update);
    if (update.nodes != nullptr && of.step == 2) {
      add_seams(update.nodes);
    }
    return {update.splats
                ? filter_vertices(memory.links, of.row(), values.group, values.vertex, of.transposed, parallel)
                : nullptr,
            update.nodes};
  }

  void run(const Update& update) const {
    parallel_for_with_room(parallel, of.bands(), BandRoom::count(of), [&](int64_t band, int64_t number) {
      with_widths(parallel.simd, [&](auto lanes, auto wide) {
        update_band<decltype(lanes), decltype(wide)>(of, memory, update, int(band), memory.room(of, number));
      });
    });
  }

  void add_seams(float* nodes) const {
    const int64_t line = of.nodes(of.shape.width) * of.row();
    parallel_for(parallel, of.bands() - 1, 1, [&](int64_t band) {
      float* const first = nodes + (band + 1) * (crf_part_rows / 2) * line;
      const float* const seam = values.seam + band * line;
      for (int64_t i = 0; i < line; ++i) {
        first[i] += seam[i];
      }
    });
  }
};

}  // namespace

int64_t crf_values_bytes(const Crf& of, const CrfCounts& counts) {
  return CrfValues::lay_out(of, counts, nullptr).bytes;
}

void crf(const Crf& of, int64_t n, const CrfBlocks& blocks, float* out, const Parallel& parallel) {
  const CrfMemory memory(of, blocks);
  const Filters filters{of, memory, parallel};
  filters.prepare();
  with_float_type(of.semantic.type,
                  [&](auto element) { read_scores<decltype(element)>(of, n, memory.values, parallel); });
  Update update{};
  update.unary = memory.values.unary;
  update.is_share = true;
  for (int i = 0; i < of.iterations && !parallel.stopped(parallel); ++i) {
    update.heard = filters.say(update, i % 2);
  }
  update.out = out;
  filters.run(update);
}

void crf_filter(const Crf& of, int64_t n, const CrfBlocks& blocks, float* out, const Parallel& parallel) {
  const CrfMemory memory(of, blocks);
  const Filters filters{of, memory, parallel};
  filters.prepare();
  read_values(of, n, memory.values.unary, parallel);
  Update update{};
  update.unary = memory.values.unary;
  update.heard = filters.say(update, 0);
  update.unary = nullptr;
  update.out = out;
  filters.run(update);
}

}  // namespace deeperlab::cpu
