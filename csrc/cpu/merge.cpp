// SPDX-License-Identifier: Apache-2.0
#include "deeperlab/merge.h"

#include <algorithm>

#include "deeperlab/scratch.h"
#include "parallel.h"

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

Layout lay_out(const Shape& shape, const Params& params, void* block) {
  Scratch scratch(block);
  const int64_t images = shape.images, places = params.max_instances + 1;
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

}  // namespace

int64_t merge_scratch_bytes(const Shape& shape, const Params& params) { return lay_out(shape, params, nullptr).bytes; }

void merge(const int32_t* label, const int32_t* instance, const int32_t* node_label, const int32_t* node_instance,
           const float* node_distance, const Point* keypoints, const int32_t* count, const Things& things,
           const Shape& shape, int keypoint_count, const Params& params, int32_t* semantic, int32_t* category,
           int32_t* area, int32_t* class_area, void* scratch, const Parallel& parallel) {
  const int64_t nodes = int64_t(shape.h) * shape.w, pixels = int64_t(shape.height) * shape.width;
  const int64_t places = params.max_instances, classes = shape.classes;
  const Layout layout = lay_out(shape, params, scratch);

  // Pixels of every instance, and of every class outside instances.
  parallel_for(parallel, int64_t(shape.images) * bands, 1, [&](int64_t task) {
    const int64_t n = task / bands, band = task % bands;
    int32_t* areas = layout.areas + task * (places + 1);
    int32_t* orphans = layout.orphans + task * classes;
    std::fill(areas, areas + places + 1, 0);
    std::fill(orphans, orphans + classes, 0);
    const int64_t begin = n * pixels + shape.height * band / bands * shape.width;
    const int64_t end = n * pixels + shape.height * (band + 1) / bands * shape.width;
    for (int64_t i = begin; i < end; ++i) {
      ++areas[instance[i]];
      if (instance[i] == 0 && label[i] >= 0) {
        ++orphans[label[i]];
      }
    }
  });

  parallel_for(parallel, shape.images, 1, [&](int64_t n) {
    int32_t* ballots = layout.ballots + n * (places + 1) * classes;
    std::fill(ballots, ballots + (count[n] + 1) * classes, 0);
    if (!params.majority_all) {
      for (int64_t i = n * nodes; i < (n + 1) * nodes; ++i) {
        const int32_t j = node_instance[i];
        if (j > 0 && things.has(node_label[i])) {
          const Point* own = keypoints + (n * places + j - 1) * keypoint_count;
          if (fits(node_distance[i], box_of(own, keypoint_count).area(), keypoint_count, params)) {
            ++ballots[j * classes + node_label[i]];
          }
        }
      }
    }
    bool all_decided = true;
    for (int64_t j = 1; j <= places; ++j) {
      int32_t total = 0;
      for (int band = 0; band < bands; ++band) {
        total += layout.areas[(n * bands + band) * (places + 1) + j];
      }
      area[n * places + j - 1] = total;
      category[n * places + j - 1] = total > 0 ? winner(ballots + j * classes, int(classes)) : -1;
      all_decided = all_decided && (total == 0 || category[n * places + j - 1] >= 0);
    }
    if (!all_decided) {  // where no node had a vote, all pixels do
      for (int64_t i = n * pixels; i < (n + 1) * pixels; ++i) {
        const int32_t j = instance[i];
        if (j > 0 && category[n * places + j - 1] < 0 && things.has(label[i])) {
          ++ballots[j * classes + label[i]];
        }
      }
      for (int64_t j = 1; j <= places; ++j) {
        if (area[n * places + j - 1] > 0 && category[n * places + j - 1] < 0) {
          category[n * places + j - 1] = winner(ballots + j * classes, int(classes));
        }
      }
    }
    for (int64_t c = 0; c < classes; ++c) {
      int32_t total = 0;
      for (int band = 0; band < bands; ++band) {
        total += layout.orphans[(n * bands + band) * classes + c];
      }
      class_area[n * classes + c] = total;
    }
  });

  parallel_rows(parallel, shape.images, shape.height, shape.width, [&](int64_t n, int y) {
    const int64_t begin = n * pixels + int64_t(y) * shape.width;
    for (int64_t i = begin; i < begin + shape.width; ++i) {
      semantic[i] = instance[i] > 0 ? category[n * places + instance[i] - 1] : label[i];
    }
  });
}

}  // namespace deeperlab::cpu
