// SPDX-License-Identifier: Apache-2.0
#include "deeperlab/crf.h"

#include <algorithm>
#include <utility>

#include "crf_fast.h"

namespace deeperlab::cpu {
namespace {

// Calls task(band) for bands of rows.
template <class Task>
void visit_bands(const Crf& of, const Parallel& parallel, const Task& task) {
  parallel_for(parallel, (of.shape.height + rows_of_crf_band - 1) / rows_of_crf_band, 1,
               [&](int64_t band) { task(int(band)); });
}

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
  visit_bands(of, parallel, [&](int band) {
    float *const upper = values.room + band * values.room_floats, *const lower = upper + nodes * row;
    int read_y = -1;
    const int end = std::min((band + 1) * rows_of_crf_band, shape.height);
    for (int y = band * rows_of_crf_band; y < end; ++y) {
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

// Rows of [P] to planes [C, H, W].
void write_planes(const Crf& of, const float* rows, float* out, const Parallel& parallel) {
  const int row = of.row();
  parallel_rows(parallel, 1, of.shape.height, of.shape.width, [&](int64_t, int y) {
    const int64_t first = int64_t(y) * of.shape.width;
    for (int c = 0; c < of.shape.classes; ++c) {
      for (int64_t i = first; i < first + of.shape.width; ++i) {
        out[c * of.shape.pixels() + i] = rows[i * row + c];
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

// Splats rows of values and blurs them. Returns the result.
template <class Splat>
float* filter_vertices(const Links& links, int row, float* const (&vertex)[2], bool backwards, const Splat& splat,
                       const Parallel& parallel) {
  const int64_t tasks = (links.vertices + vertices_of_task - 1) / vertices_of_task;
  const auto visit = [&](const auto& task) {
    parallel_for(parallel, tasks, 1, [&](int64_t i) {
      const int64_t begin = i * vertices_of_task + 1;
      task(begin, std::min(begin + vertices_of_task, links.vertices + 1));
    });
  };
  std::fill(vertex[0], vertex[0] + row, 0.0f);
  std::fill(vertex[1], vertex[1] + row, 0.0f);
  visit([&](int64_t begin, int64_t end) { splat(begin, end, vertex[0]); });
  for (int i = 0; i < crf_corners; ++i) {
    const int axis = backwards ? crf_features - i : i;
    const float* const from = vertex[i % 2];
    float* const to = vertex[1 - i % 2];
    visit([&](int64_t begin, int64_t end) {
      with_widths(row > 1 ? parallel.simd : Simd::plain,
                  [&](auto lanes, auto) { blur_vertices<decltype(lanes)>(links, axis, begin, end, row, from, to); });
    });
  }
  return vertex[crf_corners % 2];
}

// The weights of the lattice: those of the simplices times the factors of the kernel's normalization.
void normalize_lattice(const Crf& of, const CrfMemory& memory, const Parallel& parallel) {
  const Lattice& lattice = memory.lattice;
  const Links& links = memory.links;
  const CrfValues& values = memory.values;
  float* const ones[2] = {values.ones, values.ones + links.vertices + 1};
  const float* const sums = filter_vertices(
      links, 1, ones, false,
      [&](int64_t begin, int64_t end, float* to) {
        for (int64_t v = begin; v < end; ++v) {
          to[v] = sum_pieces<float>(lattice, v, [&](float& piece, int32_t i) { piece += lattice.splat[i]; });
        }
      },
      parallel);
  // What a pixel gives has its factor where it is splatted, which is sorted by vertex: kept beside, pixel by pixel.
  float* const give = values.share;
  parallel_rows(parallel, 1, of.shape.height, of.shape.width, [&](int64_t, int y) {
    for (int64_t p = int64_t(y) * of.shape.width; p < int64_t(y + 1) * of.shape.width; ++p) {
      const int32_t* const vertex = lattice.vertex + p * crf_corners;
      float* const slice = lattice.slice + p * crf_corners;
      const CrfFactors factors = crf_factors(slice_row<float>(vertex, slice, sums, 1), of.after, of.transposed);
      give[p] = factors.in;
      for (int k = 0; k < crf_corners; ++k) {
        slice[k] = (slice[k] * factors.out) * of.w1;
      }
    }
  });
  parallel_for(parallel, of.shape.pixels() * crf_corners, 1 << 14,
               [&](int64_t i) { lattice.splat[i] = lattice.splat[i] * give[lattice.pixel[i]]; });
}

// The filters of one image, whose rows of values are read from `share` and whose messages update() adds up.
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
      float* const end = values.across + of.shape.pixels() * of.row();
      std::fill(values.across - of.frame(), values.across, 0.0f);
      std::fill(end, end + of.frame(), 0.0f);
    }
  }

  Messages apply() const {
    Messages messages{};
    const int row = of.row();
    if (of.w1 > 0.0f) {
      const auto splat = [&](int64_t begin, int64_t end, float* to) {
        with_widths(parallel.simd, [&](auto lanes, auto) {
          splat_rows<decltype(lanes)>(memory.lattice, begin, end, row, values.share, to);
        });
      };
      messages.vertices = filter_vertices(memory.links, row, values.vertex, of.transposed, splat, parallel);
    }
    if (of.w2 > 0.0f) {
      visit_bands(of, parallel, [&](int band) {
        with_widths(parallel.simd, [&](auto lanes, auto wide) {
          if (int64_t(of.shape.width) * row >= decltype(wide)::count) {
            filter_across<decltype(wide)>(of, values, band);
          } else {
            filter_across<decltype(lanes)>(of, values, band);
          }
        });
      });
      messages.across = values.across;
    }
    return messages;
  }

  void update(const Messages& messages, const float* unary) const {
    visit_bands(of, parallel, [&](int band) {
      with_widths(parallel.simd, [&](auto lanes, auto wide) {
        update_band<decltype(lanes), decltype(wide)>(of, memory, messages, band, unary);
      });
    });
  }
};

}  // namespace

int64_t crf_values_bytes(const Crf& of, int64_t vertices) { return CrfValues::lay_out(of, vertices, nullptr).bytes; }

void crf(const Crf& of, int64_t n, const CrfBlocks& blocks, float* out, const Parallel& parallel) {
  const CrfMemory memory(of, blocks);
  const Filters filters{of, memory, parallel};
  filters.prepare();
  with_float_type(of.semantic.type,
                  [&](auto element) { read_scores<decltype(element)>(of, n, memory.values, parallel); });
  filters.update({}, memory.values.unary);
  for (int i = 0; i < of.iterations && !parallel.stopped(parallel); ++i) {
    filters.update(filters.apply(), memory.values.unary);
  }
  write_planes(of, memory.values.share, out, parallel);
}

void crf_filter(const Crf& of, int64_t n, const CrfBlocks& blocks, float* out, const Parallel& parallel) {
  const CrfMemory memory(of, blocks);
  const Filters filters{of, memory, parallel};
  filters.prepare();
  read_values(of, n, memory.values.share, parallel);
  filters.update(filters.apply(), nullptr);
  write_planes(of, memory.values.share, out, parallel);
}

}  // namespace deeperlab::cpu
