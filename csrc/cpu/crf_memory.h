// SPDX-License-Identifier: Apache-2.0
// Where the values of crf lie. Those of a pixel or a vertex are a row of floats, one a class, in whole groups of eight;
// those beyond the last class are 0.
#pragma once

#include "deeperlab/crf.h"
#include "deeperlab/scratch.h"

namespace deeperlab::cpu {

// The lattice of one image of P pixels: M vertices, counted from 1; 0 is none. Corner k of pixel p is entry 6p + k.
struct Lattice {
  int32_t* vertex;  // [P, 6]
  float* slice;     // [P, 6] weight of what the vertex says to the pixel
  int32_t* pixel;   // [6P] the pixels of a vertex, ascending, vertex by vertex
  float* splat;     // [6P] weight of what they say to it
  int32_t* first;   // [M + 1] where those of a vertex begin
  int64_t bytes;

  static Lattice lay_out(const Crf& of, void* block) {
    Scratch scratch(block);
    const int64_t entries = of.shape.pixels() * crf_corners;
    Lattice at{};
    at.vertex = scratch.take<int32_t>(entries);
    at.slice = scratch.take<float>(entries);
    at.pixel = scratch.take<int32_t>(entries);
    at.splat = scratch.take<float>(entries);
    at.first = scratch.take<int32_t>(entries + 1);
    at.bytes = scratch.bytes();
    return at;
  }
};

// The vertices beside each vertex: [6, M, 2], before and after it along an axis.
struct Links {
  int32_t* beside;
  int64_t vertices, bytes;

  static Links lay_out(int64_t vertices, void* block) {
    Scratch scratch(block);
    Links at{};
    at.beside = scratch.take<int32_t>(crf_corners * 2 * vertices);
    at.vertices = vertices;
    at.bytes = scratch.bytes();
    return at;
  }
  int32_t* of(int axis, int64_t vertex) const { return beside + (axis * vertices + vertex - 1) * 2; }
};

// The values of one image, in rows.
struct CrfValues {
  float* unary;         // [P] scores of the head, the greatest of a pixel being 0
  float* share;         // [P] Q
  float* across;        // [P] Q filtered along x by the spatial kernel, times what its row gives; lines of 0 around it
  float* vertex[2];     // [M + 1] vertex 0 is 0
  float* ones;          // [2, M + 1] one float each: the lattice's answer to ones
  float* weight;        // [half_width + 1] the spatial kernel along a line
  CrfFactors* columns;  // [W]
  CrfFactors* lines;    // [H]
  float* room;          // [bands, room_floats] for one task each
  int64_t room_floats, bytes;

  static CrfValues lay_out(const Crf& of, int64_t vertices, void* block) {
    Scratch scratch(block);
    CrfValues at{};
    const int64_t pixels = of.shape.pixels(), row = of.row();
    at.unary = scratch.take<float>(pixels * row);
    at.share = scratch.take<float>(pixels * row);
    if (of.w2 > 0.0f) {
      const int64_t frame = of.frame();
      at.across = scratch.take<float>(pixels * row + 2 * frame) + frame;
    }
    for (float*& values : at.vertex) {
      values = scratch.take<float>((vertices + 1) * row);
    }
    at.ones = scratch.take<float>(2 * (vertices + 1));
    at.weight = scratch.take<float>(of.half_width + 1);
    at.columns = scratch.take<CrfFactors>(of.shape.width);
    at.lines = scratch.take<CrfFactors>(of.shape.height);
    at.room_floats = (of.shape.width + maximum<int64_t>(4, 2 * of.reach(of.shape.width))) * row;
    at.room = scratch.take<float>((of.shape.height + rows_of_crf_band - 1) / rows_of_crf_band * at.room_floats);
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
        links(Links::lay_out(blocks.vertices, blocks.links)),
        values(CrfValues::lay_out(of, blocks.vertices, blocks.values)) {}
};

}  // namespace deeperlab::cpu
