// What this machine can do at most, one thread: loops that keep everything in registers. Compiled by roofs.py.
#include <immintrin.h>

#include <cstdint>

namespace {

constexpr int kChains = 12;
volatile int32_t sink;

}  // namespace

extern "C" {

// 1024 operations on signs each: xor, count, add.
void popcount_512(long rounds) {
  __m512i sum[kChains], weight[4], x = _mm512_set1_epi32(3);
#pragma GCC unroll 12
  for (int i = 0; i < kChains; ++i) sum[i] = _mm512_set1_epi32(i);
#pragma GCC unroll 12
  for (int i = 0; i < 4; ++i) weight[i] = _mm512_set1_epi32(i * 77 + 1);
  for (long round = 0; round < rounds; ++round) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) {
      sum[i] = _mm512_add_epi32(sum[i], _mm512_popcnt_epi32(_mm512_xor_si512(x, weight[i & 3])));
      asm volatile("" : "+v"(sum[i]), "+v"(x));
    }
  }
  int32_t all = 0;
#pragma GCC unroll 12
  for (int i = 0; i < kChains; ++i) all += _mm512_reduce_add_epi32(sum[i]);
  sink = all;
}

// 512 operations on signs each: xor, two look-ups in a table, counters of bytes.
void popcount_256(long rounds) {
  const __m256i table = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4,  //
                                         0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
  const __m256i low = _mm256_set1_epi8(15), weight = _mm256_set1_epi32(77);
  __m256i sum[8], x = _mm256_set1_epi32(3);
#pragma GCC unroll 12
  for (int i = 0; i < 8; ++i) sum[i] = _mm256_set1_epi32(i);
  for (long round = 0; round < rounds; ++round) {
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {
      const __m256i differing = _mm256_xor_si256(x, weight);
      const __m256i high = _mm256_and_si256(_mm256_srli_epi16(differing, 4), low);
      sum[i] = _mm256_add_epi8(sum[i], _mm256_shuffle_epi8(table, _mm256_and_si256(differing, low)));
      sum[i] = _mm256_add_epi8(sum[i], _mm256_shuffle_epi8(table, high));
      asm volatile("" : "+x"(sum[i]), "+x"(x));
    }
  }
  int32_t all = 0;
#pragma GCC unroll 12
  for (int i = 0; i < 8; ++i) all += _mm256_extract_epi32(sum[i], 0);
  sink = all;
}

// 32 operations on floats each.
void float_512(long rounds) {
  __m512 sum[kChains], x = _mm512_set1_ps(1.0001f), y = _mm512_set1_ps(0.5f);
#pragma GCC unroll 12
  for (int i = 0; i < kChains; ++i) sum[i] = _mm512_setzero_ps();
  for (long round = 0; round < rounds; ++round) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) {
      sum[i] = _mm512_fmadd_ps(x, y, sum[i]);
      asm volatile("" : "+v"(sum[i]));
    }
  }
  float all = 0;
#pragma GCC unroll 12
  for (int i = 0; i < kChains; ++i) all += _mm512_reduce_add_ps(sum[i]);
  sink = static_cast<int32_t>(all);
}

// 128 operations on bytes each.
void bytes_512(long rounds) {
  __m512i sum[kChains], x = _mm512_set1_epi32(0x01020304);
#pragma GCC unroll 12
  for (int i = 0; i < kChains; ++i) sum[i] = _mm512_setzero_si512();
  for (long round = 0; round < rounds; ++round) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) {
      sum[i] = _mm512_dpbusd_epi32(sum[i], x, x);
      asm volatile("" : "+v"(sum[i]));
    }
  }
  int32_t all = 0;
#pragma GCC unroll 12
  for (int i = 0; i < kChains; ++i) all += _mm512_reduce_add_epi32(sum[i]);
  sink = all;
}

}  // extern "C"
