// AVX-512 with VNNI; where a code is one bit, tables of sums instead.
//
// Measured on Zen 4 at 3.65 GHz, 4096 x 4096 (tests/bench/low_bit_mat_mul.py): 2 bits, one row, weights in cache: 78 us,
// where 65536 x 4 dot products take 72; eight rows: 577 of 574. From memory the stream of codes is the limit.
// 1 bit, one row: 47 us by tables, where dot products would take 72 at best.
#pragma once

#include <immintrin.h>

namespace gr::low_bit_mat_mul {
namespace {

// Far enough that the line is there when a cold stream arrives; two lines of a slab are asked for together.
constexpr size_t kAhead = 8192;

size_t tile_rows(const Layer& layer, size_t left) {
  if (layer.bits == 1) return 1;
  // With a scale per group each row needs a second accumulator for floats.
  if (left >= 8 && layer.groups == 1) return 8;
  return left >= 4 ? 4 : left >= 2 ? 2 : 1;
}

// Four bytes of each row in turn, so that a tile is one stream too; one bit: 128 sums for each 16 inputs.
size_t tile_bytes(const Layer& layer, size_t rows) { return rows * layer.steps * (layer.bits == 1 ? 256 : kStep); }

// The sums of all subsets of q[input of bit 0], q[input of bit 1] ...: entry i adds those whose bit is set in i.
inline __m512i sums_of_five(const int8_t* q, const int* inputs) {
  const __m512i first = _mm512_maskz_set1_epi16(0xaaaaaaaau, q[inputs[0]]);
  const __m512i second = _mm512_maskz_set1_epi16(0xccccccccu, q[inputs[1]]);
  const __m512i third = _mm512_maskz_set1_epi16(0xf0f0f0f0u, q[inputs[2]]);
  const __m512i fourth = _mm512_maskz_set1_epi16(0xff00ff00u, q[inputs[3]]);
  const __m512i fifth = _mm512_maskz_set1_epi16(0xffff0000u, q[inputs[4]]);
  return _mm512_add_epi16(_mm512_add_epi16(first, second), _mm512_add_epi16(_mm512_add_epi16(third, fourth), fifth));
}

// A word of 16 codes is looked up as 6 + 5 + 5 bits: bit 8 j + p belongs to input 2 p + j.
void make_tables(const int8_t* q, size_t steps, int16_t* tables) {
  static const int kInputs[16] = {0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15};
  for (size_t step = 0; step < steps; ++step, q += kStep, tables += 128) {
    const __m512i low = sums_of_five(q, kInputs);
    _mm512_store_si512(tables, low);
    _mm512_store_si512(tables + 32, _mm512_add_epi16(low, _mm512_set1_epi16(q[kInputs[5]])));
    _mm512_store_si512(tables + 64, sums_of_five(q, kInputs + 6));
    _mm512_store_si512(tables + 96, sums_of_five(q, kInputs + 11));
  }
}

void prepare(const Layer& layer, const float* x, int8_t* levels, const Tile& tile) {
  round_rows(layer, x, levels, tile);
  if (layer.bits == 1) {
    make_tables(levels, layer.steps, static_cast<int16_t*>(tile.data));
    return;
  }
  const size_t fours = layer.steps * kStep / 4;
  uint32_t* data = static_cast<uint32_t*>(tile.data);
  for (size_t row = 0; row < tile.rows; ++row) {
    const int8_t* q = levels + row * fours * 4;
    for (size_t four = 0; four < fours; ++four) std::memcpy(data + four * tile.rows + row, q + four * 4, 4);
  }
}

// The first lanes of a vector of outputs from `output` on that are there at all.
inline __mmask16 there(const Layer& layer, size_t output) {
  if (output >= layer.outputs) return 0;
  const size_t left = layer.outputs - output;
  return left >= 16 ? static_cast<__mmask16>(0xffff) : static_cast<__mmask16>((1u << left) - 1);
}

// y = sums * worth * factor + bias for 16 outputs of a row.
inline void finish(const Layer& layer, const Tile& tile, size_t row, size_t output, __m512 sums, float* y) {
  const __m512 scaled = _mm512_mul_ps(_mm512_mul_ps(sums, _mm512_set1_ps(tile.worth[row])),
                                      _mm512_loadu_ps(layer.factor + output));
  _mm512_mask_storeu_ps(y + row * layer.outputs + output, there(layer, output),
                        _mm512_add_ps(scaled, _mm512_loadu_ps(layer.bias + output)));
}

// A block of 32 outputs for kRows rows. Codes of kParts neighbouring planes are masked where they stand and summed
// apart, since each shift saved counts; the sums of plane p are divided by 2^(bits p) when a group is closed.
template <int kBits, int kRows, int kParts, bool kGrouped>
inline void multiply_block(const Layer& layer, const Tile& tile, size_t block, float* y) {
  constexpr int kPlanes = 8 / kBits;
  const size_t all = layer.steps * slabs_per_step(kBits);
  const size_t per_group = kGrouped ? layer.group_steps * slabs_per_step(kBits) : all;
  const uint8_t* codes = layer.stream + block * layer.block_bytes;
  const int32_t* q = static_cast<const int32_t*>(tile.data);
  __m512i mask[kParts];
  GR_UNROLL for (int part = 0; part < kParts; ++part) {
    mask[part] = _mm512_set1_epi8(static_cast<char>(((1 << kBits) - 1) << (kBits * part)));
  }
  __m512 total[kRows][2];
  GR_UNROLL for (int row = 0; row < kRows; ++row) total[row][0] = total[row][1] = _mm512_setzero_ps();
  const int32_t* sums = tile.sums;
  for (size_t done = 0; done < all; done += per_group, sums += kRows) {
    const uint8_t* scales = codes;
    if (kGrouped) codes += kScales;
    __m512i acc[kRows][2][kParts];
    GR_UNROLL for (int row = 0; row < kRows; ++row) {
      GR_UNROLL for (int part = 0; part < kParts; ++part) acc[row][0][part] = acc[row][1][part] = _mm512_setzero_si512();
    }
    const size_t slabs = all - done < per_group ? all - done : per_group;
    for (size_t slab = 0; slab < slabs; ++slab, codes += 128, q += kPlanes * kRows) {
      __m512i left = _mm512_loadu_si512(codes), right = _mm512_loadu_si512(codes + 64);
      _mm_prefetch(reinterpret_cast<const char*>(codes + kAhead), _MM_HINT_T0);
      _mm_prefetch(reinterpret_cast<const char*>(codes + kAhead + 64), _MM_HINT_T0);
      GR_UNROLL for (int plane = 0; plane < kPlanes; ++plane) {
        const int part = plane % kParts;
        if (part == 0 && plane > 0) {
          left = _mm512_srli_epi16(left, kBits * kParts);
          right = _mm512_srli_epi16(right, kBits * kParts);
        }
        const __m512i a = _mm512_and_si512(left, mask[part]), b = _mm512_and_si512(right, mask[part]);
        GR_UNROLL for (int row = 0; row < kRows; ++row) {
          const __m512i four = _mm512_set1_epi32(q[plane * kRows + row]);
          acc[row][0][part] = _mm512_dpbusd_epi32(acc[row][0][part], a, four);
          acc[row][1][part] = _mm512_dpbusd_epi32(acc[row][1][part], b, four);
        }
      }
    }
    GR_UNROLL for (int half = 0; half < 2; ++half) {
      __m512 scale = _mm512_setzero_ps();
      if (kGrouped) {
        scale = _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(scales + 32 * half)));
      }
      GR_UNROLL for (int row = 0; row < kRows; ++row) {
        __m512i sum = acc[row][half][0];
        GR_UNROLL for (int part = 1; part < kParts; ++part) {
          sum = _mm512_add_epi32(sum, _mm512_srai_epi32(acc[row][half][part], kBits * part));
        }
        sum = _mm512_sub_epi32(_mm512_slli_epi32(sum, 1), _mm512_set1_epi32(sums[row]));
        const __m512 levels = _mm512_cvtepi32_ps(sum);
        total[row][half] = kGrouped ? _mm512_fmadd_ps(levels, scale, total[row][half]) : levels;
      }
    }
  }
  GR_UNROLL for (int row = 0; row < kRows; ++row) {
    finish(layer, tile, row, block * kBlock, total[row][0], y);
    finish(layer, tile, row, block * kBlock + 16, total[row][1], y);
  }
}

template <int kBits, int kRows, int kParts, bool kGrouped>
void multiply_blocks(const Layer& layer, const Tile& tile, size_t from, size_t to, float* y) {
  for (size_t block = from; block < to; ++block) multiply_block<kBits, kRows, kParts, kGrouped>(layer, tile, block, y);
}

template <int kBits>
void multiply_codes(const Layer& layer, const Tile& tile, size_t from, size_t to, float* y) {
  constexpr int kPlanes = 8 / kBits;
  if (layer.groups == 1) {
    if (tile.rows == 1) return multiply_blocks<kBits, 1, kPlanes, false>(layer, tile, from, to, y);
    if (tile.rows == 2) return multiply_blocks<kBits, 2, 2, false>(layer, tile, from, to, y);
    if (tile.rows == 4) return multiply_blocks<kBits, 4, 1, false>(layer, tile, from, to, y);
    return multiply_blocks<kBits, 8, 1, false>(layer, tile, from, to, y);
  }
  if (tile.rows == 1) return multiply_blocks<kBits, 1, 2, true>(layer, tile, from, to, y);
  if (tile.rows == 2) return multiply_blocks<kBits, 2, 2, true>(layer, tile, from, to, y);
  return multiply_blocks<kBits, 4, 1, true>(layer, tile, from, to, y);
}

// One bit: kStreams blocks at once, so that a table is read once for all of them. A sum of 16 inputs is at most 2032,
// so that 16 of them fit 16 bits.
template <int kStreams, bool kGrouped>
inline void look_up(const Layer& layer, const Tile& tile, size_t block, float* y) {
  constexpr size_t kSafe = 16;
  const __m512i by_six = _mm512_set1_epi16(1 << 10), by_eleven = _mm512_set1_epi16(1 << 5);
  const size_t pitch = layer.block_bytes;
  const uint8_t* codes = layer.stream + block * pitch;
  const int16_t* tables = static_cast<const int16_t*>(tile.data);
  __m512 total[kStreams][2];
  GR_UNROLL for (int s = 0; s < kStreams; ++s) total[s][0] = total[s][1] = _mm512_setzero_ps();
  for (size_t group = 0, step = 0; group < layer.groups; ++group) {
    __m512i low[kStreams], high[kStreams];
    GR_UNROLL for (int s = 0; s < kStreams; ++s) low[s] = high[s] = _mm512_setzero_si512();
    const size_t end = layer.steps - step < layer.group_steps ? layer.steps : step + layer.group_steps;
    const uint8_t* scales = codes;
    if (kGrouped) codes += kScales;
    while (step < end) {
      const size_t safe = end - step < kSafe ? end : step + kSafe;
      __m512i acc[kStreams];
      GR_UNROLL for (int s = 0; s < kStreams; ++s) acc[s] = _mm512_setzero_si512();
      for (; step < safe; ++step, codes += 64, tables += 128) {
        const __m512i a = _mm512_load_si512(tables), b = _mm512_load_si512(tables + 32);
        const __m512i c = _mm512_load_si512(tables + 64), d = _mm512_load_si512(tables + 96);
        GR_UNROLL for (int s = 0; s < kStreams; ++s) {
          const __m512i word = _mm512_loadu_si512(codes + static_cast<size_t>(s) * pitch);
          const __m512i first = _mm512_permutex2var_epi16(a, word, b);
          // Shifts right by 6 and 11, as products: on Zen 4 shifts wait for the same units as look-ups.
          const __m512i second = _mm512_permutexvar_epi16(_mm512_mulhi_epu16(word, by_six), c);
          const __m512i third = _mm512_permutexvar_epi16(_mm512_mulhi_epu16(word, by_eleven), d);
          acc[s] = _mm512_add_epi16(_mm512_add_epi16(acc[s], first), _mm512_add_epi16(second, third));
        }
      }
      GR_UNROLL for (int s = 0; s < kStreams; ++s) {
        low[s] = _mm512_add_epi32(low[s], _mm512_cvtepi16_epi32(_mm512_castsi512_si256(acc[s])));
        high[s] = _mm512_add_epi32(high[s], _mm512_cvtepi16_epi32(_mm512_extracti64x4_epi64(acc[s], 1)));
      }
    }
    const __m512i sum = _mm512_set1_epi32(tile.sums[group]);
    GR_UNROLL for (int s = 0; s < kStreams; ++s) {
      const __m512 left = _mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_slli_epi32(low[s], 1), sum));
      const __m512 right = _mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_slli_epi32(high[s], 1), sum));
      if (kGrouped) {
        const __m512i both = _mm512_loadu_si512(scales + static_cast<size_t>(s) * pitch);
        total[s][0] = _mm512_fmadd_ps(left, _mm512_cvtph_ps(_mm512_castsi512_si256(both)), total[s][0]);
        total[s][1] = _mm512_fmadd_ps(right, _mm512_cvtph_ps(_mm512_extracti64x4_epi64(both, 1)), total[s][1]);
      } else {
        total[s][0] = left;
        total[s][1] = right;
      }
    }
  }
  GR_UNROLL for (int s = 0; s < kStreams; ++s) {
    finish(layer, tile, 0, (block + static_cast<size_t>(s)) * kBlock, total[s][0], y);
    finish(layer, tile, 0, (block + static_cast<size_t>(s)) * kBlock + 16, total[s][1], y);
  }
}

template <int kMost, bool kGrouped>
void look_up_blocks(const Layer& layer, const Tile& tile, size_t from, size_t to, float* y) {
  for (; to - from >= kMost; from += kMost) look_up<kMost, kGrouped>(layer, tile, from, y);
  for (; to - from >= 2; from += 2) look_up<2, kGrouped>(layer, tile, from, y);
  if (from < to) look_up<1, kGrouped>(layer, tile, from, y);
}

void multiply(const Layer& layer, const Tile& tile, size_t from, size_t to, float* y) {
  if (layer.bits == 2) return multiply_codes<2>(layer, tile, from, to, y);
  if (layer.bits == 4) return multiply_codes<4>(layer, tile, from, to, y);
  // Totals of floats beside the sums of integers leave registers for half as many streams.
  if (layer.groups == 1) return look_up_blocks<8, false>(layer, tile, from, to, y);
  look_up_blocks<4, true>(layer, tile, from, to, y);
}

}  // namespace
}  // namespace gr::low_bit_mat_mul
