// SPDX-License-Identifier: Apache-2.0
#include "deeperlab/encode.h"

#include <cmath>

#include "cpu/map_instances.h"

namespace deeperlab::cpu {
namespace {

// A row of nodes of one image.
struct Row {
  int64_t n;
  int y;
};

// Planes of a target, at a row: plane(channel) of `channels`.
template <class T>
struct RowOf {
  T* first;
  int64_t nodes;

  RowOf(const Encoding& of, T* maps, int64_t channels, const Row& row)
      : first(maps + row.n * channels * of.nodes() + int64_t(row.y) * of.grid_w), nodes(of.nodes()) {}
  T* plane(int64_t channel) const { return first + channel * nodes; }
};

// Channels 2k and 2k + 1 of the nodes begin … end − 1.
void write_offsets(const Encoding& of, const RowOf<float>& to, int64_t k, int begin, int end, int y, Pixel keypoint) {
  const int stride = of.stride;
  float* const x_plane = to.plane(2 * k);
  for (int x = begin; x < end; ++x) {
    x_plane[x] = offset(keypoint, {x * stride, 0}).x;
  }
  std::fill(to.plane(2 * k + 1) + begin, to.plane(2 * k + 1) + end, offset(keypoint, {0, y * stride}).y);
}

struct Interval {
  int begin, end;
};

// visit(value, begin, end) for the runs of equal values other than 0.
template <class Visit>
void visit_runs(const int32_t* values, Interval at, const Visit& visit) {
  for (int x = at.begin; x < at.end;) {
    const int begin = x;
    const int32_t value = values[x];
    for (++x; x < at.end && values[x] == value; ++x) {
    }
    if (value != 0) {
      visit(value, begin, x);
    }
  }
}

// The greatest integer whose square is at most x.
int64_t root_of(int64_t x) {
  auto root = int64_t(std::sqrt(double(x)));
  root -= root * root > x;
  root += (root + 1) * (root + 1) <= x;
  return root;
}

constexpr int64_t floor_divide(int64_t a, int64_t b) { return a >= 0 ? a / b : -((b - 1 - a) / b); }

constexpr int strip = 512;  // nodes whose owners are looked for together

// Whose disk around keypoint k the nodes first … first + count − 1 of a row are in: 1-based places, 0: none. Of several
// the nearest, then the lower place. Returns the nodes within which all of the disks lie; the others are not written.
template <class Distance>
Interval find_owners(const Encoding& of, const MapInstances& found, int32_t instances, int k, int y, int first,
                     int count, int32_t* owner) {
  const Pixel* const point = found.point + int64_t(k) * of.room;
  const int32_t* const by_row = found.by_row + int64_t(k) * of.room;
  const int64_t reach = root_of(of.limit), at_y = int64_t(y) * of.stride;
  const int stride = of.stride;
  const auto above = [&](int32_t i, int64_t row) { return point[i].y < row; };
  const int32_t* near = std::lower_bound(by_row, by_row + instances, at_y - reach, above);
  const int32_t* const end = std::lower_bound(near, by_row + instances, at_y + reach + 1, above);
  Interval all{count, 0};
  if (near == end) {
    return all;
  }
  Distance distance[strip];
  std::fill(owner, owner + count, 0);
  std::fill(distance, distance + count, Distance(of.limit + 1));
  for (; near < end; ++near) {
    const Pixel center = point[*near];
    const int32_t place = *near + 1;
    const int64_t dy = at_y - center.y, half = root_of(of.limit - dy * dy);
    const auto from = int(std::max<int64_t>(0, -floor_divide(half - center.x, stride) - first));
    const auto to = int(std::min<int64_t>(count, floor_divide(half + center.x, stride) + 1 - first));
    const auto dy2 = Distance(dy * dy);
    for (int i = from; i < to; ++i) {
      const Distance dx = (first + i) * stride - center.x, new_distance = dx * dx + dy2;
      const bool closer = new_distance < distance[i] || (new_distance == distance[i] && place < owner[i]);
      distance[i] = closer ? new_distance : distance[i];
      owner[i] = closer ? place : owner[i];
    }
    if (from < to) {
      all = {std::min(all.begin, from), std::max(all.end, to)};
    }
  }
  return all;
}

// The disks of keypoint k, and the edges that leave it.
void encode_disks(const Encoding& of, const MapInstances& found, int32_t instances, const Row& row, int k,
                  const TargetMaps& out) {
  const int keypoints = of.graph.keypoints, edges = of.graph.edges, w = of.grid_w;
  float* const heatmap = RowOf<float>(of, out.heatmap, keypoints, row).plane(k);
  bool* const short_valid = RowOf<bool>(of, out.short_valid, keypoints, row).plane(k);
  const RowOf<float> short_range(of, out.short_range, 2 * int64_t(keypoints), row);
  const RowOf<float> middle_range(of, out.middle_range, 2 * int64_t(edges), row);
  const RowOf<bool> middle_valid(of, out.middle_valid, edges, row);
  const auto clear = [&](const RowOf<float>& offsets, int64_t channel) {
    std::fill_n(offsets.plane(2 * channel), w, 0.0f);
    std::fill_n(offsets.plane(2 * channel + 1), w, 0.0f);
  };
  std::fill_n(heatmap, w, 0.0f);
  std::fill_n(short_valid, w, false);
  clear(short_range, k);
  for (int e = 0; e < edges; ++e) {
    if (of.graph.source[e] == k) {
      std::fill_n(middle_valid.plane(e), w, false);
      clear(middle_range, e);
    }
  }
  for (int first = 0; first < w && instances > 0; first += strip) {
    int32_t owner[strip];
    const int count = std::min(strip, w - first);
    const Interval at = of.limit < 1 << 30  // or squares leave 32 bits
                            ? find_owners<int32_t>(of, found, instances, k, row.y, first, count, owner)
                            : find_owners<int64_t>(of, found, instances, k, row.y, first, count, owner);
    visit_runs(owner, at, [&](int32_t place, int begin, int end) {
      begin += first, end += first;
      const auto point = [&](int of_kind) { return found.point[int64_t(of_kind) * of.room + place - 1]; };
      std::fill(heatmap + begin, heatmap + end, 1.0f);
      std::fill(short_valid + begin, short_valid + end, true);
      write_offsets(of, short_range, k, begin, end, row.y, point(k));
      for (int e = 0; e < edges; ++e) {
        if (of.graph.source[e] == k) {
          std::fill(middle_valid.plane(e) + begin, middle_valid.plane(e) + end, true);
          write_offsets(of, middle_range, e, begin, end, row.y, point(of.graph.target[e]));
        }
      }
    });
  }
}

// What a node says of its own instance, and where the heatmap is trained.
void encode_members(const Encoding& of, const MapInstances& found, int32_t count, const Row& row,
                    const TargetMaps& out) {
  const int keypoints = of.graph.keypoints, w = of.grid_w;
  bool* const heatmap_valid = RowOf<bool>(of, out.heatmap_valid, 1, row).plane(0);
  bool* const long_valid = RowOf<bool>(of, out.long_valid, 1, row).plane(0);
  const RowOf<float> long_range(of, out.long_range, 2 * int64_t(keypoints), row);
  std::fill_n(heatmap_valid, w, count >= 0);
  if (of.ignore.data != nullptr && count >= 0) {
    const Plane<uint8_t> ignore = of.ignore.plane<uint8_t>(row.n, 0);
    const uint8_t* const at = ignore.data + int64_t(row.y) * of.stride * ignore.row;
    for (int x = 0; x < w; ++x) {
      heatmap_valid[x] = at[int64_t(x) * of.stride * ignore.column] == 0;
    }
  }
  std::fill_n(long_valid, w, false);
  for (int channel = 0; channel < 2 * keypoints; ++channel) {
    std::fill_n(long_range.plane(channel), w, 0.0f);
  }
  if (count > 0) {
    visit_runs(found.node_index + int64_t(row.y) * w, {0, w}, [&](int32_t index, int begin, int end) {
      std::fill(long_valid + begin, long_valid + end, true);
      for (int k = 0; k < keypoints; ++k) {
        const Pixel keypoint = found.point[int64_t(k) * of.room + found.place[index - 1] - 1];
        write_offsets(of, long_range, k, begin, end, row.y, keypoint);
      }
    });
  }
}

}  // namespace

int64_t encode_scratch_bytes(const Encoding& of) { return MapInstancesLayout(of, nullptr).bytes; }

void encode(const Encoding& of, const TargetMaps& out, void* scratch, const Parallel& parallel) {
  const MapInstancesLayout layout(of, scratch);
  parallel_for(parallel, of.images, 1, [&](int64_t n) {
    const MapInstances found = layout.image(of, n);
    int32_t count = 0;
    with_integer_type(of.instance.type,
                      [&](auto id) { count = find_instances<decltype(id)>(of, n, found, layout.slots, parallel); });
    if (count >= 0 && !place_keypoints(of, n, found, layout.slots, count)) {
      count = bad_points;
    }
    list_instances(of, n, found, std::max(count, 0), out);
    out.count[n] = count;
  });
  const int planes = of.graph.keypoints + 1;  // one task for each row and keypoint, and one for the rest
  parallel_rows(parallel, of.images * planes, of.grid_h, of.grid_w, [&](int64_t plane, int y) {
    const Row row{plane / planes, y};
    const int k = int(plane % planes);
    const MapInstances found = layout.image(of, row.n);
    if (k < of.graph.keypoints) {
      encode_disks(of, found, std::max(out.count[row.n], 0), row, k, out);
    } else {
      encode_members(of, found, out.count[row.n], row, out);
    }
  });
}

}  // namespace deeperlab::cpu
