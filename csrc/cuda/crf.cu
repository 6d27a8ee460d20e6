// SPDX-License-Identifier: Apache-2.0
#include "deeperlab/crf.h"

#include "crf.cuh"

namespace deeperlab::cuda {
namespace {

// Rows of values are shared by 2^shift threads, each of which has one class of so many.
__device__ int64_t row_index(int shift) { return thread_index() >> shift; }

int shift_for(int classes) {
  int shift = 0;
  for (; shift < 5 && (1 << shift) < classes; ++shift) {
  }
  return shift;
}

// Over rows of `classes` floats; the kernel's first parameters are these and the shift.
template <class... Parameters, class... Arguments>
void launch_rows(void (*kernel)(Parameters...), int64_t rows, int classes, Stream stream,
                 const Arguments&... arguments) {
  const int shift = shift_for(classes);
  launch(kernel, blocks_for(rows << shift, block), stream, classes, shift, arguments...);
}

// What pixels say to the pieces of the vertices; without `rows`, ones.
__global__ void splat_pieces(int classes, int shift, CrfLattice lattice, CrfLinks links, const float* rows, float* to) {
  const int64_t piece = row_index(shift);
  if (piece >= links.pieces) {
    return;
  }
  for (int c = int(threadIdx.x) & ((1 << shift) - 1); c < classes; c += 1 << shift) {
    float sum = 0.0f;
    for (int32_t i = links.piece[piece]; i < links.piece[piece + 1]; ++i) {
      const int32_t pixel = lattice.pixel[i];
      const float said = rows == nullptr ? 1.0f : rows[int64_t(pixel) * classes + c] * lattice.factors[pixel].in;
      sum = sum + lattice.splat[i] * said;
    }
    to[piece * classes + c] = sum;
  }
}

// The sums of vertices from those of their pieces.
__global__ void add_pieces(int classes, int shift, CrfLinks links, const float* pieces, float* to) {
  const int64_t vertex = row_index(shift);
  if (vertex > links.vertices) {
    return;
  }
  for (int c = int(threadIdx.x) & ((1 << shift) - 1); c < classes; c += 1 << shift) {
    float sum = 0.0f;
    for (int32_t i = vertex == 0 ? 0 : links.first_piece[vertex - 1]; vertex > 0 && i < links.first_piece[vertex];
         ++i) {
      sum = sum + pieces[int64_t(i) * classes + c];
    }
    to[vertex * classes + c] = sum;
  }
}

__global__ void blur_vertices(int classes, int shift, CrfLinks links, int axis, const float* from, float* to) {
  const int64_t vertex = row_index(shift);
  if (vertex > links.vertices) {
    return;
  }
  for (int c = int(threadIdx.x) & ((1 << shift) - 1); c < classes; c += 1 << shift) {
    float sum = 0.0f;
    if (vertex > 0) {
      const int32_t* const beside = links.of(axis, vertex);
      sum = blur(from[vertex * classes + c], from[int64_t(beside[0]) * classes + c],
                 from[int64_t(beside[1]) * classes + c]);
    }
    to[vertex * classes + c] = sum;
  }
}

// What the corners of a pixel say to it of class c.
__device__ float slice(const CrfLattice& lattice, int64_t pixel, const float* rows, int classes, int c) {
  float sum = 0.0f;
  for (int64_t i = pixel * crf_corners; i < (pixel + 1) * crf_corners; ++i) {
    sum = sum + lattice.slice[i] * rows[int64_t(lattice.vertex[i]) * classes + c];
  }
  return sum;
}

// The factors of the lattice's normalization, from its answer to ones. A pixel a thread.
__global__ void normalize_lattice(Crf of, CrfLattice lattice, const float* sums) {
  const int64_t pixel = thread_index();
  if (pixel < of.shape.pixels()) {
    const CrfFactors factors = crf_factors(slice(lattice, pixel, sums, 1, 0), of.after, of.transposed);
    lattice.factors[pixel] = {factors.in, factors.out * of.w1};
  }
}

__global__ void find_weights(Crf of, CrfRows rows) {
  const int64_t i = thread_index();
  if (i <= of.half_width) {
    rows.weight[i] = spatial_weight(int(i), of.curvature);
  }
}

// One column or line a thread.
__global__ void find_factors(Crf of, CrfRows rows) {
  const int64_t i = thread_index(), line = i - of.shape.width;
  if (line >= of.shape.height) {
    return;
  }
  const int at = int(line < 0 ? i : line), length = line < 0 ? of.shape.width : of.shape.height;
  (line < 0 ? rows.columns : rows.lines)[at] =
      crf_factors(spatial_sum(at, length, of, rows.weight), of.after, of.transposed);
}

// The scores of the head at a pixel, a thread each. Once a call: not worth four times the code.
__global__ void read_scores(Crf of, int64_t n, float* rows) {
  const int64_t pixel = thread_index();
  if (pixel >= of.shape.pixels()) {
    return;
  }
  const Shape& shape = of.shape;
  const int y = int(pixel / shape.width), x = int(pixel % shape.width);
  const Between at = between_corners(cell_of_pixel(y, x, shape.stride, shape.grid_h, shape.grid_w), shape.stride);
  float* const row = rows + pixel * shape.classes;
  float most = -infinity;
#pragma unroll 1
  for (int c = 0; c < shape.classes; ++c) {
    row[c] = crf_score(sample(of.semantic.plane<AnyFloat>(n, c), at), of.probable);
    most = maximum(most, row[c]);
  }
#pragma unroll 1
  for (int c = 0; c < shape.classes; ++c) {
    row[c] = maximum(row[c] - most, 4.0f * least_crf_score);
  }
}

// Planes [C, H, W] to rows of [P], a pixel a thread, so that threads side by side read side by side.
__global__ void read_values(Crf of, int64_t n, float* rows) {
  const int64_t pixel = thread_index();
  for (int c = 0; pixel < of.shape.pixels() && c < of.shape.classes; ++c) {
    rows[pixel * of.shape.classes + c] =
        of.semantic.plane<float>(n, c)(int(pixel / of.shape.width), int(pixel % of.shape.width));
  }
}

// Rows of [P] to planes [C, H, W], likewise.
__global__ void write_planes(Shape shape, const float* rows, float* out) {
  const int64_t pixel = thread_index();
  for (int c = 0; pixel < shape.pixels() && c < shape.classes; ++c) {
    out[c * shape.pixels() + pixel] = rows[pixel * shape.classes + c];
  }
}

// The node of a row of values, and whether there is one.
struct Node {
  int y, x;
  int64_t line;  // nodes
  bool exists;

  __device__ Node(const Crf& of, int64_t row) : line(of.nodes(of.shape.width)) {
    y = int(row / line);
    x = int(row % line);
    exists = y < of.nodes(of.shape.height);
  }
};

// What the pixels give to a node.
__global__ void give_nodes(int classes, int shift, Crf of, CrfRows rows) {
  const int64_t row = row_index(shift);
  const Node node(of, row);
  const Shape& shape = of.shape;
  for (int c = int(threadIdx.x) & ((1 << shift) - 1); node.exists && c < classes; c += 1 << shift) {
    rows.nodes[0][row * classes + c] = give_node<float>(node.y, of.step, shape.height, [&](int y, float part_of_line) {
      const float* const line = rows.share + int64_t(y) * shape.width * classes + c;
      const float given = give_node<float>(node.x, of.step, shape.width, [&](int x, float part) {
        return line[int64_t(x) * classes] * (rows.columns[x].in * part);
      });
      return given * (rows.lines[y].in * part_of_line);
    });
  }
}

// Nodes filtered along y, to nodes[1], or along x, to nodes[0].
__global__ void filter_nodes(int classes, int shift, Crf of, CrfRows rows, bool down) {
  const int64_t row = row_index(shift);
  const Node node(of, row);
  const int at = down ? node.y : node.x, count = of.nodes(down ? of.shape.height : of.shape.width);
  const int64_t step = (down ? node.line : 1) * classes;
  for (int c = int(threadIdx.x) & ((1 << shift) - 1); node.exists && c < classes; c += 1 << shift) {
    const float* const here = rows.nodes[down ? 0 : 1] + row * classes + c;
    rows.nodes[down ? 1 : 0][row * classes + c] =
        filter_line<float>(rows.weight, minimum(of.half_width, count - 1),
                           [&](int r) { return at + r < 0 || at + r >= count ? 0.0f : here[r * step]; });
  }
}

// Which kernels speak to the pixels.
struct Messages {
  bool vertices, nodes;
};

// Q of a pixel; without `unary` what is said to it alone. All lanes of a warp come to all of it.
__global__ void update(int classes, int shift, Crf of, CrfLattice lattice, CrfRows rows, Messages messages,
                       const float* unary) {
  const Shape& shape = of.shape;
  const int64_t pixel = row_index(shift), line = int64_t(of.nodes(shape.width)) * classes;
  const int step = 1 << shift, own = lane_index() & (step - 1);
  const int end = pixel < shape.pixels() ? classes : 0;
  const int y = int(pixel / shape.width), x = int(pixel % shape.width);
  float* const q = rows.share + pixel * classes;
  float most = -infinity;
  for (int c = own; c < end; c += step) {
    float score = unary == nullptr ? 0.0f : unary[pixel * classes + c];
    if (messages.nodes) {
      const float said = hear_nodes<float>(x, of.step, [&](int i) {
        return hear_nodes<float>(y, of.step, [&](int k) { return rows.nodes[0][k * line + int64_t(i) * classes + c]; });
      });
      score = score + said * (rows.columns[x].out * (rows.lines[y].out * of.w2));
    }
    if (messages.vertices) {
      score = score + slice(lattice, pixel, rows.vertex[0], classes, c) * lattice.factors[pixel].out;
    }
    q[c] = score;
    most = maximum(most, score);
  }
  if (unary == nullptr) {
    return;
  }
  for (int offset = step / 2; offset > 0; offset /= 2) {
    most = maximum(most, __shfl_xor_sync(all_lanes, most, offset));
  }
  // Eight sums, of every eighth class each, as the vectors of the CPU have them, and then theirs.
  float sum = 0.0f;
  for (int first = 0; first < classes; first += step) {
    const int c = first + own;
    float share = 0.0f;
    if (c < end) {
      share = q[c] = crf_share(q[c] - most);
    }
    for (int k = 0; k < step; k += crf_group) {
      sum = sum + __shfl_sync(all_lanes, share, lane_index() - own + k + own % crf_group);
    }
  }
  for (int offset = crf_group / 2; offset > 0; offset /= 2) {
    sum = sum + __shfl_xor_sync(all_lanes, sum, offset);
  }
  const float factor = 1.0f / sum;
  for (int c = own; c < end; c += step) {
    q[c] = q[c] * factor;
  }
}

// The filters of one image, whose rows of values are read from `share`.
struct Filters {
  const Crf& of;
  Stream stream;
  CrfLattice lattice;
  CrfLinks links;
  CrfRows rows;
  Messages messages;

  Filters(const Crf& call, const CrfBlocks& blocks, Stream given)
      : of(call),
        stream(given),
        lattice(CrfLattice::lay_out(of, blocks.lattice)),
        links(CrfLinks::lay_out(blocks.counts, blocks.links)),
        rows(CrfRows::lay_out(of, links, blocks.values)),
        messages{of.w1 > 0.0f, of.w2 > 0.0f} {
    const int64_t pixels = blocks_for(of.shape.pixels(), block);
    if (messages.vertices) {
      filter_vertices(1, nullptr, false);
      launch(normalize_lattice, pixels, stream, of, lattice, rows.vertex[0]);
    }
    if (messages.nodes) {
      launch(find_weights, blocks_for(of.half_width + 1, block), stream, of, rows);
      launch(find_factors, blocks_for(of.shape.width + of.shape.height, block), stream, of, rows);
    }
  }

  // Splats rows of values and blurs them, into rows.vertex[0].
  void filter_vertices(int classes, const float* values, bool backwards) const {
    launch_rows(splat_pieces, links.pieces, classes, stream, lattice, links, values, rows.vertex[1]);
    launch_rows(add_pieces, links.vertices + 1, classes, stream, links, rows.vertex[1], rows.vertex[0]);
    for (int i = 0; i < crf_corners; ++i) {
      launch_rows(blur_vertices, links.vertices + 1, classes, stream, links, backwards ? crf_features - i : i,
                  rows.vertex[i % 2], rows.vertex[1 - i % 2]);
    }
  }

  void apply() const {
    if (messages.vertices) {
      filter_vertices(of.shape.classes, rows.share, of.transposed);
    }
    if (messages.nodes) {
      const int64_t nodes = int64_t(of.nodes(of.shape.height)) * of.nodes(of.shape.width);
      launch_rows(give_nodes, nodes, of.shape.classes, stream, of, rows);
      launch_rows(filter_nodes, nodes, of.shape.classes, stream, of, rows, true);
      launch_rows(filter_nodes, nodes, of.shape.classes, stream, of, rows, false);
    }
  }

  void update_pixels(const Messages& heard, const float* unary) const {
    const int shift = maximum(shift_for(of.shape.classes), 3);  // a group of eight or more
    launch(update, blocks_for(of.shape.pixels() << shift, block), stream, of.shape.classes, shift, of, lattice, rows,
           heard, unary);
  }

  void write(float* out) const {
    launch(write_planes, blocks_for(of.shape.pixels(), block), stream, of.shape, rows.share, out);
  }
};

}  // namespace

int64_t crf_lattice_bytes(const Crf& of) { return CrfLattice::lay_out(of, nullptr).bytes; }
int64_t crf_links_bytes(const Crf&, const CrfCounts& counts) { return CrfLinks::lay_out(counts, nullptr).bytes; }
int64_t crf_values_bytes(const Crf& of, const CrfCounts& counts) {
  return CrfRows::lay_out(of, CrfLinks::lay_out(counts, nullptr), nullptr).bytes;
}

const char* crf(const Crf& of, int64_t n, const CrfBlocks& blocks, float* out, Stream stream) {
  cudaGetLastError();  // of somebody else
  const Filters filters(of, blocks, stream);
  launch(read_scores, blocks_for(of.shape.pixels(), block), stream, of, n, filters.rows.unary);
  filters.update_pixels({}, filters.rows.unary);
  for (int i = 0; i < of.iterations; ++i) {
    filters.apply();
    filters.update_pixels(filters.messages, filters.rows.unary);
  }
  filters.write(out);
  return explain(cudaGetLastError());
}

const char* crf_filter(const Crf& of, int64_t n, const CrfBlocks& blocks, float* out, Stream stream) {
  cudaGetLastError();  // of somebody else
  const Filters filters(of, blocks, stream);
  launch(read_values, blocks_for(of.shape.pixels(), block), stream, of, n, filters.rows.share);
  filters.apply();
  filters.update_pixels(filters.messages, nullptr);
  filters.write(out);
  return explain(cudaGetLastError());
}

}  // namespace deeperlab::cuda
