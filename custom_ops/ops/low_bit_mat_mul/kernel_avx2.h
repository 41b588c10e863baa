// AVX2: codes shifted down to the lowest bits, multiplied with signed bytes in pairs, summed in 16 bits for as long as
// these can hold the sums, then widened.
#pragma once

#include <immintrin.h>

namespace gr::low_bit_mat_mul {
namespace {

constexpr size_t kAhead = 4096;

size_t tile_rows(const Layer&, size_t left) { return left >= 4 ? 4 : 1; }

size_t tile_bytes(const Layer& layer, size_t rows) { return rows * layer.steps * kStep; }

void prepare(const Layer& layer, const float* x, int8_t* levels, const Tile& tile) {
  round_rows(layer, x, levels, tile);
  std::memcpy(tile.data, levels, tile_bytes(layer, tile.rows));
}

// Eight outputs of a row: y = sums * worth * factor + bias.
inline void finish(const Layer& layer, const Tile& tile, size_t row, size_t output, __m256 sums, float* y) {
  using simd::avx2::F32;
  if (output >= layer.outputs) return;
  const size_t left = layer.outputs - output;
  const __m256 scaled = _mm256_mul_ps(_mm256_mul_ps(sums, _mm256_set1_ps(tile.worth[row])),
                                      _mm256_loadu_ps(layer.factor + output));
  const F32 done{_mm256_add_ps(scaled, _mm256_loadu_ps(layer.bias + output))};
  simd::avx2::store_part(y + row * layer.outputs + output, done, left < 8 ? left : 8);
}

inline __m256 scales_of(const uint8_t* scales) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(scales)));
}

// 2 sum - offset sum(q), as floats.
inline __m256 levels_of(__m256i sum, int32_t offset_sum) {
  return _mm256_cvtepi32_ps(_mm256_sub_epi32(_mm256_slli_epi32(sum, 1), _mm256_set1_epi32(offset_sum)));
}

inline __m256i bytes_of(const int8_t* q) {
  int32_t four;
  std::memcpy(&four, q, sizeof four);
  return _mm256_set1_epi32(four);
}

inline __m256i pair_of(const int8_t* q) {
  int16_t two;
  std::memcpy(&two, q, sizeof two);
  return _mm256_set1_epi16(two);
}

// kWide vectors of eight outputs, from output 8 `first` of a block on, for kRows rows.
template <int kBits, int kRows, int kWide>
inline void multiply_part(const Layer& layer, const Tile& tile, size_t block, size_t first, float* y) {
  constexpr int kPlanes = 8 / kBits;
  // Two products of a code and a byte make at most 2 * 3 * 127 or 2 * 15 * 127 per plane.
  constexpr size_t kSafe = kBits == 2 ? 8 : 4;
  const size_t filled = layer.steps * kStep, all = layer.steps * slabs_per_step(kBits);
  const size_t per_group = layer.group_steps * slabs_per_step(kBits);
  const uint8_t* codes = layer.stream + block * layer.block_bytes + first * 32;
  const int8_t* q = static_cast<const int8_t*>(tile.data);
  const __m256i mask = _mm256_set1_epi8((1 << kBits) - 1), ones = _mm256_set1_epi16(1);
  __m256 total[kRows][kWide];
  GR_UNROLL for (int row = 0; row < kRows; ++row) {
    GR_UNROLL for (int wide = 0; wide < kWide; ++wide) total[row][wide] = _mm256_setzero_ps();
  }
  size_t slab = 0;
  for (size_t group = 0; group < layer.groups; ++group) {
    __m256i sum[kRows][kWide];
    GR_UNROLL for (int row = 0; row < kRows; ++row) {
      GR_UNROLL for (int wide = 0; wide < kWide; ++wide) sum[row][wide] = _mm256_setzero_si256();
    }
    const size_t end = all - slab < per_group ? all : slab + per_group;
    const uint8_t* scales = codes - first * 16;  // half as wide as a slab
    if (layer.groups > 1) codes += kScales;
    while (slab < end) {
      const size_t safe = end - slab < kSafe ? end : slab + kSafe;
      __m256i acc[kRows][kWide];
      GR_UNROLL for (int row = 0; row < kRows; ++row) {
        GR_UNROLL for (int wide = 0; wide < kWide; ++wide) acc[row][wide] = _mm256_setzero_si256();
      }
      for (; slab < safe; ++slab, codes += 128, q += 4 * kPlanes) {
        _mm_prefetch(reinterpret_cast<const char*>(codes + kAhead), _MM_HINT_T0);
        _mm_prefetch(reinterpret_cast<const char*>(codes + kAhead + 64), _MM_HINT_T0);
        __m256i word[kWide];
        GR_UNROLL for (int wide = 0; wide < kWide; ++wide) {
          word[wide] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes + 32 * wide));
        }
        GR_UNROLL for (int plane = 0; plane < kPlanes; ++plane) {
          __m256i code[kWide];
          GR_UNROLL for (int wide = 0; wide < kWide; ++wide) {
            code[wide] = _mm256_and_si256(_mm256_srli_epi16(word[wide], kBits * plane), mask);
          }
          GR_UNROLL for (int row = 0; row < kRows; ++row) {
            const __m256i four = bytes_of(q + static_cast<size_t>(row) * filled + 4 * plane);
            GR_UNROLL for (int wide = 0; wide < kWide; ++wide) {
              acc[row][wide] = _mm256_add_epi16(acc[row][wide], _mm256_maddubs_epi16(code[wide], four));
            }
          }
        }
      }
      GR_UNROLL for (int row = 0; row < kRows; ++row) {
        GR_UNROLL for (int wide = 0; wide < kWide; ++wide) {
          sum[row][wide] = _mm256_add_epi32(sum[row][wide], _mm256_madd_epi16(acc[row][wide], ones));
        }
      }
    }
    GR_UNROLL for (int row = 0; row < kRows; ++row) {
      GR_UNROLL for (int wide = 0; wide < kWide; ++wide) {
        const __m256 levels = levels_of(sum[row][wide], tile.sums[group * kRows + static_cast<size_t>(row)]);
        total[row][wide] =
            layer.groups == 1 ? levels : _mm256_fmadd_ps(levels, scales_of(scales + 16 * wide), total[row][wide]);
      }
    }
  }
  GR_UNROLL for (int row = 0; row < kRows; ++row) {
    GR_UNROLL for (int wide = 0; wide < kWide; ++wide) {
      finish(layer, tile, static_cast<size_t>(row), block * kBlock + 8 * (first + static_cast<size_t>(wide)),
             total[row][wide], y);
    }
  }
}

// One bit: a word of 16 codes per output, so that a pair of products is a lane already. 16 outputs from 16 `first` on.
template <int kRows>
inline void multiply_bits(const Layer& layer, const Tile& tile, size_t block, size_t first, float* y) {
  constexpr size_t kSafe = 16;
  const size_t filled = layer.steps * kStep;
  const uint8_t* codes = layer.stream + block * layer.block_bytes + first * 32;
  const int8_t* q = static_cast<const int8_t*>(tile.data);
  const __m256i mask = _mm256_set1_epi8(1);
  __m256 total[kRows][2];
  GR_UNROLL for (int row = 0; row < kRows; ++row) total[row][0] = total[row][1] = _mm256_setzero_ps();
  size_t step = 0;
  for (size_t group = 0; group < layer.groups; ++group) {
    __m256i low[kRows], high[kRows];
    GR_UNROLL for (int row = 0; row < kRows; ++row) low[row] = high[row] = _mm256_setzero_si256();
    const size_t end = layer.steps - step < layer.group_steps ? layer.steps : step + layer.group_steps;
    const uint8_t* scales = codes;
    if (layer.groups > 1) codes += kScales;
    while (step < end) {
      const size_t safe = end - step < kSafe ? end : step + kSafe;
      __m256i acc[kRows];
      GR_UNROLL for (int row = 0; row < kRows; ++row) acc[row] = _mm256_setzero_si256();
      for (; step < safe; ++step, codes += 64, q += kStep) {
        _mm_prefetch(reinterpret_cast<const char*>(codes + kAhead), _MM_HINT_T0);
        const __m256i word = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes));
        GR_UNROLL for (int plane = 0; plane < 8; ++plane) {
          const __m256i code = _mm256_and_si256(_mm256_srli_epi16(word, plane), mask);
          GR_UNROLL for (int row = 0; row < kRows; ++row) {
            const __m256i two = pair_of(q + static_cast<size_t>(row) * filled + 2 * plane);
            acc[row] = _mm256_add_epi16(acc[row], _mm256_maddubs_epi16(code, two));
          }
        }
      }
      GR_UNROLL for (int row = 0; row < kRows; ++row) {
        low[row] = _mm256_add_epi32(low[row], _mm256_cvtepi16_epi32(_mm256_castsi256_si128(acc[row])));
        high[row] = _mm256_add_epi32(high[row], _mm256_cvtepi16_epi32(_mm256_extracti128_si256(acc[row], 1)));
      }
    }
    GR_UNROLL for (int row = 0; row < kRows; ++row) {
      const int32_t sum = tile.sums[group * kRows + static_cast<size_t>(row)];
      const __m256 left = levels_of(low[row], sum), right = levels_of(high[row], sum);
      total[row][0] = layer.groups == 1 ? left : _mm256_fmadd_ps(left, scales_of(scales), total[row][0]);
      total[row][1] = layer.groups == 1 ? right : _mm256_fmadd_ps(right, scales_of(scales + 16), total[row][1]);
    }
  }
  GR_UNROLL for (int row = 0; row < kRows; ++row) {
    const size_t output = block * kBlock + 16 * first;
    finish(layer, tile, static_cast<size_t>(row), output, total[row][0], y);
    finish(layer, tile, static_cast<size_t>(row), output + 8, total[row][1], y);
  }
}

template <int kBits>
void multiply_codes(const Layer& layer, const Tile& tile, size_t from, size_t to, float* y) {
  for (size_t block = from; block < to; ++block) {
    if (tile.rows == 1) {
      multiply_part<kBits, 1, 4>(layer, tile, block, 0, y);
    } else {
      for (size_t first = 0; first < 4; ++first) multiply_part<kBits, 4, 1>(layer, tile, block, first, y);
    }
  }
}

void multiply(const Layer& layer, const Tile& tile, size_t from, size_t to, float* y) {
  if (layer.bits == 2) return multiply_codes<2>(layer, tile, from, to, y);
  if (layer.bits == 4) return multiply_codes<4>(layer, tile, from, to, y);
  for (size_t block = from; block < to; ++block) {
    for (size_t first = 0; first < 2; ++first) {
      if (tile.rows == 1) {
        multiply_bits<1>(layer, tile, block, first, y);
      } else {
        multiply_bits<4>(layer, tile, block, first, y);
      }
    }
  }
}

}  // namespace
}  // namespace gr::low_bit_mat_mul
