#include "ops/low_bit_mat_mul/kernel.h"

#include <cstring>

#include "simd/simd.h"

namespace gr::low_bit_mat_mul {
namespace {

// Rounds a row to whole levels of its largest value, halves to the even one, and fills it up with zeros. Returns what a
// level is worth. The body computes the same in the same order: another rounding here would be another level.
float round_row(const float* x, size_t depth, size_t filled, int8_t* levels) {
  uint32_t top = 0;  // as integers, the bits of a float without its sign are in order, and NaN is the highest
  for (size_t i = 0; i < depth; ++i) {
    uint32_t bits;
    std::memcpy(&bits, x + i, sizeof bits);
    bits &= 0x7fffffffu;
    top = bits > top ? bits : top;
  }
  float range;
  std::memcpy(&range, &top, sizeof range);
  if (top >= 0x7f800000u) {
    std::memset(levels, 0, filled);
    const uint32_t nan = 0x7fc00000u;
    std::memcpy(&range, &nan, sizeof range);
    return range;
  }
  if (range < 1e-30f) range = 1e-30f;
  const float levels_per = 127.0f / range;
  for (size_t i = 0; i < depth; ++i) {
    const float shifted = x[i] * levels_per + 12582912.0f;  // 1.5 * 2^23: the last bits are the rounded number
    uint32_t bits;
    std::memcpy(&bits, &shifted, sizeof bits);
    levels[i] = static_cast<int8_t>(static_cast<uint8_t>(bits & 0xff));
  }
  std::memset(levels + depth, 0, filled - depth);
  return range / 127.0f;
}

// Rounds the rows of a tile, and sums what the offset of the codes takes away again.
void round_rows(const Layer& layer, const float* x, int8_t* levels, const Tile& tile) {
  const size_t filled = layer.steps * kStep, group = layer.group_steps * kStep;
  for (size_t row = 0; row < tile.rows; ++row) {
    int8_t* q = levels + row * filled;
    tile.worth[row] = round_row(x + row * layer.depth, layer.depth, filled, q);
    for (size_t g = 0; g < layer.groups; ++g) {
      const size_t end = (g + 1) * group < filled ? (g + 1) * group : filled;
      int32_t sum = 0;
      for (size_t i = g * group; i < end; ++i) sum += q[i];
      tile.sums[g * tile.rows + row] = layer.offset * sum;
    }
  }
}

// Slabs per step of kStep inputs, and bytes of a slab.
inline size_t slabs_per_step(int bits) { return bits == 4 ? 2 : 1; }
inline size_t slab_bytes(int bits) { return bits == 1 ? 64 : 128; }

}  // namespace
}  // namespace gr::low_bit_mat_mul

#if defined(GR_ISA_AVX512)
#include "ops/low_bit_mat_mul/kernel_avx512.h"
#elif defined(GR_ISA_AVX2)
#include "ops/low_bit_mat_mul/kernel_avx2.h"
#elif defined(GR_ISA_NEON)
#include "ops/low_bit_mat_mul/kernel_neon.h"
#else
#include "ops/low_bit_mat_mul/kernel_scalar.h"
#endif

namespace gr::low_bit_mat_mul {

const Table GR_ISA::table = {tile_rows, tile_bytes, prepare, multiply};

}  // namespace gr::low_bit_mat_mul
