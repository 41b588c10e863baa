#include "ops/pack_signs/kernel.h"

#include "binary/columns.h"

namespace gr::pack_signs {
namespace {

void pack(const float* x, uint32_t* bits, size_t channels, size_t positions, size_t from, size_t to) {
  using namespace simd::GR_ISA;
  binary::pack_columns(x, bits, channels, positions, from, to, [](U32 packed, F32 value, size_t, U32 bit) {
    return bit_or(packed, bit_and(not_negative(value), bit));
  });
}

}  // namespace

const Table GR_ISA::table = {pack};

}  // namespace gr::pack_signs
