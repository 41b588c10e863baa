// The Hadamard layer: diagonal, transform, permutation, diagonal, transform, diagonal, bias, one row at a time.
#pragma once

#include <cstddef>
#include <cstdint>

#include "glue/tables.h"

namespace gr::hadamard_linear {

// Vectors of this many numbers may be read of every array but x, whatever its length.
constexpr size_t kPad = 16;

template <class Index>
struct Layer {
  size_t in, size, out;  // size is a power of two, in and out are at most size
  const float* before;   // [in]
  const Index* permutation;  // [size]
  const float* middle;   // [size], divided by size: neither transform is scaled; zero in the padding
  const float* after;    // [out]
  const float* bias;     // [out]
};

struct Table {
  // x is [rows][in], y is [rows][out], work is two rows of size, each rounded up to kPad.
  void (*narrow)(const Layer<uint16_t>& layer, const float* x, float* y, size_t rows, float* work);
  void (*wide)(const Layer<uint32_t>& layer, const float* x, float* y, size_t rows, float* work);
};

GR_TABLES(Table)

}  // namespace gr::hadamard_linear
