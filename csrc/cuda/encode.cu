// SPDX-License-Identifier: Apache-2.0
#include "deeperlab/encode.h"

#include "launch.cuh"

namespace deeperlab::cuda {
namespace {

constexpr int strip = 32;  // pixels of a row that a thread goes through, run by run

// What is known of the instances of all images.
struct Found {
  int64_t slots;    // of an image's table of ids
  int64_t* id;      // [N, slots] 0: free
  PixelSums* sums;  // [N, slots]
  int32_t* row;     // [N, slots] the first row of given keypoints, K: none
  int32_t* place;   // [N, slots] rank by id, 1-based
  Pixel* point;     // [N, P, M] by place
  int32_t* count;   // [N]
  int32_t* fault;   // [N] 0: none
};

Found lay_out(const Encoding& of, void* block, int64_t& bytes) {
  Scratch scratch(block);
  const int64_t slots = slots_for(of.room), all = of.images * slots;
  int64_t* const id = scratch.take<int64_t>(all);
  PixelSums* const sums = scratch.take<PixelSums>(all);
  int32_t *const row = scratch.take<int32_t>(all), *const place = scratch.take<int32_t>(all);
  Pixel* const point = scratch.take<Pixel>(of.images * of.graph.keypoints * of.room);
  int32_t *const count = scratch.take<int32_t>(of.images), *const fault = scratch.take<int32_t>(of.images);
  bytes = scratch.bytes();
  return {slots, id, sums, row, place, point, count, fault};
}

// Slots without an id, one a thread.
__global__ void clear_slots(Encoding of, Found found) {
  const int64_t i = thread_index();
  if (i < of.images * found.slots) {
    found.id[i] = 0;
    found.sums[i] = {of.width, of.height, -1, -1, {}, {}, {}, {}, {}, {}};
    found.row[i] = int32_t(of.rows);
    found.place[i] = 0;
  }
  if (i < of.images) {
    found.count[i] = found.fault[i] = 0;
  }
}

// The slot of an id of image n; −1: it is not there.
__device__ int64_t find_slot(const Found& found, int64_t n, int64_t id) {
  int64_t slot = first_slot(id, found.slots);
  for (int64_t probe = 0; probe < found.slots; ++probe) {
    const int64_t there = found.id[n * found.slots + slot];
    if (there == id) {
      return n * found.slots + slot;
    }
    if (there == 0) {
      return -1;
    }
    slot = (slot + 1) & (found.slots - 1);
  }
  return -1;
}

// The same, of an id that is put there if need be; −1: there is no room.
__device__ int64_t take_slot(const Found& found, int64_t n, int64_t id) {
  using Word = unsigned long long;
  int64_t slot = first_slot(id, found.slots);
  for (int64_t probe = 0; probe < found.slots; ++probe) {
    auto* const at = reinterpret_cast<Word*>(found.id + n * found.slots + slot);
    const Word seen = atomicCAS(at, Word(0), Word(id));
    if (seen == 0) {
      atomicAdd(found.count + n, 1);
    }
    if (seen == 0 || seen == Word(id)) {
      return n * found.slots + slot;
    }
    slot = (slot + 1) & (found.slots - 1);
  }
  return -1;
}

__device__ void add(Sum& to, const Sum& more) {
  using Word = unsigned long long;  // sums are at least 0
  atomicAdd(reinterpret_cast<Word*>(&to.total), Word(more.total));
  atomicAdd(reinterpret_cast<Word*>(&to.count), Word(more.count));
}

// visit(n, id, y, x0, x1) for the runs of equal pixels in one strip, other than those of id 0.
template <class Visit>
__device__ void visit_strip(const Encoding& of, const Visit& visit) {
  const int64_t i = thread_index(), strips = (of.width + strip - 1) / strip, row = i / strips;
  if (row >= of.images * of.height) {
    return;
  }
  const int64_t n = row / of.height;
  const int y = int(row % of.height), begin = int(i % strips) * strip;
  const int end = begin + strip < of.width ? begin + strip : of.width;
  for (int x0 = begin; x0 < end;) {
    const int64_t id = integer_at(of.instance, n, y, x0);
    int next = x0 + 1;
    while (next < end && integer_at(of.instance, n, y, next) == id) {
      ++next;
    }
    if (id != 0) {
      visit(n, id, y, x0, next - 1);
    }
    x0 = next;
  }
}

__global__ void find_instances(Encoding of, Found found) {
  visit_strip(of, [&](int64_t n, int64_t id, int y, int x0, int x1) {
    const int64_t slot = id < 0 ? -1 : take_slot(found, n, id);
    if (slot < 0) {
      atomicMin(found.fault + n, int32_t(id < 0 ? negative_id : too_many));
      return;
    }
    PixelSums& sums = found.sums[slot];
    const Sum columns = sum_of_columns(x0, x1);
    atomicMin(&sums.x0, x0);
    atomicMin(&sums.y0, y);
    atomicMax(&sums.x1, x1);
    atomicMax(&sums.y1, y);
    add(sums.x, columns);
    add(sums.y, {y * columns.count, columns.count});
  });
}

// Once the first and the last rows and columns are known.
__global__ void measure_extremes(Encoding of, Found found) {
  visit_strip(of, [&](int64_t n, int64_t id, int y, int x0, int x1) {
    const int64_t slot = id < 0 ? -1 : find_slot(found, n, id);
    if (slot < 0) {
      return;
    }
    PixelSums& sums = found.sums[slot];
    if (y == sums.y0) {
      add(sums.top, sum_of_columns(x0, x1));
    }
    if (y == sums.y1) {
      add(sums.bottom, sum_of_columns(x0, x1));
    }
    if (x0 == sums.x0) {
      add(sums.left, {y, 1});
    }
    if (x1 == sums.x1) {
      add(sums.right, {y, 1});
    }
  });
}

// One row of given keypoints a thread.
__global__ void find_rows(Encoding of, Found found) {
  const int64_t i = thread_index();
  if (i >= of.images * of.rows || of.ids[i] == 0) {
    return;
  }
  const int64_t n = i / of.rows;
  bool wrong = of.ids[i] < 0;
  for (int k = 0; k < of.graph.keypoints; ++k) {
    wrong = wrong || is_far(of.points[i * of.graph.keypoints + k]);
  }
  if (wrong) {
    atomicMin(found.fault + n, int32_t(bad_points));
    return;
  }
  const int64_t slot = find_slot(found, n, of.ids[i]);
  if (slot >= 0) {
    atomicMin(found.row + slot, int32_t(i % of.rows));
  }
}

// Ranks the instances by id and places their keypoints, one slot a thread.
__global__ void place_keypoints(Encoding of, Found found, TargetMaps out) {
  const int64_t i = thread_index(), n = i / found.slots;
  if (n >= of.images) {
    return;
  }
  const int32_t fault = found.count[n] > of.room ? int32_t(too_many) : found.fault[n];
  if (i % found.slots == 0) {
    out.count[n] = fault < 0 ? fault : found.count[n];
  }
  const int64_t id = found.id[i];
  if (id == 0 || fault < 0) {
    return;
  }
  int32_t rank = 0;
  for (int64_t other = n * found.slots; other < (n + 1) * found.slots; ++other) {
    rank += found.id[other] != 0 && found.id[other] < id;
  }
  found.place[i] = rank + 1;
  out.ids[n * of.room + rank] = id;
  for (int k = 0; k < of.graph.keypoints; ++k) {
    const Pixel at = found.row[i] < of.rows ? of.points[(n * of.rows + found.row[i]) * of.graph.keypoints + k]
                                            : found.sums[i].at(of.place[k]);
    found.point[(n * of.graph.keypoints + k) * of.room + rank] = at;
    out.keypoints[(n * of.room + rank) * of.graph.keypoints + k] = offset(at, {0, 0});
  }
}

// A node of one image.
struct Node {
  int64_t n, i;  // counted row by row
  Pixel at;
};

// Channels 2k and 2k + 1 of a node.
__device__ void write_offset(const Encoding& of, float* maps, int64_t pairs, int64_t k, const Node& node, bool valid,
                             Pixel keypoint) {
  const Point to = valid ? offset(keypoint, node.at) : Point{0.0f, 0.0f};
  float* const x = maps + (node.n * pairs + k) * 2 * of.nodes() + node.i;
  x[0] = to.x;
  x[of.nodes()] = to.y;
}

// The disk of keypoint k that a node is in, and the edges that leave it. Of several disks the nearest, then the lower
// id.
__device__ void encode_disks(const Encoding& of, const Found& found, const TargetMaps& out, const Node& node, int k) {
  const int keypoints = of.graph.keypoints;
  const Pixel* const point = found.point + node.n * keypoints * of.room;
  int64_t least = of.limit + 1;
  int32_t owner = -1;
  for (int32_t i = 0; i < out.count[node.n]; ++i) {
    const int64_t distance = squared_distance(point[int64_t(k) * of.room + i], node.at);
    if (distance < least) {
      least = distance;
      owner = i;
    }
  }
  const bool valid = owner >= 0;
  const auto point_of = [&](int of_kind) { return valid ? point[int64_t(of_kind) * of.room + owner] : Pixel{0, 0}; };
  const int64_t plane = (node.n * keypoints + k) * of.nodes() + node.i;
  out.heatmap[plane] = valid ? 1.0f : 0.0f;
  out.short_valid[plane] = valid;
  write_offset(of, out.short_range, keypoints, k, node, valid, point_of(k));
  for (int e = 0; e < of.graph.edges; ++e) {
    if (of.graph.source[e] == k) {
      out.middle_valid[(node.n * of.graph.edges + e) * of.nodes() + node.i] = valid;
      write_offset(of, out.middle_range, of.graph.edges, e, node, valid, point_of(of.graph.target[e]));
    }
  }
}

// What a node says of its own instance, and where the heatmap is trained.
__device__ void encode_member(const Encoding& of, const Found& found, const TargetMaps& out, const Node& node) {
  const int64_t plane = node.n * of.nodes() + node.i;
  bool trained = out.count[node.n] >= 0;
  if (of.ignore.data != nullptr) {
    const Plane<uint8_t> ignore = of.ignore.plane<uint8_t>(node.n, 0);
    trained = trained && ignore.data[node.at.y * ignore.row + node.at.x * ignore.column] == 0;
  }
  out.heatmap_valid[plane] = trained;
  const int64_t id = integer_at(of.instance, node.n, node.at.y, node.at.x);
  const int64_t slot = id > 0 && out.count[node.n] > 0 ? find_slot(found, node.n, id) : -1;
  const bool valid = slot >= 0;
  out.long_valid[plane] = valid;
  for (int k = 0; k < of.graph.keypoints; ++k) {
    const Pixel* const point = found.point + (node.n * of.graph.keypoints + k) * of.room;
    write_offset(of, out.long_range, of.graph.keypoints, k, node, valid,
                 valid ? point[found.place[slot] - 1] : Pixel{0, 0});
  }
}

// One thread for each node and keypoint, and one for the rest.
__global__ void encode_nodes(Encoding of, Found found, TargetMaps out) {
  const int64_t thread = thread_index(), plane = thread / of.nodes(), i = thread % of.nodes();
  const int64_t planes = of.graph.keypoints + 1, n = plane / planes;
  if (n >= of.images) {
    return;
  }
  const Node node{n, i, {int32_t(i % of.grid_w) * of.stride, int32_t(i / of.grid_w) * of.stride}};
  const int k = int(plane % planes);
  if (k < of.graph.keypoints) {
    encode_disks(of, found, out, node, k);
  } else {
    encode_member(of, found, out, node);
  }
}

}  // namespace

int64_t encode_scratch_bytes(const Encoding& of) {
  int64_t bytes;
  lay_out(of, nullptr, bytes);
  return bytes;
}

const char* encode(const Encoding& of, const TargetMaps& out, void* scratch, Stream stream) {
  int64_t bytes;
  const Found found = lay_out(of, scratch, bytes);
  const int64_t slots = of.images * found.slots, keypoints = of.graph.keypoints;
  const int64_t strips = of.images * of.height * ((of.width + strip - 1) / strip);
  bool extremes = false;
  for (int k = 0; k < of.graph.keypoints; ++k) {
    extremes = extremes || is_extreme(of.place[k]);
  }
  cudaGetLastError();  // of somebody else
  fill_with_zeros(out.ids, of.images * of.room, stream);
  fill_with_zeros(out.keypoints, of.images * of.room * keypoints, stream);
  launch(clear_slots, blocks_for(slots, block), stream, of, found);
  launch(find_instances, blocks_for(strips, block), stream, of, found);
  if (extremes) {
    launch(measure_extremes, blocks_for(strips, block), stream, of, found);
  }
  if (of.rows > 0) {
    launch(find_rows, blocks_for(of.images * of.rows, block), stream, of, found);
  }
  launch(place_keypoints, blocks_for(slots, block), stream, of, found, out);
  launch(encode_nodes, blocks_for(of.images * (keypoints + 1) * of.nodes(), block), stream, of, found, out);
  return explain(cudaGetLastError());
}

}  // namespace deeperlab::cuda
