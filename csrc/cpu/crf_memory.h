// SPDX-License-Identifier: Apache-2.0
// Where the values of crf lie. Those of a pixel or a vertex are a row of floats, one a class, in whole groups of eight;
// those beyond the last class are 0.
#pragma once

#include "deeperlab/crf.h"
#include "deeperlab/scratch.h"

namespace deeperlab::cpu {

// The lattice of one image of P pixels. A group is what the pixels of a part of the image and a vertex have in common:
// G of them, those of a part side by side. Corner k of pixel p is entry 6p + k.
struct Lattice {
  uint16_t* group;  // [P, 6] of the part
  float* slice;     // [P, 6] weight of what the vertex says to the pixel
  float* splat;     // [P, 6] weight of what the pixel says to the vertex
  int32_t* before;  // [parts + 1] groups of the parts before
  int64_t bytes;

  static Lattice lay_out(const Crf& of, void* block) {
    Scratch scratch(block);
    const int64_t entries = of.shape.pixels() * crf_corners;
    Lattice at{};
    at.group = scratch.take<uint16_t>(entries);
    at.slice = scratch.take<float>(entries);
    at.splat = scratch.take<float>(entries);
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

// How an image is divided for its update: into strips of columns, so narrow that the rows which a row hears from stay
// in the cache, and these into bands of rows. A task has room for the rows that it is about, with as much beside the
// strip as the spatial kernel reaches.
struct Tasks {
  int strips, bands;
  int columns;  // of a strip, whole parts
  int64_t room_floats;

  static constexpr int band_rows = 2 * crf_part_rows, together = 4;  // rows that are filtered along y at once
  static constexpr int64_t floats_in_cache = int64_t(1) << 18;

  explicit Tasks(const Crf& of) {
    const bool is_spatial = of.w2 > 0.0f;
    const int reach_x = is_spatial ? of.reach(of.shape.width) : 0, reach_y = is_spatial ? of.reach(of.shape.height) : 0;
    const int64_t fit = floats_in_cache / (int64_t(of.row()) * (2 * reach_y + together)) - 2 * reach_x;
    const int64_t parts = maximum<int64_t>(fit / crf_part_columns, (4 * reach_x) / crf_part_columns + 1);
    columns = int(minimum<int64_t>(parts, of.part_columns())) * crf_part_columns;
    strips = (of.shape.width + columns - 1) / columns;
    bands = (of.shape.height + band_rows - 1) / band_rows;
    room_floats = int64_t(minimum(columns + 2 * reach_x, of.shape.width)) * of.row() * together +
                  int64_t(minimum(columns, of.shape.width) + 2 * reach_x) * of.row();
  }
  int64_t count() const { return int64_t(strips) * bands; }
};

// The values of one image, in rows.
struct CrfValues {
  float* unary;         // [P] scores of the head, the greatest of a pixel being 0
  float* across[2];     // [P] Q filtered along x by the spatial kernel, times what its row gives; lines of 0 around it
  float* group;         // [G] what the pixels of a part say to a vertex
  float* vertex[2];     // [M + 1] vertex 0 is 0
  float* ones;          // [2, M + 1] one float each: the lattice's answer to ones
  float* weight;        // [half_width + 1] the spatial kernel along a line
  CrfFactors* columns;  // [W]
  CrfFactors* lines;    // [H]
  float* room;          // of each task
  int64_t bytes;

  static CrfValues lay_out(const Crf& of, const CrfCounts& counts, void* block) {
    Scratch scratch(block);
    CrfValues at{};
    const int64_t pixels = of.shape.pixels(), row = of.row();
    at.unary = scratch.take<float>(pixels * row);
    for (float*& values : at.across) {
      const int64_t frame = of.frame();
      values = of.w2 > 0.0f ? scratch.take<float>(pixels * row + 2 * frame) + frame : nullptr;
    }
    at.group = scratch.take<float>(counts.groups * row);
    for (float*& values : at.vertex) {
      values = scratch.take<float>((counts.vertices + 1) * row);
    }
    at.ones = scratch.take<float>(2 * (counts.vertices + 1));
    at.weight = scratch.take<float>(of.half_width + 1);
    at.columns = scratch.take<CrfFactors>(of.shape.width);
    at.lines = scratch.take<CrfFactors>(of.shape.height);
    const Tasks tasks(of);
    at.room = scratch.take<float>(tasks.room_floats * tasks.count());
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
        values(CrfValues::lay_out(of, blocks.counts, blocks.values)) {}
};

}  // namespace deeperlab::cpu
