// Convolution of bytes by blocks of 16 outputs x 4 inputs: which pixels lie where, and what a kernel is handed.
#pragma once

#include <cstddef>
#include <cstdint>

#include "glue/tables.h"
#include "quads/strand.h"

namespace gr::q_block_sparse_conv {

// A band of output rows of one picture and the inputs it sees. The inputs are copied into a buffer whose pixels are
// 4 bytes: [quad][row phase][column phase][row][pitch][4]. With steps of s, phase p holds the rows (columns) p, p + s,
// p + 2 s ...: neighbouring outputs then always see neighbouring pixels, and output (row, column) is pixel
// row * pitch + column of the band for every kernel position, shifted by taps[kernel position] bytes.
struct Band {
  // The picture.
  const uint8_t* x;      // [channels][height][width]
  const uint8_t* x_end;  // one past the last byte that may be read behind x
  size_t channels, height, width;
  uint8_t zero_point;
  // Steps and borders: halo row r of phase p is input row (first_row + r) * stride_y + p - top.
  size_t stride_y, stride_x, phases_y, phases_x, top, left;
  size_t first_row;
  // The copy.
  uint8_t* halo;         // a cache line behind it may be read
  uint8_t* line;         // scratch: [width + 16][4], where stride_x > 1
  uint8_t* empty;        // scratch: [width + 16], for channels that fill up the last quad
  size_t halo_rows, pitch, phase;  // rows and pixels per row of a phase; pixels of a phase
  const size_t* taps;    // [kernel positions], bytes
  size_t plane;          // bytes of a quad
  // The outputs.
  uint8_t* y;            // [out_channels][out_height][out_width]
  size_t rows, out_width, out_plane, out_channels;
  bool is_flat;          // tiles run across row ends; else every row has tiles of its own
};

// What is the same for all calls, for one group of 16 outputs.
struct Group {
  quads::Strand strand;
  const int32_t* start;   // [16]: bias, less the zero point's share
  const float* scale;     // [16]: x_scale * w_scale / y_scale; no sum times its scale leaves 31 bits
  int16_t zero_point;     // of y
};

struct Table {
  // Pixels of the longest tile.
  size_t pixels;
  // Copies the inputs that the band sees.
  void (*spread)(const Band& band);
  // Computes the outputs of `count` groups, of which the first is group `first` of the layer.
  void (*convolve)(const Band& band, const Group* groups, size_t first, size_t count);
};

GR_TABLES(Table)

}  // namespace gr::q_block_sparse_conv
