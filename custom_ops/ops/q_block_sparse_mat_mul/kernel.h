// Rows of floats times blocks of 16 outputs x 4 inputs: what a kernel is handed.
#pragma once

#include <cstddef>
#include <cstdint>

#include "blocks/layer.h"
#include "glue/tables.h"
#include "quads/strand.h"

namespace gr::q_block_sparse_mat_mul {

// Rows that are multiplied together, quantised: value = (byte - zero_point) * scale.
struct Rows {
  const uint8_t* bytes;       // [quads][pitch][4]
  size_t count, pitch;        // rows, and those that there is room for
  const float* scale;         // [count]
  const int32_t* zero_point;  // [count]
  float* y;                   // [count][outputs]
  size_t outputs;
};

// What is the same for all calls, for one group of 16 outputs.
struct Group {
  quads::Strand strand;
  const int32_t* sums;   // [16], of the weights of an output
  const float* w_scale;  // [16]
  const float* bias;     // [16]
};

struct Table {
  // The most rows that are multiplied together, and the step between the numbers there must be room for, beside 1.
  size_t rows, step;
  // Quantises a row; `step` bytes lie between the quads of `bytes`. A row that holds a number that is not finite gets
  // the scale NaN. Inputs that fill up the last quad are 0, as the zero point says it.
  void (*quantise)(const float* x, size_t inputs, uint8_t* bytes, size_t step, float* scale, int32_t* zero_point);
  // Computes the outputs of `count` groups, of which the first is group `first` of the layer.
  void (*multiply)(const Rows& rows, const Group* groups, size_t first, size_t count, const blocks::Finish& finish);
};

GR_TABLES(Table)

}  // namespace gr::q_block_sparse_mat_mul
