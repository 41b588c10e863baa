// The blocks of one group of 16 outputs, as node.cc hands them to kernels.
#pragma once

#include <cstddef>
#include <cstdint>

namespace gr::quads {

constexpr size_t kOutputs = 16;
constexpr size_t kInputs = 4;
constexpr size_t kBlock = kOutputs * kInputs;

struct Strand {
  const int8_t* weights;  // [count][16][4], aligned to cache lines
  const uint16_t* quads;  // [count]: which four inputs a block multiplies
  const uint16_t* taps;   // [count]: at which kernel position
  size_t count;
};

}  // namespace gr::quads
