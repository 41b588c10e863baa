// Products with weights of 1, 2 or 4 bits: rows of activations are rounded to bytes once, then multiplied with one
// sequential stream of codes. Lanes are outputs, so that nothing is ever summed across a register.
//
// With q the rounded row, c the codes and a level 2 c - offset, a group of inputs adds scale * (2 sum(q c) - offset sum(q)):
// the codes enter as they are, unsigned, and the offset costs one subtraction per group.
#pragma once

#include <cstddef>
#include <cstdint>

#include "glue/tables.h"

namespace gr::low_bit_mat_mul {

constexpr size_t kBlock = 32;   // outputs of a block
constexpr size_t kStep = 16;    // inputs, what depth is rounded up to
constexpr size_t kMostRows = 8;  // of a tile

constexpr size_t kScales = 64;   // bytes of the scales of a block's group

// A layer. Everything is filled up to whole blocks, whatever stands there.
//
// The stream of a block: each group's scales (kBlock halves; none where there is one group) and its slabs of codes. It
// starts at a cache line, and every slab is one or two of them.
struct Layer {
  const uint8_t* stream;    // [blocks][block_bytes]
  size_t block_bytes;
  const float* factor;      // [blocks][kBlock]: gain, times the scale where there is one group
  const float* bias;        // [blocks][kBlock]
  size_t depth, outputs;
  size_t steps;             // of kStep inputs
  size_t groups, group_steps;
  int bits, offset;
};

// Some rows of activations, made ready for the kernels of one instruction set.
struct Tile {
  size_t rows;
  void* data;      // tile_bytes(layer, rows), aligned to a cache line
  float* worth;    // [rows]: of a level; NaN for a row that holds a number that is not finite
  int32_t* sums;   // [groups][rows]: offset * sum(q)
};

struct Table {
  // How many of `left` rows are best taken together; 1 to kMostRows.
  size_t (*tile_rows)(const Layer& layer, size_t left);
  size_t (*tile_bytes)(const Layer& layer, size_t rows);
  // Rounds tile.rows rows of x, [rows][depth]. `levels` is working memory of rows * steps * kStep bytes.
  void (*prepare)(const Layer& layer, const float* x, int8_t* levels, const Tile& tile);
  // Writes y [rows][outputs] for the outputs of blocks [from, to).
  void (*multiply)(const Layer& layer, const Tile& tile, size_t from, size_t to, float* y);
};

GR_TABLES(Table)

}  // namespace gr::low_bit_mat_mul
