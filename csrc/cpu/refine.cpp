// SPDX-License-Identifier: Apache-2.0
#include "deeperlab/refine.h"

#include "parallel.h"

namespace deeperlab::cpu {

void refine(const View& long_range, const View& short_range, const Shape& shape, int keypoints, const Params& params,
            Point* target, const Parallel& parallel) {
  with_float_type(long_range.type, [&](auto element) {
    using T = decltype(element);
    parallel_rows(parallel, int64_t(shape.images) * keypoints, shape.h, shape.w, [&](int64_t plane, int y) {
      const int64_t n = plane / keypoints;
      const int k = int(plane % keypoints);
      Point* row = target + (plane * shape.h + y) * shape.w;
      for (int x = 0; x < shape.w; ++x) {
        row[x] = refine_node<T>(long_range, short_range, n, k, y, x, shape, params);
      }
    });
  });
}

}  // namespace deeperlab::cpu
