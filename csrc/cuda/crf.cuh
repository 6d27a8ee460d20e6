// SPDX-License-Identifier: Apache-2.0
// Where the values of crf lie on the device. A pixel, a vertex or a piece has a row of C floats, without padding: its
// classes are shared by threads, not by vectors.
#pragma once

#include "deeperlab/crf.h"
#include "deeperlab/scratch.h"
#include "launch.cuh"

namespace deeperlab::cuda {

// The lattice of one image of P pixels: M vertices, counted from 1; 0 is none. Corner k of pixel p is entry 6p + k.
struct CrfLattice {
  int32_t* vertex;      // [P, 6]
  float* slice;         // [P, 6] weight of what the vertex says to the pixel
  int32_t* pixel;       // [6P] the pixels of a vertex, ascending, vertex by vertex
  float* splat;         // [6P] weight of what they say to it
  CrfFactors* factors;  // [P] of what the pixel says, and of what it hears, that times w1
  int64_t entries, bytes;

  static CrfLattice lay_out(const Crf& of, void* block) {
    Scratch scratch(block);
    CrfLattice at{};
    at.entries = of.shape.pixels() * crf_corners;
    at.vertex = scratch.take<int32_t>(at.entries);
    at.slice = scratch.take<float>(at.entries);
    at.pixel = scratch.take<int32_t>(at.entries);
    at.splat = scratch.take<float>(at.entries);
    at.factors = scratch.take<CrfFactors>(of.shape.pixels());
    at.bytes = scratch.bytes();
    return at;
  }
};

// The vertices beside each vertex, and how its entries are divided: those of a part of the image are a piece, and of
// these there are G. Pieces follow one another as entries do, so a piece ends where the next begins, and the pieces of
// a vertex where those of the next one begin. A vertex may have most of the pixels, and is then summed by as many
// threads as another thousand.
struct CrfLinks {
  int32_t* beside;       // [6, M, 2] before and after it along an axis
  int32_t* first_piece;  // [M + 1]
  int32_t* piece;        // [G + 1] its first entry
  int64_t vertices, pieces, bytes;

  static CrfLinks lay_out(const CrfCounts& counts, void* block) {
    Scratch scratch(block);
    CrfLinks at{};
    at.vertices = counts.vertices;
    at.pieces = counts.groups;
    at.beside = scratch.take<int32_t>(crf_corners * 2 * at.vertices);
    at.first_piece = scratch.take<int32_t>(at.vertices + 1);
    at.piece = scratch.take<int32_t>(at.pieces + 1);
    at.bytes = scratch.bytes();
    return at;
  }
  __device__ int32_t* of(int axis, int64_t vertex) const { return beside + (axis * vertices + vertex - 1) * 2; }
};

// The values of one image, in rows.
struct CrfRows {
  float* unary;         // [P] scores of the head, the greatest of a pixel being 0
  float* share;         // [P] Q
  float* nodes[2];      // [nodes of H, nodes of W] what pixels give to the spatial kernel; filtered along y
  float* vertex[2];     // [M + 1] vertex 0 is 0; the second holds [G] before that
  float* weight;        // [half_width + 1] the spatial kernel along a line of nodes
  CrfFactors* columns;  // [W]
  CrfFactors* lines;    // [H]
  int64_t bytes;

  static CrfRows lay_out(const Crf& of, const CrfLinks& links, void* block) {
    Scratch scratch(block);
    CrfRows at{};
    const int64_t pixels = of.shape.pixels(), row = of.shape.classes;
    at.unary = scratch.take<float>(pixels * row);
    at.share = scratch.take<float>(pixels * row);
    for (float*& values : at.nodes) {
      values =
          scratch.take<float>(of.w2 > 0.0f ? int64_t(of.nodes(of.shape.height)) * of.nodes(of.shape.width) * row : 0);
    }
    at.vertex[0] = scratch.take<float>((links.vertices + 1) * row);
    at.vertex[1] = scratch.take<float>((maximum(links.pieces, links.vertices) + 1) * row);
    at.weight = scratch.take<float>(of.half_width + 1);
    at.columns = scratch.take<CrfFactors>(of.shape.width);
    at.lines = scratch.take<CrfFactors>(of.shape.height);
    at.bytes = scratch.bytes();
    return at;
  }
};

}  // namespace deeperlab::cuda
