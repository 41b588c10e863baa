// The wavelet layer: diagonal, analysis, permutation, diagonal, synthesis, diagonal, bias, one row at a time.
#pragma once

#include <cstddef>
#include <cstdint>

#include "glue/tables.h"

namespace gr::wavelet_linear {

// The most lanes of any instruction set: loops run over twice as many, and arrays have room for that.
constexpr size_t kPad = 32;

// One level splits `length` numbers into a low and a high half of `half` each.
struct Level {
  size_t length, half;
  size_t high;  // where the high half starts among the coefficients
};

// Coefficients lie in bands: the high halves from fine to coarse, then the last low half, each with room behind it that
// belongs to nobody. `permutation` and `middle` are laid out like that and hold positions in that layout.
//
// Filters are stored with an even number of taps: one of odd length has a zero behind it for the analysis and in front
// of it for the synthesis, which changes no result.
template <class Index>
struct Layer {
  size_t in, out;
  const float* before;  // [in]
  const float* after;   // [out]
  const float* bias;    // [out]
  const Level* levels;
  size_t level_count;
  size_t low;           // where the last low half starts among the coefficients
  size_t coefficients;  // room of all bands
  const Index* permutation;
  const float* middle;
  size_t pairs;               // half the number of taps
  const float* analysis[2];   // low, high: [2 * pairs]
  const float* synthesis[2];
  size_t margin;  // zeros in front of what is split, at least pairs
  size_t room;    // of a half of any level, with all that may be written or read behind it
};

struct Table {
  // x is [rows][in], y is [rows][out]; work holds 4 * margin + 6 * room + 2 * coefficients numbers.
  void (*narrow)(const Layer<uint16_t>& layer, const float* x, float* y, size_t rows, float* work);
  void (*wide)(const Layer<uint32_t>& layer, const float* x, float* y, size_t rows, float* work);
};

GR_TABLES(Table)

}  // namespace gr::wavelet_linear
