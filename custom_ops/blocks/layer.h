// What the kernels over blocks of N outputs are told: a layer, and the part of its work at hand. Plain data only.
//
// A convolution and a matrix product over many rows are one kernel. Inputs lie in *planes*: one for every input (and
// phase of a stride), each a line of positions. Position p of an output is the sum, over the blocks of its group, of
// weight * plane[p + shift of the kernel position]; so the lanes of a register are neighbouring positions.
#pragma once

#include <cstddef>
#include <cstdint>

namespace gr::blocks {

// In the order of `ACTIVATIONS` in activation.py.
enum class Activation : int { none, relu, clip, silu, hardswish };

struct Finish {
  Activation activation;
  float low, high;  // of clip and relu
};

// Blocks that a kernel may look past the last one, to ask the cache for their inputs: so many places are there more.
constexpr size_t kAhead = 4;

struct Layer {
  size_t width;            // outputs of a block
  size_t outputs;          // of the layer; the last group of `width` may be ragged
  const float* values;     // [blocks][width]
  const uint32_t* where;   // [blocks]: input << tap_bits | kernel position
  const uint32_t* starts;  // [groups + 1]: blocks of a group lie from starts[group] to starts[group + 1]
  unsigned tap_bits;
  const float* bias;  // [groups * width]
  Finish finish;
};

// Positions of an output that are computed at once: `vectors` registers of them, starting at `from`.
struct Tile {
  uint32_t from;
  uint32_t vectors;
  uint32_t first_run, last_run;  // where its numbers go
};

// `length` numbers of a tile, from number `from` on, are those of an output plane from `to` on. What no run covers is
// padding between rows.
struct Run {
  uint32_t from, to, length;
};

struct Work {
  const float* planes;
  const uint32_t* places;  // [blocks + kAhead], of the layer: floats from a position to what the block multiplies there
  const Tile* tiles;
  size_t tile_count;
  const Run* runs;
  float* y;        // of the first output of first_group
  size_t y_plane;  // floats from one output to the next
  size_t first_group, last_group;
  bool groups_outer;  // go through all tiles with one group's weights, not through all groups with one tile's inputs
};

struct Kernels {
  size_t lanes;
  // Registers of positions that one tile may have.
  size_t (*most_vectors)(size_t width);
  // Places of the blocks of groups [first, last), and kAhead more of which only the line is asked for: input times
  // `plane`, the floats from one input's planes to the next input's, and the shift of the kernel position.
  void (*place)(const Layer& layer, const uint32_t* taps, size_t plane, size_t first, size_t last, uint32_t* places);
  // Computes `work` of a layer: all its tiles for its groups.
  void (*spread)(const Layer& layer, const Work& work);
  // One row times the weight: y[output] for groups [first, last). x is [inputs], and tap_bits are 0.
  void (*row)(const Layer& layer, const float* x, float* y, size_t first, size_t last);
  // Turns `rows` x `columns` numbers on their side: to[column * to_pitch + row] = from[row * from_pitch + column].
  void (*turn)(const float* from, size_t from_pitch, size_t rows, size_t columns, float* to, size_t to_pitch);
  // Every step-th number: to[i] = from[i * step].
  void (*every)(const float* from, size_t step, size_t count, float* to);
};

}  // namespace gr::blocks
