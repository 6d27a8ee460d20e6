// SPDX-License-Identifier: Apache-2.0
// The vertices of crf's lattice, by sorting: digit by digit, equal keys in the order of their entries. All that threads
// add up here are integers, and every place follows from counts, so who comes first is of no account.
#include "crf.cuh"

namespace deeperlab::cuda {
namespace {

// A block sorts a tile of entries, of which each warp has one part.
constexpr int digit_bits = 8, digits = 1 << digit_bits;
constexpr int entries_of_warp = 256, entries_of_tile = entries_of_warp * warps_of_block;
static_assert(digits == block);  // a thread a digit, where a block goes through them

constexpr int64_t most_parts = 1024;  // of a list that is scanned, a block each

struct SortRoom {
  uint64_t* key[2];   // [6P] in turns
  int32_t* entry[2];  // [6P]
  int32_t* pieces;    // [6P] how many begin before each entry
  int32_t* count;     // [digits, tiles]
  int32_t* sums;      // [most_parts]
  int32_t* found;     // [2] vertices and pieces
  int64_t entries, tiles, bytes;
  int passes;

  SortRoom(const Crf& of, void* memory) {
    Scratch scratch(memory);
    entries = of.shape.pixels() * crf_corners;
    tiles = blocks_for(entries, entries_of_tile);
    passes = (of.keys.bits + digit_bits - 1) / digit_bits;
    for (int i = 0; i < 2; ++i) {
      key[i] = scratch.take<uint64_t>(entries);
      entry[i] = scratch.take<int32_t>(entries);
    }
    pieces = scratch.take<int32_t>(entries);
    count = scratch.take<int32_t>(digits * tiles);
    sums = scratch.take<int32_t>(most_parts);
    found = scratch.take<int32_t>(2);
    bytes = scratch.bytes();
  }

  // After the last pass: the sorted keys and entries, then the keys of the vertices and the number of vertices that
  // begin before each entry.
  DEEPERLAB_HD const uint64_t* sorted() const { return key[passes % 2]; }
  DEEPERLAB_HD const int32_t* entries_in_order() const { return entry[passes % 2]; }
  DEEPERLAB_HD uint64_t* unique() const { return key[1 - passes % 2]; }
  DEEPERLAB_HD int32_t* begun() const { return entry[1 - passes % 2]; }
  DEEPERLAB_HD bool begins(int64_t i) const { return i == 0 || sorted()[i] != sorted()[i - 1]; }
  // Whether a piece does: the next part of the image, or the next vertex.
  DEEPERLAB_HD bool begins_piece(const Crf& of, int64_t i) const {
    return begins(i) || part_of(of, entries_in_order()[i]) != part_of(of, entries_in_order()[i - 1]);
  }
  static DEEPERLAB_HD int64_t part_of(const Crf& of, int32_t entry) {
    const int32_t pixel = entry / crf_corners;
    return of.part(pixel / of.shape.width, pixel % of.shape.width);
  }
};

// What the threads of a block before this one have, and all of them, added up.
struct Sums {
  int32_t before, all;
};

__device__ Sums sum_block(int32_t value) {
  __shared__ int32_t of_warp[warps_of_block];
  const int lane = lane_index(), own = int(threadIdx.x) / warp;
  int32_t sum = value;
  for (int offset = 1; offset < warp; offset *= 2) {
    const int32_t other = __shfl_sync(all_lanes, sum, lane < offset ? lane : lane - offset);
    sum += lane < offset ? 0 : other;
  }
  if (lane == warp - 1) {
    of_warp[own] = sum;
  }
  __syncthreads();
  Sums found{sum - value, 0};
  for (int i = 0; i < warps_of_block; ++i) {
    found.before += i < own ? of_warp[i] : 0;
    found.all += of_warp[i];
  }
  __syncthreads();  // all have read
  return found;
}

// Part i of `parts` of a list begins here.
__device__ int64_t part_begin(int64_t count, int64_t i) { return count * i / gridDim.x; }

// A part a block.
__global__ void sum_parts(const int32_t* list, int64_t count, int32_t* sums) {
  int32_t sum = 0;
  const int64_t end = part_begin(count, blockIdx.x + 1);
  for (int64_t i = part_begin(count, blockIdx.x) + threadIdx.x; i < end; i += block) {
    sum += list[i];
  }
  const Sums found = sum_block(sum);
  if (threadIdx.x == 0) {
    sums[blockIdx.x] = found.all;
  }
}

// A part a block; before[i] is the sum of the parts before it, null: the list is one part.
__global__ void scan_parts(int32_t* list, int64_t count, const int32_t* before) {
  int32_t sum = before == nullptr ? 0 : before[blockIdx.x];
  const int64_t end = part_begin(count, blockIdx.x + 1);
  for (int64_t first = part_begin(count, blockIdx.x); first < end; first += block) {  // by all threads
    const int64_t i = first + threadIdx.x;
    const Sums found = sum_block(i < end ? list[i] : 0);
    if (i < end) {
      list[i] = sum + found.before;
    }
    sum += found.all;
  }
}

// Every number of a list becomes the sum of those before it.
void scan(int32_t* list, int64_t count, int32_t* sums, Stream stream) {
  const int64_t parts = minimum(blocks_for(count, 4096), most_parts);
  launch(sum_parts, parts, stream, list, count, sums);
  launch(scan_parts, 1, stream, sums, parts, nullptr);
  launch(scan_parts, parts, stream, list, count, sums);
}

// One pixel a thread.
__global__ void enclose_pixels(Crf of, int64_t n, float* weight, uint64_t* key, int32_t* entry) {
  const int64_t pixel = thread_index();
  if (pixel >= of.shape.pixels()) {
    return;
  }
  const int y = int(pixel / of.shape.width), x = int(pixel % of.shape.width);
  float feature[crf_features];
  for (int i = 0; i < crf_features; ++i) {
    feature[i] = crf_feature(of, n, y, x, i);
  }
  const SimplexOf<float> simplex = enclose(feature);
  for (int k = 0; k < crf_corners; ++k) {
    int32_t at[crf_features];
    for (int i = 0; i < crf_features; ++i) {
      at[i] = simplex.at(k, i);
    }
    const int64_t own = pixel * crf_corners + k, to = of.place(y, x) * crf_corners + k;
    key[to] = of.keys.key(at);
    entry[to] = int32_t(own);
    weight[own] = simplex.weight[k];
  }
}

__device__ int digit_of(uint64_t key, int shift) { return int(key >> shift) & (digits - 1); }

// A tile a block.
__global__ void count_digits(const uint64_t* key, int64_t entries, int shift, int32_t* counts) {
  __shared__ int32_t count[digits];
  count[threadIdx.x] = 0;
  __syncthreads();
  const int64_t first = int64_t(blockIdx.x) * entries_of_tile;
  for (int64_t i = first + threadIdx.x; i < minimum(first + entries_of_tile, entries); i += block) {
    atomicAdd(&count[digit_of(key[i], shift)], 1);
  }
  __syncthreads();
  counts[int64_t(threadIdx.x) * gridDim.x + blockIdx.x] = count[threadIdx.x];
}

// A tile a block, whose entries find their places in order: first[digit, tile] is that of the first one.
__global__ void move_entries(SortRoom room, int from, int shift, const int32_t* first) {
  __shared__ int32_t next[warps_of_block][digits];
  const uint64_t* const key = room.key[from];
  int32_t* const places = next[threadIdx.x / warp];
  for (int digit = lane_index(); digit < digits; digit += warp) {
    places[digit] = 0;
  }
  __syncwarp();
  const int64_t begin = int64_t(blockIdx.x) * entries_of_tile + int64_t(threadIdx.x / warp) * entries_of_warp;
  const int64_t end = minimum<int64_t>(begin + entries_of_warp, room.entries);
  for (int64_t i = begin + lane_index(); i < end; i += warp) {
    atomicAdd(&places[digit_of(key[i], shift)], 1);
  }
  __syncthreads();
  int32_t place = first[int64_t(threadIdx.x) * gridDim.x + blockIdx.x];
  for (int i = 0; i < warps_of_block; ++i) {
    const int32_t count = next[i][threadIdx.x];
    next[i][threadIdx.x] = place;
    place += count;
  }
  __syncthreads();
  for (int64_t at = begin; at < end; at += warp) {  // by all lanes
    const int64_t i = at + lane_index();
    const int digit = i < end ? digit_of(key[i], shift) : 0;
    unsigned alike = __ballot_sync(all_lanes, i < end);
    for (int bit = 0; bit < digit_bits; ++bit) {
      const unsigned set = __ballot_sync(all_lanes, digit >> bit & 1);
      alike &= (digit >> bit & 1) != 0 ? set : ~set;
    }
    const int before = __popc(alike & ((1u << lane_index()) - 1));
    const int32_t to = places[digit] + before;
    __syncwarp();  // all have read
    if (i < end) {
      if (before == 0) {
        places[digit] += __popc(alike);
      }
      room.key[1 - from][to] = key[i];
      room.entry[1 - from][to] = room.entry[from][i];
    }
    __syncwarp();
  }
}

__global__ void find_begins(Crf of, SortRoom room) {
  const int64_t i = thread_index();
  if (i < room.entries) {
    room.begun()[i] = room.begins(i);
    room.pieces[i] = room.begins_piece(of, i);
  }
}

// One entry a thread, in the order of keys.
__global__ void number_entries(Crf of, SortRoom room, CrfLattice lattice) {
  const int64_t i = thread_index();
  if (i >= room.entries) {
    return;
  }
  const bool begins = room.begins(i);
  const int32_t entry = room.entries_in_order()[i], vertex = room.begun()[i] + begins;
  lattice.vertex[entry] = vertex;
  lattice.pixel[i] = entry / crf_corners;
  lattice.splat[i] = lattice.slice[entry];
  if (begins) {
    room.unique()[vertex - 1] = room.sorted()[i];
  }
  if (i == room.entries - 1) {
    room.found[0] = vertex;
    room.found[1] = room.pieces[i] + room.begins_piece(of, i);
  }
}

// One vertex and axis a thread.
__global__ void find_beside(SortRoom room, CrfKeys keys, CrfLinks links) {
  const int64_t vertex = thread_index() / crf_corners;
  const int axis = int(thread_index() % crf_corners);
  if (vertex >= links.vertices) {
    return;
  }
  const uint64_t* const key = room.unique();
  for (int side = 0; side < 2; ++side) {
    const uint64_t step = uint64_t(keys.step(axis)), wanted = side == 0 ? key[vertex] - step : key[vertex] + step;
    int64_t low = 0, high = links.vertices;  // the first key that is not less lies between them
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      low = key[middle] < wanted ? middle + 1 : low;
      high = key[middle] < wanted ? high : middle;
    }
    links.of(axis, vertex + 1)[side] = low < links.vertices && key[low] == wanted ? int32_t(low) + 1 : 0;
  }
}

// One entry a thread, in the order of keys.
__global__ void list_pieces(Crf of, SortRoom room, CrfLinks links) {
  const int64_t i = thread_index();
  if (i >= room.entries) {
    return;
  }
  if (room.begins_piece(of, i)) {
    links.piece[room.pieces[i]] = int32_t(i);
  }
  if (room.begins(i)) {
    links.first_piece[room.begun()[i]] = room.pieces[i];
  }
  if (i == 0) {
    links.piece[links.pieces] = int32_t(room.entries);
    links.first_piece[links.vertices] = int32_t(links.pieces);
  }
}

}  // namespace

int64_t crf_sort_bytes(const Crf& of) { return SortRoom(of, nullptr).bytes; }

const char* find_vertices(const Crf& of, int64_t n, const CrfBlocks& blocks, void* sort, CrfCounts& counts,
                          Stream stream) {
  auto* const queue = static_cast<cudaStream_t>(stream);
  cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
  cudaStreamIsCapturing(queue, &capture);
  if (capture != cudaStreamCaptureStatusNone) {
    return "a graph is being captured, and the host has to wait for the number of the lattice's vertices";
  }
  const CrfLattice lattice = CrfLattice::lay_out(of, blocks.lattice);
  const SortRoom room(of, sort);
  cudaGetLastError();  // of somebody else
  launch(enclose_pixels, blocks_for(of.shape.pixels(), block), stream, of, n, lattice.slice, room.key[0],
         room.entry[0]);
  for (int pass = 0; pass < room.passes; ++pass) {
    const int from = pass % 2, shift = pass * digit_bits;
    launch(count_digits, room.tiles, stream, room.key[from], room.entries, shift, room.count);
    scan(room.count, digits * room.tiles, room.sums, stream);
    launch(move_entries, room.tiles, stream, room, from, shift, room.count);
  }
  launch(find_begins, blocks_for(room.entries, block), stream, of, room);
  scan(room.begun(), room.entries, room.sums, stream);
  scan(room.pieces, room.entries, room.sums, stream);
  launch(number_entries, blocks_for(room.entries, block), stream, of, room, lattice);
  int32_t found[2] = {};
  cudaMemcpyAsync(found, room.found, sizeof found, cudaMemcpyDeviceToHost, queue);
  cudaStreamSynchronize(queue);
  counts = {found[0], found[1]};
  return explain(cudaGetLastError());
}

const char* link_vertices(const Crf& of, const CrfBlocks& blocks, void* sort, Stream stream) {
  const CrfLinks links = CrfLinks::lay_out(blocks.counts, blocks.links);
  const SortRoom room(of, sort);
  cudaGetLastError();  // of somebody else
  launch(find_beside, blocks_for(links.vertices * crf_corners, block), stream, room, of.keys, links);
  launch(list_pieces, blocks_for(room.entries, block), stream, of, room, links);
  return explain(cudaGetLastError());
}

}  // namespace deeperlab::cuda
