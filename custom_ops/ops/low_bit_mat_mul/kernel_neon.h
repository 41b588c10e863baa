// NEON: codes shifted down to the lowest bits, multiplied with signed bytes to 16 bits, added in pairs to 32.
#pragma once

#include <arm_neon.h>

namespace gr::low_bit_mat_mul {
namespace {

size_t tile_rows(const Layer&, size_t) { return 1; }

size_t tile_bytes(const Layer& layer, size_t rows) { return rows * layer.steps * kStep; }

void prepare(const Layer& layer, const float* x, int8_t* levels, const Tile& tile) {
  round_rows(layer, x, levels, tile);
  std::memcpy(tile.data, levels, tile_bytes(layer, tile.rows));
}

// Four outputs: y = sums * worth * factor + bias.
inline void finish(const Layer& layer, const Tile& tile, size_t output, float32x4_t sums, float* y) {
  if (output >= layer.outputs) return;
  const size_t left = layer.outputs - output;
  const float32x4_t scaled = vmulq_f32(vmulq_n_f32(sums, tile.worth[0]), vld1q_f32(layer.factor + output));
  const simd::neon::F32 done{vaddq_f32(scaled, vld1q_f32(layer.bias + output))};
  simd::neon::store_part(y + output, done, left < 4 ? left : 4);
}

inline float32x4_t levels_of(int32x4_t sum, int32_t offset_sum) {
  return vcvtq_f32_s32(vsubq_s32(vshlq_n_s32(sum, 1), vdupq_n_s32(offset_sum)));
}

inline float32x4_t scales_of(const uint8_t* scales) {
  return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(scales)));
}

template <int kBits, int kPlane>
inline int8x16_t codes_of(uint8x16_t word) {
  uint8x16_t code = word;
  if constexpr (kPlane > 0) code = vshrq_n_u8(word, kBits * kPlane);
  return vreinterpretq_s8_u8(vandq_u8(code, vdupq_n_u8((1 << kBits) - 1)));
}

inline int8x16_t repeated(const int8_t* q, int width) {
  if (width == 2) {
    uint16_t two;
    std::memcpy(&two, q, sizeof two);
    return vreinterpretq_s8_u16(vdupq_n_u16(two));
  }
  uint32_t four;
  std::memcpy(&four, q, sizeof four);
  return vreinterpretq_s8_u32(vdupq_n_u32(four));
}

// Adds plane after plane of 16 bytes of codes. A lane of 16 bits gets one product per plane, at most 8 * 127.
template <int kBits, int kPlane>
inline void add_planes(uint8x16_t word, const int8_t* q, int16x8_t& low, int16x8_t& high) {
  if constexpr (kPlane < 8 / kBits) {
    constexpr int kWidth = kBits == 1 ? 2 : 4;
    const int8x16_t code = codes_of<kBits, kPlane>(word), bytes = repeated(q + kPlane * kWidth, kWidth);
    low = vmlal_s8(low, vget_low_s8(code), vget_low_s8(bytes));
    high = vmlal_s8(high, vget_high_s8(code), vget_high_s8(bytes));
    add_planes<kBits, kPlane + 1>(word, q, low, high);
  }
}

// The outputs of 16 bytes of a slab: eight where a code is one bit, else four. `at` counts such pieces of a block.
template <int kBits>
inline void multiply_part(const Layer& layer, const Tile& tile, size_t block, size_t at, float* y) {
  constexpr size_t kOutputs = kBits == 1 ? 8 : 4, kInputs = kBits == 4 ? 8 : 16;
  const size_t all = layer.steps * slabs_per_step(kBits), per_group = layer.group_steps * slabs_per_step(kBits);
  const uint8_t* codes = layer.stream + block * layer.block_bytes + at * 16;
  const int8_t* q = static_cast<const int8_t*>(tile.data);
  float32x4_t total = vdupq_n_f32(0.0f), more = total;
  size_t slab = 0;
  for (size_t group = 0; group < layer.groups; ++group) {
    const size_t end = all - slab < per_group ? all : slab + per_group;
    const uint8_t* scales = codes - at * 16 + at * kOutputs * 2;
    if (layer.groups > 1) codes += kScales;
    int32x4_t low = vdupq_n_s32(0), high = low;
    for (; slab < end; ++slab, codes += slab_bytes(kBits), q += kInputs) {
      int16x8_t low_sums = vdupq_n_s16(0), high_sums = low_sums;
      add_planes<kBits, 0>(vld1q_u8(codes), q, low_sums, high_sums);
      low = vpadalq_s16(low, low_sums);
      high = vpadalq_s16(high, high_sums);
    }
    const int32_t sum = tile.sums[group];
    const bool one = layer.groups == 1;
    const float32x4_t levels = levels_of(kBits == 1 ? low : vpaddq_s32(low, high), sum);
    total = one ? levels : vfmaq_f32(total, levels, scales_of(scales));
    if (kBits == 1) more = one ? levels_of(high, sum) : vfmaq_f32(more, levels_of(high, sum), scales_of(scales + 8));
  }
  finish(layer, tile, block * kBlock + at * kOutputs, total, y);
  if (kBits == 1) finish(layer, tile, block * kBlock + at * kOutputs + 4, more, y);
}

void multiply(const Layer& layer, const Tile& tile, size_t from, size_t to, float* y) {
  for (size_t block = from; block < to; ++block) {
    for (size_t at = 0; at < slab_bytes(layer.bits) / 16; ++at) {
      if (layer.bits == 1) multiply_part<1>(layer, tile, block, at, y);
      if (layer.bits == 2) multiply_part<2>(layer, tile, block, at, y);
      if (layer.bits == 4) multiply_part<4>(layer, tile, block, at, y);
    }
  }
}

}  // namespace
}  // namespace gr::low_bit_mat_mul
