// SPDX-License-Identifier: Apache-2.0
#include "deeperlab/resample.h"

#include "simd/dispatch.h"
#include "simd/number.h"

namespace deeperlab::cpu {
namespace {

// A row of ours, of one channel.
struct Row {
  int64_t n, channel;
  int y;
  float* out;
};

// The plain form.
template <class T>
void resample_row(const Resampling& of, const Row& row) {
  for (int x = 0; x < of.columns(); ++x) {
    row.out[x] = resample_node<T>(of, row.n, row.channel, row.y, x);
  }
}

// The fast form: between the first and the last node of a row all weights are the same.
template <class L, class T, bool dense>
void resample_row_fast(const Resampling& of, const Row& row) {
  using Float = typename L::Float;
  const Plane<T> plane = of.head.plane<T>(row.n, row.channel);
  const BetweenCenters up = between_centers(row.y, of.grid_h, of.stride),
                       left = between_centers(1, of.grid_w, of.stride);
  const T *const at = plane.data + up.node * plane.row, *const above = plane.data + up.before * plane.row;
  const Float left_part = broadcast<Float>(left.before_part), upper_part = broadcast<Float>(up.before_part);
  const float moved = moved_by(of, row.channel, up, left);
  row.out[0] = resample_node<T>(of, row.n, row.channel, row.y, 0);
  row.out[of.grid_w] = resample_node<T>(of, row.n, row.channel, row.y, of.grid_w);
  const auto read = [&](const T* from, int64_t x) {
    return load_floats<Float, dense>(from + x * plane.column, plane.column);
  };
  visit_blocks(of.grid_w - 1, L::count, [&](int64_t x) {
    const CornersOf<Float> corners{read(at, x + 1), read(at, x), read(above, x + 1), read(above, x)};
    store(row.out + x + 1, between_given<Float>(corners, left_part, upper_part, moved));
  });
}

}  // namespace

void resample(const Resampling& of, float* out, const Parallel& parallel) {
  with_float_type(of.head.type, [&](auto element) {
    using T = decltype(element);
    const auto resample_row_of = [&](const Row& row) {
      if (parallel.simd == Simd::plain || of.grid_w <= widest_lanes) {
        return resample_row<T>(of, row);
      }
      with_simd(parallel.simd, [&](auto lanes) {
        with_density(of.head.column == 1,
                     [&](auto dense) { resample_row_fast<decltype(lanes), T, decltype(dense)::value>(of, row); });
      });
    };
    parallel_rows(parallel, of.images * of.channels, of.rows(), of.columns(), [&](int64_t plane, int y) {
      resample_row_of({plane / of.channels, plane % of.channels, y, out + (plane * of.rows() + y) * of.columns()});
    });
  });
}

}  // namespace deeperlab::cpu
