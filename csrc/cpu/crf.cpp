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
  const Tasks tasks(of);
  parallel_for(parallel, tasks.bands, 1, [&](int64_t band) {
    float *const upper = values.room + band * tasks.strips * tasks.room_floats, *const lower = upper + nodes * row;
    int read_y = -1;
    const int top = int(band) * Tasks::band_rows;
    for (int y = top; y < std::min(top + Tasks::band_rows, shape.height); ++y) {
      float* const line = values.unary + int64_t(y) * shape.width * row;
      const Cell first = cell_of_pixel(y, 0, shape.stride, shape.grid_h, shape.grid_w);
      if (first.y != read_y) {
        read_nodes<T>(of, n, first.y, nodes, upper);
        if (shape.stride > 1) {
          read_nodes<T>(of, n, std::min(first.y + 1, shape.grid_h - 1), nodes, lower);
        }
        read_y = first.y;
      }
      with_widths(parallel.simd, [&](auto lanes, auto) {
        for (int x = 0; x < shape.width; ++x) {
          const Cell cell = cell_of_pixel(y, x, shape.stride, shape.grid_h, shape.grid_w);
          read_pixel<decltype(lanes)>(of, cell, upper, lower, line + x * row);
        }
      });
    }
  });
}

// Planes [C, H, W] to rows of [P].
void read_values(const Crf& of, int64_t n, float* rows, const Parallel& parallel) {
  const int row = of.row();
  parallel_rows(parallel, 1, of.shape.height, of.shape.width, [&](int64_t, int y) {
    float* const line = rows + int64_t(y) * of.shape.width * row;
    for (int c = 0; c < row; ++c) {
      const bool is_there = c < of.shape.classes;
      const Plane<float> plane = of.semantic.plane<float>(n, is_there ? c : 0);
      for (int64_t x = 0; x < of.shape.width; ++x) {
        line[x * row + c] = is_there ? plane(y, int(x)) : 0.0f;
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
      with_widths(row > 1 ? parallel.simd : Simd::plain, [&](auto lanes, auto) { task(lanes, begin, end); });
    });
  };
  std::fill(vertex[0], vertex[0] + row, 0.0f);
  std::fill(vertex[1], vertex[1] + row, 0.0f);
  visit([&](auto lanes, int64_t begin, int64_t end) {
    add_groups<decltype(lanes)>(links, begin, end, row, groups, vertex[0]);
  });
  for (int i = 0; i < crf_corners; ++i) {
    const int axis = backwards ? crf_features - i : i;
    const float* const from = vertex[i % 2];
    float* const to = vertex[1 - i % 2];
    visit([&](auto lanes, int64_t begin, int64_t end) {
      blur_vertices<decltype(lanes)>(links, axis, begin, end, row, from, to);
    });
  }
  return vertex[crf_corners % 2];
}

// The weights of the lattice: those of the simplices times the factors of the kernel's normalization.
void normalize_lattice(const Crf& of, const CrfMemory& memory, const Parallel& parallel) {
  const Lattice& lattice = memory.lattice;
  const Links& links = memory.links;
  const CrfValues& values = memory.values;
  // Calls visit(entry, group) for those of a part, pixel by pixel.
  const auto visit_entries = [&](int64_t part, const auto& visit) {
    const int top = of.top(part), left = of.left(part);
    for (int y = top; y < std::min(top + crf_part_rows, of.shape.height); ++y) {
      for (int x = left; x < std::min(left + crf_part_columns, of.shape.width); ++x) {
        const int64_t entry = (int64_t(y) * of.shape.width + x) * crf_corners;
        visit(entry);
      }
    }
  };
  parallel_for(parallel, of.parts(), 1, [&](int64_t part) {
    float* const group = values.group + lattice.before[part];
    std::fill(group, values.group + lattice.before[part + 1], 0.0f);
    visit_entries(part, [&](int64_t entry) {
      for (int k = 0; k < crf_corners; ++k) {
        group[lattice.group[entry + k]] += lattice.slice[entry + k];
      }
    });
  });
  float* const ones[2] = {values.ones, values.ones + links.vertices + 1};
  const float* const sums = filter_vertices(links, 1, values.group, ones, false, parallel);
  parallel_for(parallel, of.parts(), 1, [&](int64_t part) {
    const int32_t* const vertex_of = links.vertex + lattice.before[part];
    visit_entries(part, [&](int64_t entry) {
      float sum = 0.0f;
      for (int k = 0; k < crf_corners; ++k) {
        sum += lattice.slice[entry + k] * sums[vertex_of[lattice.group[entry + k]]];
      }
      const CrfFactors factors = crf_factors(sum, of.after, of.transposed);
      for (int k = 0; k < crf_corners; ++k) {
        const float weight = lattice.slice[entry + k];
        lattice.splat[entry + k] = weight * factors.in;
        lattice.slice[entry + k] = (weight * factors.out) * of.w1;
      }
    });
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
      for (float* const across : values.across) {
        float* const end = across + of.shape.pixels() * of.row();
        std::fill(across - of.frame(), across, 0.0f);
        std::fill(end, end + of.frame(), 0.0f);
      }
    }
  }

  // An update whose Q is said to the pixels. Returns what they hear; `turn` is 0 and 1 in turns.
  Messages say(Update update, int turn) const {
    update.across = values.across[turn];
    update.splats = of.w1 > 0.0f;
    run(update);
    return {update.splats
                ? filter_vertices(memory.links, of.row(), values.group, values.vertex, of.transposed, parallel)
                : nullptr,
            update.across};
  }

  void run(const Update& update) const {
    const Tasks tasks(of);
    parallel_for(parallel, tasks.count(), 1, [&](int64_t task) {
      with_widths(parallel.simd, [&](auto lanes, auto wide) {
        update_task<decltype(lanes), decltype(wide)>(of, memory, update, tasks, task);
      });
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
