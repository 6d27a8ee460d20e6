// SPDX-License-Identifier: Apache-2.0
#include "deeperlab/refine.h"

#include "parallel.h"

namespace deeperlab::cpu {

void refine(const View& long_range, const View& short_range, const Shape& shape, int keypoints, const Params& params,
            Point* target, const Parallel& parallel) {
  with_float_type(long_range.type, [&](auto element) {
    using T = decltype(element);
    parallel_rows(parallel, shape.images * keypoints, shape.h, shape.w, [&](int plane, int y) {
      const int n = plane / keypoints, k = plane % keypoints;
      Point* row = target + (int64_t(plane) * shape.h + y) * shape.w;
      for (int x = 0; x < shape.w; ++x) {
        row[x] = refine_node<T>(long_range, short_range, n, k, y, x, shape, params);
      }
    });
  });
}

}  // namespace deeperlab::cpu
