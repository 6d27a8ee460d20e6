// SPDX-License-Identifier: Apache-2.0
// What users do today: every head is upsampled to the image, then section 3.4 to the letter, pixel by pixel, on one
// thread. Scores are float sums, as in PersonLab; the answer is near the engine's, not equal to it.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "problem.h"

namespace {

// Bilinear, corners aligned: planes [channels, h, w] -> [channels, H, W].
std::vector<float> upsampled(const Problem& in, const float* planes, int channels) {
  std::vector<float> image(size_t(channels) * in.height * in.width);
  size_t pixel = 0;
  for (int c = 0; c < channels; ++c) {
    const float* plane = planes + size_t(c) * in.h * in.w;
    for (int y = 0; y < in.height; ++y) {
      for (int x = 0; x < in.width; ++x) {
        image[pixel++] = sample(plane, in.h, in.w, float(x) / float(in.stride), float(y) / float(in.stride));
      }
    }
  }
  return image;
}

// A head at full resolution: as it came, where it came so.
const float* full(const Problem& in, const void* head, int channels, std::vector<float>& storage) {
  std::vector<float> floats;
  const float* planes = widened(in, head, channels, floats);
  if (in.stride > 1) {
    storage = upsampled(in, planes, channels);
  } else if (in.is_half) {
    storage = std::move(floats);
  } else {
    return planes;
  }
  return storage.data();
}

struct Solver {
  const Problem& in;
  const Answer& out;
  const float *semantic, *heatmap, *short_range, *middle_range, *long_range;  // [channels, H, W]
  const int height = in.height, width = in.width;
  const size_t pixels = size_t(in.height) * in.width;

  std::vector<int32_t> label = std::vector<int32_t>(pixels);
  std::vector<Point> target = std::vector<Point>(in.keypoints * pixels);
  std::vector<float> probability = std::vector<float>(in.keypoints * pixels);
  std::vector<float> votes = std::vector<float>(in.keypoints * pixels);
  std::vector<Candidate> candidates = {};
  std::vector<Candidate> instances = {};

  Point step(const float* fields, int k, Point q, int steps) const {
    return follow(fields, k, q, height, width, 1.0f, steps);
  }

  void argmax() {
    for (size_t pixel = 0; pixel < pixels; ++pixel) {
      float best = -std::numeric_limits<float>::infinity();
      for (int c = 0; c < in.classes; ++c) {
        if (semantic[c * pixels + pixel] > best) {
          best = semantic[c * pixels + pixel];
          label[pixel] = c;
        }
      }
    }
  }

  void refine() {
    for (int k = 0; k < in.keypoints; ++k) {
      for (int y = 0; y < height; ++y) {
        for (int x = 0; x < width; ++x) {
          Point q = step(long_range, k, {float(x), float(y)}, 1 + in.long_steps);
          target[k * pixels + size_t(y) * width + x] = step(short_range, k, q, in.long_short_steps);
        }
      }
    }
  }

  void splat(int k, Point q, float weight) {
    const bool inside = q.x >= 0 && q.x <= float(width - 1) && q.y >= 0 && q.y <= float(height - 1);
    if (!inside) {
      return;
    }
    const int x0 = int(q.x), y0 = int(q.y), x1 = std::min(x0 + 1, width - 1), y1 = std::min(y0 + 1, height - 1);
    const float fx = q.x - float(x0), fy = q.y - float(y0);
    float* map = votes.data() + k * pixels;
    map[size_t(y0) * width + x0] += weight * (1 - fy) * (1 - fx);
    map[size_t(y0) * width + x1] += weight * (1 - fy) * fx;
    map[size_t(y1) * width + x0] += weight * fy * (1 - fx);
    map[size_t(y1) * width + x1] += weight * fy * fx;
  }

  void vote() {
    for (int k = 0; k < in.keypoints; ++k) {
      for (int y = 0; y < height; ++y) {
        for (int x = 0; x < width; ++x) {
          const size_t pixel = k * pixels + size_t(y) * width + x;
          probability[pixel] = 1 / (1 + std::exp(-heatmap[pixel]));
          splat(k, step(short_range, k, {float(x), float(y)}, 1), probability[pixel] * float(in.short_weight));
          splat(k, target[pixel], float(in.long_weight));
        }
      }
    }
  }

  bool is_peak(int k, int y, int x) const {
    const float* map = votes.data() + k * pixels;
    const float own = map[size_t(y) * width + x];
    for (int i = std::max(y - 1, 0); i <= std::min(y + 1, height - 1); ++i) {
      for (int j = std::max(x - 1, 0); j <= std::min(x + 1, width - 1); ++j) {
        const float other = map[size_t(i) * width + j];
        const bool earlier = i < y || (i == y && j < x);
        if (other > own || (earlier && other == own)) {
          return false;
        }
      }
    }
    return true;
  }

  void peaks() {
    const float limit = float(in.peak_threshold * M_PI * in.radius * in.radius);
    for (int k = 0; k < in.keypoints; ++k) {
      for (int y = 0; y < height; ++y) {
        for (int x = 0; x < width; ++x) {
          if (votes[k * pixels + size_t(y) * width + x] >= limit && is_peak(k, y, x)) {
            candidates.push_back({k, y, x, {float(x), float(y)}, {}, {}, 0.0f});
          }
        }
      }
    }
    std::stable_sort(candidates.begin(), candidates.end(), [&](const Candidate& a, const Candidate& b) {
      return votes[a.k * pixels + size_t(a.y) * width + a.x] > votes[b.k * pixels + size_t(b.y) * width + b.x];
    });
    if (candidates.size() > size_t(in.max_candidates)) {
      *out.truncated = 1;
      candidates.resize(in.max_candidates);
    }
  }

  void trace() {
    for (Candidate& candidate : candidates) {
      candidate.keypoints.resize(in.keypoints);
      candidate.keypoints[candidate.k] = candidate.position;
      for (const int e : path_from(in, candidate.k)) {
        const Point arrival = step(middle_range, e, candidate.keypoints[in.edges[2 * e]], 1);
        const int b = in.edges[2 * e + 1];
        candidate.keypoints[b] = step(short_range, b, arrival, in.middle_steps);
      }
      for (Point& q : candidate.keypoints) {
        q = {clamp(q.x, float(width - 1)), clamp(q.y, float(height - 1))};
      }
    }
  }

  // Expected-OKS: the votes in the disk, weighted by their likeness to the keypoint.
  float keypoint_score(int k, Point at, float spread) const {
    const float radius = float(in.radius);
    const int top = std::max(int(std::ceil(at.y - radius)), 0), left = std::max(int(std::ceil(at.x - radius)), 0);
    const int bottom = std::min(int(at.y + radius), height - 1), right = std::min(int(at.x + radius), width - 1);
    float sum = 0, similar = 0;
    for (int y = top; y <= bottom; ++y) {
      for (int x = left; x <= right; ++x) {
        const float dx = float(x) - at.x, dy = float(y) - at.y, d2 = dx * dx + dy * dy;
        if (d2 <= radius * radius) {
          const float share = votes[k * pixels + size_t(y) * width + x];
          sum += share;
          similar += share * std::exp(-d2 / spread);
        }
      }
    }
    return sum > 0 ? sample(probability.data() + k * pixels, height, width, at.x, at.y) * (similar / sum) : 0;
  }

  void rescore() {
    const float kappa = float(in.kappa);
    for (Candidate& candidate : candidates) {
      const float lambda2 = std::max(box_of(candidate.keypoints).area(), 1.0f);
      for (int k = 0; k < in.keypoints; ++k) {
        candidate.keypoint_score.push_back(keypoint_score(k, candidate.keypoints[k], 2 * lambda2 * kappa * kappa));
        candidate.score += candidate.keypoint_score[k] / float(in.keypoints);
      }
    }
  }

  bool same_seed(const Candidate& a, const Candidate& b) const {
    const float dx = a.keypoints[b.k].x - b.keypoints[b.k].x, dy = a.keypoints[b.k].y - b.keypoints[b.k].y;
    return dx * dx + dy * dy <= float(in.nms_radius * in.nms_radius);
  }

  bool same_box(const Candidate& first, const Candidate& second) const {
    const Box a = box_of(first.keypoints), b = box_of(second.keypoints);
    const float wide = std::max(0.0f, std::min(a.x1, b.x1) - std::max(a.x0, b.x0));
    const float high = std::max(0.0f, std::min(a.y1, b.y1) - std::max(a.y0, b.y0));
    return wide * high > float(in.box_iou) * (a.area() + b.area() - wide * high);
  }

  void select() {
    std::stable_sort(candidates.begin(), candidates.end(), [](const Candidate& a, const Candidate& b) {
      return a.keypoint_score[a.k] > b.keypoint_score[b.k];
    });
    std::vector<Candidate> accepted;
    for (const Candidate& candidate : candidates) {
      const auto taken = [&](const Candidate& a) { return same_seed(a, candidate); };
      if (candidate.score >= float(in.instance_threshold) && std::none_of(accepted.begin(), accepted.end(), taken)) {
        accepted.push_back(candidate);
      }
    }
    std::stable_sort(accepted.begin(), accepted.end(),
                     [](const Candidate& a, const Candidate& b) { return a.score > b.score; });
    for (const Candidate& candidate : accepted) {
      const auto taken = [&](const Candidate& kept) { return same_box(kept, candidate); };
      if (std::none_of(instances.begin(), instances.end(), taken)) {
        instances.push_back(candidate);
      }
    }
    if (instances.size() > size_t(in.max_instances)) {
      *out.truncated = 1;
      instances.resize(in.max_instances);
    }
  }

  void assign() {
    for (size_t pixel = 0; pixel < pixels; ++pixel) {
      out.instance[pixel] = 0;
      if (!in.thing[label[pixel]]) {
        continue;
      }
      float least = std::numeric_limits<float>::infinity();
      for (size_t m = 0; m < instances.size(); ++m) {
        float distance = 0;
        for (int k = 0; k < in.keypoints; ++k) {
          const Point p = target[k * pixels + pixel], q = instances[m].keypoints[k];
          distance += (p.x - q.x) * (p.x - q.x) + (p.y - q.y) * (p.y - q.y);
        }
        if (distance < least) {
          least = distance;
          out.instance[pixel] = int32_t(m + 1);
        }
      }
    }
  }

  void merge() {
    const size_t count = instances.size(), classes = in.classes;
    std::vector<int> ballots(count * classes, 0);
    std::fill(out.class_area, out.class_area + classes, 0);
    for (size_t pixel = 0; pixel < pixels; ++pixel) {
      if (out.instance[pixel] > 0) {
        ++ballots[(out.instance[pixel] - 1) * classes + label[pixel]];
      } else {
        ++out.class_area[label[pixel]];
      }
    }
    std::fill(out.category, out.category + in.max_instances, -1);
    std::fill(out.area, out.area + in.max_instances, 0);
    std::fill(out.score, out.score + in.max_instances, 0.0f);
    std::fill(out.keypoints, out.keypoints + size_t(2) * in.keypoints * in.max_instances, 0.0f);
    for (size_t m = 0; m < count; ++m) {
      const auto own = ballots.begin() + m * classes;
      for (size_t c = 0; c < classes; ++c) {
        out.area[m] += own[c];
      }
      out.category[m] = out.area[m] > 0 ? int32_t(std::max_element(own, own + classes) - own) : -1;
      out.score[m] = instances[m].score;
      for (int k = 0; k < in.keypoints; ++k) {
        out.keypoints[2 * (m * in.keypoints + k)] = instances[m].keypoints[k].x;
        out.keypoints[2 * (m * in.keypoints + k) + 1] = instances[m].keypoints[k].y;
      }
    }
    for (size_t pixel = 0; pixel < pixels; ++pixel) {
      const int m = out.instance[pixel] - 1;
      out.semantic[pixel] = m >= 0 ? out.category[m] : label[pixel];
    }
    *out.count = int32_t(count);
  }
};

}  // namespace

extern "C" void upsample_first(const Problem* problem, const Answer* answer) {
  const Problem& in = *problem;
  std::vector<float> storage[5];
  Solver solver = {in,
                   *answer,
                   full(in, in.semantic, in.classes, storage[0]),
                   full(in, in.heatmap, in.keypoints, storage[1]),
                   full(in, in.short_range, 2 * in.keypoints, storage[2]),
                   full(in, in.middle_range, 2 * in.num_edges, storage[3]),
                   full(in, in.long_range, 2 * in.keypoints, storage[4])};
  *answer->truncated = 0;
  solver.argmax();
  solver.refine();
  solver.vote();
  solver.peaks();
  solver.trace();
  solver.rescore();
  solver.select();
  solver.assign();
  solver.merge();
}
