// SPDX-License-Identifier: Apache-2.0
// docs/definition.md for one image, read aloud: one thread, no pruning, one loop after the other. It shares nothing
// with the engine but the exp, which the definition gives as code; its answer is the same to the last bit.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "deeperlab/exp.h"
#include "problem.h"

namespace {

constexpr float INF = std::numeric_limits<float>::infinity();

// Along one axis: the node before a pixel, the node after it, the px past the former; an `after` of weight zero is the
// node before again.
struct Between {
  int before, after, past;
};

Between between(int pixel, int nodes, int stride) {
  const int before = std::min(pixel / stride, nodes - 1);
  const int past = before < nodes - 1 ? pixel % stride : 0;
  return {before, before + (past > 0), past};
}

int fraction_bits(const Problem& in) {
  int log2 = 0;
  while ((int64_t(1) << log2) < int64_t(in.h) * in.w) {
    ++log2;
  }
  return std::min(std::max(30 - log2, 4), 16);
}

struct Solver {
  const Problem& in;
  const Answer& out;
  const float *semantic, *heatmap, *short_range, *middle_range, *long_range;
  const int nodes = in.h * in.w;
  const int cell = std::max(in.stride, in.vote_cell);
  const int vh = (in.height - 1) / cell + 2, vw = (in.width - 1) / cell + 2;

  std::vector<int32_t> node_label = std::vector<int32_t>(nodes);
  std::vector<int32_t> label = std::vector<int32_t>(size_t(in.height) * in.width);
  std::vector<Point> target = std::vector<Point>(size_t(in.keypoints) * nodes);  // [P, h, w]
  std::vector<float> probability = std::vector<float>(size_t(in.keypoints) * nodes);
  std::vector<int64_t> votes = std::vector<int64_t>(size_t(in.keypoints) * vh * vw);  // [P, vh, vw]
  std::vector<Candidate> candidates = {};
  std::vector<Candidate> instances = {};
  std::vector<int32_t> node_instance = std::vector<int32_t>(nodes, 0);
  std::vector<float> node_distance = std::vector<float>(nodes, INF);  // px²

  void argmax() {
    for (int node = 0; node < nodes; ++node) {
      float best = -INF;
      node_label[node] = 0;
      for (int c = 0; c < in.classes; ++c) {
        const float value = semantic[size_t(c) * nodes + node];
        if (value > best) {
          best = value;
          node_label[node] = c;
        }
      }
    }
    for (int y = 0; y < in.height; ++y) {
      for (int x = 0; x < in.width; ++x) {
        label[size_t(y) * in.width + x] = label_at(between(y, in.h, in.stride), between(x, in.w, in.stride));
      }
    }
  }

  int label_at(const Between& y, const Between& x) const {
    const int corner[4] = {y.before * in.w + x.before, y.before * in.w + x.after, y.after * in.w + x.before,
                           y.after * in.w + x.after};
    const int first = node_label[corner[0]];
    if (node_label[corner[1]] == first && node_label[corner[2]] == first && node_label[corner[3]] == first) {
      return first;
    }
    const float fx = float(x.past) / float(in.stride), fy = float(y.past) / float(in.stride);
    float best = -INF;
    int winner = 0;
    for (int c = 0; c < in.classes; ++c) {
      const float* v = semantic + size_t(c) * nodes;
      const float value = blend(blend(v[corner[0]], v[corner[1]], fx), blend(v[corner[2]], v[corner[3]], fx), fy);
      if (value > best) {
        best = value;
        winner = c;
      }
    }
    return winner;
  }

  Point own_target(const float* fields, int k, int i, int j) const {
    const size_t node = size_t(i) * in.w + j;
    return {float(in.stride * j) + fields[size_t(2 * k) * nodes + node],
            float(in.stride * i) + fields[size_t(2 * k + 1) * nodes + node]};
  }

  void refine() {
    for (int k = 0; k < in.keypoints; ++k) {
      for (int i = 0; i < in.h; ++i) {
        for (int j = 0; j < in.w; ++j) {
          Point q = own_target(long_range, k, i, j);
          q = follow(long_range, k, q, in.h, in.w, float(in.stride), in.long_steps);
          q = follow(short_range, k, q, in.h, in.w, float(in.stride), in.long_short_steps);
          target[size_t(k) * nodes + i * in.w + j] = q;
        }
      }
    }
  }

  void splat(int k, Point q, float weight, int64_t head_weight) {
    const bool inside = q.x >= 0.0f && q.x <= float(in.width - 1) && q.y >= 0.0f && q.y <= float(in.height - 1);
    if (!inside) {
      return;
    }
    const float x = q.x / float(cell), y = q.y / float(cell);
    const int x0 = int(x), y0 = int(y);
    const float fx = x - float(x0), fy = y - float(y0);
    const float unit = float(1 << fraction_bits(in));
    for (int dy = 0; dy < 2; ++dy) {
      for (int dx = 0; dx < 2; ++dx) {
        const float share = ((weight * (dy ? fy : 1.0f - fy)) * (dx ? fx : 1.0f - fx)) * unit;
        votes[(size_t(k) * vh + y0 + dy) * vw + x0 + dx] += head_weight * int64_t(std::rint(share));
      }
    }
  }

  void vote() {
    for (int k = 0; k < in.keypoints; ++k) {
      for (int i = 0; i < in.h; ++i) {
        for (int j = 0; j < in.w; ++j) {
          const int node = i * in.w + j;
          const float p = deeperlab::sigmoid(heatmap[size_t(k) * nodes + node]);
          probability[size_t(k) * nodes + node] = p;
          splat(k, own_target(short_range, k, i, j), p, int64_t(in.short_weight * 256));
          if (in.all_voters || in.thing[node_label[node]]) {
            splat(k, target[size_t(k) * nodes + node], 1.0f, int64_t(in.long_weight * 256));
          }
        }
      }
    }
  }

  int64_t votes_at(int k, int y, int x) const { return votes[(size_t(k) * vh + y) * vw + x]; }

  bool is_peak(int k, int y, int x) const {
    const int64_t own = votes_at(k, y, x);
    for (int i = std::max(y - 1, 0); i <= std::min(y + 1, vh - 1); ++i) {
      for (int j = std::max(x - 1, 0); j <= std::min(x + 1, vw - 1); ++j) {
        const bool earlier = i < y || (i == y && j < x);
        if (votes_at(k, i, j) > own || (earlier && votes_at(k, i, j) == own)) {
          return false;
        }
      }
    }
    return true;
  }

  Point centroid(int k, int y, int x) const {
    int64_t sum = 0, sum_x = 0, sum_y = 0;
    for (int i = std::max(y - 1, 0); i <= std::min(y + 1, vh - 1); ++i) {
      for (int j = std::max(x - 1, 0); j <= std::min(x + 1, vw - 1); ++j) {
        sum += votes_at(k, i, j);
        sum_x += votes_at(k, i, j) * j;
        sum_y += votes_at(k, i, j) * i;
      }
    }
    return {float(double(cell * sum_x) / double(sum)), float(double(cell * sum_y) / double(sum))};
  }

  void peaks() {
    const double nodes_across = in.radius / in.stride;
    const double ideal =
        in.peak_threshold * 256.0 * double(1 << fraction_bits(in)) * M_PI * nodes_across * nodes_across;
    const int64_t limit = int64_t(std::min(std::max(1.0, std::ceil(ideal)), 4611686018427387904.0));
    for (int k = 0; k < in.keypoints; ++k) {
      for (int y = 0; y < vh; ++y) {
        for (int x = 0; x < vw; ++x) {
          if (votes_at(k, y, x) >= limit && is_peak(k, y, x)) {
            candidates.push_back({k, y, x, centroid(k, y, x), {}, {}, 0.0f});
          }
        }
      }
    }
    std::stable_sort(candidates.begin(), candidates.end(), [&](const Candidate& a, const Candidate& b) {
      return votes_at(a.k, a.y, a.x) > votes_at(b.k, b.y, b.x);
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
        const int a = in.edges[2 * e], b = in.edges[2 * e + 1];
        Point q = follow(middle_range, e, candidate.keypoints[a], in.h, in.w, float(in.stride), 1);
        q = follow(short_range, b, q, in.h, in.w, float(in.stride), in.middle_steps);
        candidate.keypoints[b] = q;
      }
      for (Point& q : candidate.keypoints) {
        q = {clamp(q.x, float(in.width - 1)), clamp(q.y, float(in.height - 1))};
      }
    }
  }

  float keypoint_score(int k, Point at, float width) const {
    const float radius = float(in.radius), c = float(cell);
    int64_t sum = 0, similar = 0;
    const int reach = int(radius / c) + 2, row = int(at.y / c), col = int(at.x / c);
    for (int i = std::max(row - reach, 0); i <= std::min(row + reach, vh - 1); ++i) {
      for (int j = std::max(col - reach, 0); j <= std::min(col + reach, vw - 1); ++j) {
        const float dx = float(j) * c - at.x, dy = float(i) * c - at.y;
        const float d2 = dx * dx + dy * dy;
        if (d2 <= radius * radius) {
          const float g = std::rint(32768.0f * deeperlab::exp(-(d2 / width)));
          sum += votes_at(k, i, j);
          similar += votes_at(k, i, j) * int64_t(g);
        }
      }
    }
    if (sum == 0) {
      return 0.0f;
    }
    const float* plane = probability.data() + size_t(k) * nodes;
    const float p = sample(plane, in.h, in.w, at.x / float(in.stride), at.y / float(in.stride));
    return p * float(double(similar) / double(sum) / 32768.0);
  }

  void rescore() {
    const float c2 = float(cell) * float(cell), kappa = float(in.kappa);
    for (Candidate& candidate : candidates) {
      const float lambda2 = std::max(box_of(candidate.keypoints).area(), c2);
      const float width = (2.0f * lambda2) * (kappa * kappa) + (in.oks_cell ? c2 : 0.0f);
      float sum = 0.0f;
      for (int k = 0; k < in.keypoints; ++k) {
        candidate.keypoint_score.push_back(keypoint_score(k, candidate.keypoints[k], width));
        sum += candidate.keypoint_score[k];
      }
      candidate.score = sum / float(in.keypoints);
    }
  }

  // Whether the seed of b lies on the same keypoint of a.
  bool same_seed(const Candidate& a, const Candidate& b) const {
    const float most = float(in.nms_radius * in.nms_radius), least = float(in.nms_radius_min * in.nms_radius_min);
    const float smaller = std::min(box_of(a.keypoints).area(), box_of(b.keypoints).area());
    const float near2 = std::min(most, std::max(least, float(in.nms_relative * in.nms_relative) * smaller));
    const Point p = a.keypoints[b.k], q = b.keypoints[b.k];
    const float dx = q.x - p.x, dy = q.y - p.y;
    return dx * dx + dy * dy <= near2;
  }

  bool same_box(const Candidate& first, const Candidate& second) const {
    const Box a = box_of(first.keypoints), b = box_of(second.keypoints);
    const float wide = std::max(0.0f, std::min(a.x1, b.x1) - std::max(a.x0, b.x0));
    const float high = std::max(0.0f, std::min(a.y1, b.y1) - std::max(a.y0, b.y0));
    const float inter = wide * high;
    return inter > float(in.box_iou) * ((a.area() + b.area()) - inter);
  }

  void select() {
    std::vector<Candidate> queue, accepted;
    for (const Candidate& candidate : candidates) {
      if (candidate.score >= float(in.instance_threshold)) {
        queue.push_back(candidate);
      }
    }
    std::sort(queue.begin(), queue.end(), [](const Candidate& a, const Candidate& b) {
      const float s = a.keypoint_score[a.k], t = b.keypoint_score[b.k];
      return s != t ? s > t : a.k != b.k ? a.k < b.k : a.y != b.y ? a.y < b.y : a.x < b.x;
    });
    for (const Candidate& candidate : queue) {
      if (std::none_of(accepted.begin(), accepted.end(), [&](const Candidate& a) { return same_seed(a, candidate); })) {
        accepted.push_back(candidate);
      }
    }
    std::stable_sort(accepted.begin(), accepted.end(),
                     [](const Candidate& a, const Candidate& b) { return a.score > b.score; });
    for (const Candidate& candidate : accepted) {
      if (std::none_of(instances.begin(), instances.end(),
                       [&](const Candidate& kept) { return same_box(candidate, kept); })) {
        instances.push_back(candidate);
      }
    }
    if (instances.size() > size_t(in.max_instances)) {
      *out.truncated = 1;
      instances.resize(in.max_instances);
    }
  }

  void assign_nodes() {
    const float most = float(in.keypoints * (in.max_distance * in.max_distance));
    for (int node = 0; node < nodes; ++node) {
      for (size_t m = 0; m < instances.size(); ++m) {
        float distance = 0.0f;
        for (int k = 0; k < in.keypoints; ++k) {
          const Point p = target[size_t(k) * nodes + node], q = instances[m].keypoints[k];
          const float dx = p.x - q.x, dy = p.y - q.y;
          distance += dx * dx + dy * dy;
        }
        if (distance < node_distance[node]) {
          node_distance[node] = distance;
          node_instance[node] = int32_t(m + 1);
        }
      }
      if (node_distance[node] > most) {
        node_distance[node] = INF;
        node_instance[node] = 0;
      }
    }
  }

  int instance_at(int own_label, const Between& y, const Between& x) const {
    const int rows[4] = {y.before, y.before, y.after, y.after}, cols[4] = {x.before, x.after, x.before, x.after};
    const int wy[4] = {in.stride - y.past, in.stride - y.past, y.past, y.past};
    const int wx[4] = {in.stride - x.past, x.past, in.stride - x.past, x.past};
    int corner[4], weight[4], rank[4], best_rank = 0;  // 3 its own class, 2 a thing, 1 an instance at least
    for (int c = 0; c < 4; ++c) {
      corner[c] = rows[c] * in.w + cols[c];
      weight[c] = wy[c] * wx[c];
      const int carried = node_label[corner[c]];
      rank[c] = carried == own_label ? 3 : in.thing[carried] ? 2 : 1;
      if (weight[c] == 0 || node_instance[corner[c]] == 0) {
        rank[c] = 0;
      }
      best_rank = std::max(best_rank, rank[c]);
    }
    if (best_rank == 0) {
      return 0;
    }
    int winner = 0, most = 0;
    float least = INF;
    for (int c = 0; c < 4; ++c) {
      if (rank[c] != best_rank) {
        continue;
      }
      const int rival = node_instance[corner[c]];
      int total = 0;
      float nearest = INF;
      for (int d = 0; d < 4; ++d) {
        if (rank[d] == best_rank && node_instance[corner[d]] == rival) {
          total += weight[d];
          nearest = std::min(nearest, node_distance[corner[d]]);
        }
      }
      const bool closer = nearest < least || (nearest == least && rival < winner);
      if (total > most || (total == most && closer)) {
        winner = rival;
        most = total;
        least = nearest;
      }
    }
    return winner;
  }

  void assign_pixels() {
    for (int y = 0; y < in.height; ++y) {
      for (int x = 0; x < in.width; ++x) {
        const size_t pixel = size_t(y) * in.width + x;
        const bool thing = in.thing[label[pixel]];
        out.instance[pixel] =
            thing ? instance_at(label[pixel], between(y, in.h, in.stride), between(x, in.w, in.stride)) : 0;
      }
    }
  }

  void assign() {
    assign_nodes();
    assign_pixels();
  }

  void merge() {
    const size_t pixels = label.size(), count = instances.size(), classes = in.classes;
    std::vector<int> by_node(count * classes, 0), by_pixel(count * classes, 0);
    for (int node = 0; node < nodes; ++node) {
      const int m = node_instance[node] - 1;
      if (m >= 0 && in.thing[node_label[node]]) {
        const float disk = float(in.radius) * float(in.radius);
        const float box = float(in.fit_area) * box_of(instances[m].keypoints).area();
        if (node_distance[node] <= float(in.keypoints) * std::max(disk, box)) {
          ++by_node[m * classes + node_label[node]];
        }
      }
    }
    std::fill(out.class_area, out.class_area + classes, 0);
    for (size_t pixel = 0; pixel < pixels; ++pixel) {
      const int m = out.instance[pixel] - 1;
      if (m >= 0) {
        ++by_pixel[m * classes + label[pixel]];
      } else {
        ++out.class_area[label[pixel]];
      }
    }
    for (int m = 0; m < in.max_instances; ++m) {
      out.category[m] = -1;
      out.area[m] = 0;
      out.score[m] = 0.0f;
      for (int k = 0; k < in.keypoints; ++k) {
        out.keypoints[2 * (m * in.keypoints + k)] = 0.0f;
        out.keypoints[2 * (m * in.keypoints + k) + 1] = 0.0f;
      }
    }
    for (size_t m = 0; m < count; ++m) {
      const auto nodes_of = by_node.begin() + m * classes, pixels_of = by_pixel.begin() + m * classes;
      const bool fits = std::any_of(nodes_of, nodes_of + classes, [](int votes) { return votes > 0; });
      const auto ballots = fits && !in.majority_all ? nodes_of : pixels_of;
      for (size_t c = 0; c < classes; ++c) {
        out.area[m] += pixels_of[c];
      }
      if (out.area[m] > 0) {
        out.category[m] = int32_t(std::max_element(ballots, ballots + classes) - ballots);
      }
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

// `seconds`, where it is wanted: what each of the nine stages took.
extern "C" void same_answer(const Problem* problem, const Answer* answer, double* seconds) {
  const Problem& in = *problem;
  std::vector<float> storage[5];
  Solver solver = {in,
                   *answer,
                   widened(in, in.semantic, in.classes, storage[0]),
                   widened(in, in.heatmap, in.keypoints, storage[1]),
                   widened(in, in.short_range, 2 * in.keypoints, storage[2]),
                   widened(in, in.middle_range, 2 * in.num_edges, storage[3]),
                   widened(in, in.long_range, 2 * in.keypoints, storage[4])};
  *answer->truncated = 0;
  void (Solver::* const stages[])() = {&Solver::argmax, &Solver::refine, &Solver::vote,
                                       &Solver::peaks,  &Solver::trace,  &Solver::rescore,
                                       &Solver::select, &Solver::assign, &Solver::merge};
  for (const auto stage : stages) {
    const auto begin = std::chrono::steady_clock::now();
    (solver.*stage)();
    if (seconds != nullptr) {
      *seconds++ = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    }
  }
}
