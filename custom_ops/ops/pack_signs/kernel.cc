#include "ops/pack_signs/kernel.h"

#include "simd/simd.h"

namespace gr::pack_signs {
namespace {

// Lanes are positions: a compare gives one bit of as many words, and the words stay in a register until they are full.
void pack(const float* x, uint32_t* bits, size_t channels, size_t positions, size_t from, size_t to) {
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
        const F32 v = live == kLanes ? load(plane) : load_part(plane, live);
        packed = bit_or(packed, bit_and(not_negative(v), set_u32(uint32_t{1} << bit)));
      }
      store(column, packed);
      for (size_t lane = 0; lane < live; ++lane) bits[(position + lane) * words + word] = column[lane];
    }
  }
}

}  // namespace

const Table GR_ISA::table = {pack};

}  // namespace gr::pack_signs
