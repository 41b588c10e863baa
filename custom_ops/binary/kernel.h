// Products of signs: 32 of them are one xor and one count of bits. What all binary layers are made of.
//
// A pixel is the place of one output position, the window the words of all taps that it looks at. Lanes are outputs:
// one input word meets the weights of 16 to 64 outputs at once, and nothing is ever summed across lanes.
#pragma once

#include <cstddef>
#include <cstdint>

#include "glue/tables.h"

namespace gr::binary {

// Outputs are stored in blocks of this many, the last one of a group rounded up to a multiple of kLaneStep.
constexpr size_t kBlock = 64;
constexpr size_t kLaneStep = 16;

// Words of a window that follow each other in memory.
struct Run {
  size_t offset;  // from the word at which the pixel's window starts
  size_t words;
};

// Signs of one picture as words, and where the windows lie in it.
struct Map {
  const uint32_t* words;
  size_t row_step, column_step;  // words from one pixel to the one below it, and to its right
  size_t columns;                // pixels in a row
  const Run* runs;
  size_t run_count;
  // What to add to Block::terms for a pixel: taps that hang over the edge of the picture contribute nothing, and
  // which ones do depends on the row and the column. Null where no window hangs over.
  const size_t* row_terms;
  const size_t* column_terms;
};

struct Block {
  const uint32_t* weights;  // [words of a window][lanes]
  size_t lanes;             // 16, 32, 48 or 64
  const int32_t* terms;     // [lanes], for a pixel whose window lies inside
};

struct Table {
  // Counts of differing bits become output bits: those of at most `terms` are set. Pixels [from, to) are done, `out` is
  // where the first of them goes; `step` words lie between the outputs of two pixels.
  void (*bits)(const Map& map, const Block& block, size_t from, size_t to, uint32_t* out, size_t step);
  // Counts become numbers, (terms - 2 * count) * scale + bias, in planes of `step` pixels or in rows of `step` outputs.
  // `outputs` <= lanes of them are written; scale and bias have all lanes.
  void (*planes)(const Map& map, const Block& block, size_t from, size_t to, const float* scale, const float* bias,
                 float* out, size_t step, size_t outputs);
  void (*rows)(const Map& map, const Block& block, size_t from, size_t to, const float* scale, const float* bias,
               float* out, size_t step, size_t outputs);
  // A bit is set where x >= threshold. Planes: x is [channels][positions]; rows: x is [positions][channels].
  // out is [positions][ceil(channels / 32)]; positions [from, to) are done.
  void (*pack_planes)(const float* x, const float* threshold, uint32_t* out, size_t channels, size_t positions,
                      size_t from, size_t to);
  void (*pack_rows)(const float* x, const float* threshold, uint32_t* out, size_t channels, size_t from, size_t to);
};

GR_TABLES(Table)

}  // namespace gr::binary
