// Packing the signs of planes into words: 32 channels of a position become one. Included by kernel.cc only.
#pragma once

#include <cstddef>
#include <cstdint>

#include "simd/simd.h"

namespace gr::binary {
namespace {

// Lanes are positions: a compare gives one bit of as many words, and the words stay in a register until they are full.
// with_sign(words, values, channel, bit) returns the words with the bit set where the values of the channel are +.
template <class WithSign>
GR_INLINE void pack_columns(const float* x, uint32_t* out, size_t channels, size_t positions, size_t from, size_t to,
                            const WithSign& with_sign) {
  using namespace simd::GR_ISA;
  const size_t words = (channels + 31) / 32;
  alignas(64) uint32_t column[kLanes];
  for (size_t position = from; position < to; position += kLanes) {
    const size_t live = to - position < kLanes ? to - position : kLanes;
    for (size_t word = 0; word < words; ++word) {
      const size_t last = channels - word * 32 < 32 ? channels - word * 32 : 32;
      const float* plane = x + word * 32 * positions + position;
      U32 packed = zero_u32();
      for (size_t bit = 0; bit < last; ++bit, plane += positions) {
        const F32 value = live == kLanes ? load(plane) : load_part(plane, live);
        packed = with_sign(packed, value, word * 32 + bit, set_u32(uint32_t{1} << bit));
      }
      store(column, packed);
      for (size_t lane = 0; lane < live; ++lane) out[(position + lane) * words + word] = column[lane];
    }
  }
}

}  // namespace
}  // namespace gr::binary
