// SPDX-License-Identifier: Apache-2.0
// Where the values of crf lie. Those of a pixel or a vertex are a row of floats, one a class, in whole groups of eight;
// those beyond the last class are 0.
#pragma once

#include "deeperlab/crf.h"
#include "deeperlab/scratch.h"

namespace deeperlab::cpu {

// The lattice of one image of P pixels, which are counted part by part. A group is what the pixels of a part of the
// image and a vertex have in common: G of them, those of a part side by side. Corner k of pixel p is entry 6p + k.
struct Lattice {
  uint16_t* group;      // [P, 6] of the part
  float* weight;        // [P, 6] of what the vertex says to the pixel, and the pixel to it
  CrfFactors* factors;  // [P] of what the pixel says, and of what it hears, that times w1
  int32_t* before;      // [parts + 1] groups of the parts before
  int64_t bytes;

  static Lattice lay_out(const Crf& of, void* block) {
    Scratch scratch(block);
    const int64_t entries = of.shape.pixels() * crf_corners;
    Lattice at{};
    at.group = scratch.take<uint16_t>(entries);
    at.weight = scratch.take<float>(entries);
    at.factors = scratch.take<CrfFactors>(of.shape.pixels());
    at.before = scratch.take<int32_t>(of.parts() + 1);
    at.bytes = scratch.bytes();
    return at;
  }
};

// The M vertices, counted from 1 (0 is none): the groups of each, and those beside it.
struct Links {
  int32_t* beside;  // [6, M, 2] before and after a vertex along an axis
  int32_t* vertex;  // [G] of a group
  int32_t* group;   // [G] the groups of a vertex, ascending, vertex by vertex
  int32_t* first;   // [M + 1] where those of a vertex begin
  int64_t vertices, bytes;

  static Links lay_out(const CrfCounts& counts, void* block) {
    Scratch scratch(block);
    Links at{};
    at.vertices = counts.vertices;
    at.beside = scratch.take<int32_t>(crf_corners * 2 * counts.vertices);
    at.vertex = scratch.take<int32_t>(counts.groups);
    at.group = scratch.take<int32_t>(counts.groups);
    at.first = scratch.take<int32_t>(counts.vertices + 1);
    at.bytes = scratch.bytes();
    return at;
  }
  int32_t* of(int axis, int64_t vertex) const { return beside + (axis * vertices + vertex - 1) * 2; }
};

// A part of the image.
struct Part {
  int top, bottom, left, right;  // bottom and right lie behind it
  int64_t first;                 // place of its pixels, row by row

  Part(const Crf& of, int64_t part)
      : top(of.top(part)),
        bottom(minimum(top + int{crf_part_rows}, of.shape.height)),
        left(of.left(part)),
        right(minimum(left + int{crf_part_columns}, of.shape.width)),
        first(of.place(top, left)) {}
  int columns() const { return right - left; }
  int64_t place(int y, int x) const { return first + int64_t(y - top) * columns() + (x - left); }
};

// The lines that a thread works on while it updates a band, which is the parts beside each other. All hold rows.
struct BandRoom {
  float* share;   // [64] a row of pixels of a part
  float* vertex;  // what the vertices say to the groups of a part
  float* framed;  // a line of nodes, with 0 on both sides as far as the spatial kernel reaches
  float* heard;   // [16 + 1] lines of nodes: what the rows of the band hear
  float* own;     // [33] what the last even row of a part gives to the nodes of its line
  float* before;  // [33] what the last odd row gives to those after it
  float* beside;  // [16] what the last pixels of a part give to the nodes of the next, each in its row
  int64_t floats;

  // How many there are: enough for most machines, few beside what large images need.
  static int64_t count(const Crf& of) { return minimum(of.bands(), 64); }
  static BandRoom lay_out(const Crf& of, const CrfCounts& counts, float* block) {
    BandRoom at{};
    const int64_t row = of.row(), nodes = of.nodes(of.shape.width);
    const auto take = [&](int64_t rows) {
      float* const taken = block == nullptr ? nullptr : block + at.floats;
      at.floats += rows * row;
      return taken;
    };
    at.share = take(crf_part_columns);
    at.vertex = take(counts.most_of_part);
    at.framed = take(nodes + 2 * of.reach(of.shape.width));
    at.heard = take((crf_part_rows + 1) * nodes);
    at.own = take(crf_part_columns / 2 + 1);
    at.before = take(crf_part_columns / 2 + 1);
    at.beside = take(crf_part_rows);
    return at;
  }
};

// The values of one image, in rows.
struct CrfValues {
  float* unary;         // [P] scores of the head, the greatest of a pixel being 0; part by part
  float* nodes[2];      // [nodes of H, nodes of W] what pixels give to the spatial kernel; lines of 0 above and below
  float* seam;          // [bands] lines of nodes: what the last row of a band gives to the first nodes of the next
  float* group;         // [G] what the pixels of a part say to a vertex
  float* vertex[2];     // [M + 1] vertex 0 is 0
  float* ones;          // [2, M + 1] one float each: the lattice's answer to ones
  float* weight;        // [half_width + 1] the spatial kernel along a line of nodes
  CrfFactors* columns;  // [W]
  CrfFactors* lines;    // [H]
  float* room;          // [rooms, room_floats]
  int64_t room_floats;
  int64_t bytes;

  static CrfValues lay_out(const Crf& of, const CrfCounts& counts, void* block) {
    Scratch scratch(block);
    CrfValues at{};
    const int64_t pixels = of.shape.pixels(), row = of.row();
    at.unary = scratch.take<float>(pixels * row);
    if (of.w2 > 0.0f) {
      const int64_t line = of.nodes(of.shape.width) * row, frame = of.reach(of.shape.height) * line;
      for (float*& values : at.nodes) {
        values = scratch.take<float>(of.nodes(of.shape.height) * line + 2 * frame) + frame;
      }
      at.seam = scratch.take<float>(of.bands() * line);
    }
    at.group = scratch.take<float>(counts.groups * row);
    for (float*& values : at.vertex) {
      values = scratch.take<float>((counts.vertices + 1) * row);
    }
    at.ones = scratch.take<float>(2 * (counts.vertices + 1));
    at.weight = scratch.take<float>(of.half_width + 1);
    at.columns = scratch.take<CrfFactors>(of.shape.width);
    at.lines = scratch.take<CrfFactors>(of.shape.height);
    at.room_floats = BandRoom::lay_out(of, counts, nullptr).floats;
    at.room = scratch.take<float>(at.room_floats * BandRoom::count(of));
    at.bytes = scratch.bytes();
    return at;
  }
};

struct CrfMemory {
  Lattice lattice;
  Links links;
  CrfValues values;

  CrfMemory(const Crf& of, const CrfBlocks& blocks)
      : lattice(Lattice::lay_out(of, blocks.lattice)),
        links(Links::lay_out(blocks.counts, blocks.links)),
        values(CrfValues::lay_out(of, blocks.counts, blocks.values)),
        counts_(blocks.counts) {}
  BandRoom room(const Crf& of, int64_t number) const {
    return BandRoom::lay_out(of, counts_, values.room + number * values.room_floats);
  }

 private:
  CrfCounts counts_;
};

}  // namespace deeperlab::cpu
