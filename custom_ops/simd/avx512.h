// Sixteen lanes: AVX-512 with VNNI and VPOPCNTDQ (Intel from Ice Lake, AMD from Zen 4).
#pragma once

#include <immintrin.h>

#include <cstring>

namespace gr::simd::avx512 {

constexpr size_t kLanes = 16;
struct F32 { __m512 v; };
struct I32 { __m512i v; };
struct U32 { __m512i v; };
struct I8 { __m512i v; };

GR_INLINE __mmask16 first(size_t n) { return static_cast<__mmask16>((uint32_t{1} << n) - 1); }

GR_INLINE F32 zero_f32() { return {_mm512_setzero_ps()}; }
GR_INLINE F32 set_f32(float x) { return {_mm512_set1_ps(x)}; }
GR_INLINE F32 load(const float* p) { return {_mm512_loadu_ps(p)}; }
GR_INLINE void store(float* p, F32 a) { _mm512_storeu_ps(p, a.v); }
GR_INLINE F32 load_part(const float* p, size_t n) { return {_mm512_maskz_loadu_ps(first(n), p)}; }
GR_INLINE void store_part(float* p, F32 a, size_t n) { _mm512_mask_storeu_ps(p, first(n), a.v); }
GR_INLINE F32 add(F32 a, F32 b) { return {_mm512_add_ps(a.v, b.v)}; }
GR_INLINE F32 sub(F32 a, F32 b) { return {_mm512_sub_ps(a.v, b.v)}; }
GR_INLINE F32 mul(F32 a, F32 b) { return {_mm512_mul_ps(a.v, b.v)}; }
GR_INLINE F32 div(F32 a, F32 b) { return {_mm512_div_ps(a.v, b.v)}; }
GR_INLINE F32 fma(F32 a, F32 b, F32 c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
GR_INLINE F32 max(F32 a, F32 b) { return {_mm512_max_ps(a.v, b.v)}; }
GR_INLINE F32 min(F32 a, F32 b) { return {_mm512_min_ps(a.v, b.v)}; }
GR_INLINE F32 abs(F32 a) { return {_mm512_abs_ps(a.v)}; }
GR_INLINE float sum(F32 a) { return _mm512_reduce_add_ps(a.v); }
GR_INLINE float highest(F32 a) { return _mm512_reduce_max_ps(a.v); }
GR_INLINE I32 round_i32(F32 a) { return {_mm512_cvtps_epi32(a.v)}; }
GR_INLINE F32 to_f32(I32 a) { return {_mm512_cvtepi32_ps(a.v)}; }
GR_INLINE F32 pow2(I32 a) {
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(a.v, _mm512_set1_epi32(127)), 23))};
}
GR_INLINE U32 not_negative(F32 a) {
  return {_mm512_movm_epi32(_mm512_cmp_ps_mask(a.v, _mm512_setzero_ps(), _CMP_GE_OQ))};
}

GR_INLINE I32 zero_i32() { return {_mm512_setzero_si512()}; }
GR_INLINE I32 set_i32(int32_t x) { return {_mm512_set1_epi32(x)}; }
GR_INLINE I32 load(const int32_t* p) { return {_mm512_loadu_si512(p)}; }
GR_INLINE void store(int32_t* p, I32 a) { _mm512_storeu_si512(p, a.v); }
GR_INLINE I32 add(I32 a, I32 b) { return {_mm512_add_epi32(a.v, b.v)}; }
GR_INLINE I32 sub(I32 a, I32 b) { return {_mm512_sub_epi32(a.v, b.v)}; }
GR_INLINE I32 mul(I32 a, I32 b) { return {_mm512_mullo_epi32(a.v, b.v)}; }
GR_INLINE I32 max(I32 a, I32 b) { return {_mm512_max_epi32(a.v, b.v)}; }
GR_INLINE I32 count_above(I32 acc, F32 a, F32 b) {
  return {_mm512_mask_add_epi32(acc.v, _mm512_cmp_ps_mask(a.v, b.v, _CMP_GT_OQ), acc.v, _mm512_set1_epi32(1))};
}
GR_INLINE I32 min(I32 a, I32 b) { return {_mm512_min_epi32(a.v, b.v)}; }
GR_INLINE I32 settled(I32 a) {
#if defined(__GNUC__)
  asm("" : "+v"(a.v));
#endif
  return a;
}
GR_INLINE int32_t sum(I32 a) { return _mm512_reduce_add_epi32(a.v); }

GR_INLINE U32 zero_u32() { return {_mm512_setzero_si512()}; }
GR_INLINE U32 set_u32(uint32_t x) { return {_mm512_set1_epi32(static_cast<int32_t>(x))}; }
GR_INLINE U32 load(const uint32_t* p) { return {_mm512_loadu_si512(p)}; }
GR_INLINE void store(uint32_t* p, U32 a) { _mm512_storeu_si512(p, a.v); }
GR_INLINE U32 bit_and(U32 a, U32 b) { return {_mm512_and_si512(a.v, b.v)}; }
GR_INLINE U32 bit_or(U32 a, U32 b) { return {_mm512_or_si512(a.v, b.v)}; }
GR_INLINE U32 bit_xor(U32 a, U32 b) { return {_mm512_xor_si512(a.v, b.v)}; }
GR_INLINE I32 popcount(U32 a) { return {_mm512_popcnt_epi32(a.v)}; }

GR_INLINE I8 load_bytes(const void* p) { return {_mm512_loadu_si512(p)}; }
GR_INLINE I8 set_bytes(uint32_t four) { return {_mm512_set1_epi32(static_cast<int32_t>(four))}; }
GR_INLINE I32 dot(I32 acc, I8 u, I8 s) { return {_mm512_dpbusd_epi32(acc.v, u.v, s.v)}; }
// Here as dot.
GR_INLINE I32 dot_small(I32 acc, I8 u, I8 s) { return dot(acc, u, s); }
GR_INLINE void narrow(uint8_t* p, I32 a) {
  const __m512i least = _mm512_max_epi32(a.v, _mm512_setzero_si512());
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtusepi32_epi8(least));
}
GR_INLINE void narrow4(uint8_t* p, I32 a, I32 b, I32 c, I32 d, int16_t zero) {
  const __m512i order = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
  const __m512i zeros = _mm512_set1_epi16(zero);
  const __m512i bytes = _mm512_packus_epi16(_mm512_adds_epi16(_mm512_packs_epi32(a.v, b.v), zeros),
                                            _mm512_adds_epi16(_mm512_packs_epi32(c.v, d.v), zeros));
  _mm512_storeu_si512(p, _mm512_shuffle_epi8(bytes, order));
}
GR_INLINE void zip4(uint8_t* p, const uint8_t* a, const uint8_t* b, const uint8_t* c, const uint8_t* d) {
  const auto row = [](const uint8_t* from) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from)); };
  const auto put = [p](int i, __m128i v) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p) + i, v); };
  const __m128i ab_low = _mm_unpacklo_epi8(row(a), row(b)), ab_high = _mm_unpackhi_epi8(row(a), row(b));
  const __m128i cd_low = _mm_unpacklo_epi8(row(c), row(d)), cd_high = _mm_unpackhi_epi8(row(c), row(d));
  put(0, _mm_unpacklo_epi16(ab_low, cd_low));
  put(1, _mm_unpackhi_epi16(ab_low, cd_low));
  put(2, _mm_unpacklo_epi16(ab_high, cd_high));
  put(3, _mm_unpackhi_epi16(ab_high, cd_high));
}
GR_INLINE void turn4(void* p, size_t to, const uint32_t* q, size_t from) {
  const auto row = [=](size_t i) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(q + i * from)); };
  const auto put = [=](size_t i, __m128i v) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(static_cast<uint8_t*>(p) + i * to), v);
  };
  const __m128i ab_low = _mm_unpacklo_epi32(row(0), row(1)), ab_high = _mm_unpackhi_epi32(row(0), row(1));
  const __m128i cd_low = _mm_unpacklo_epi32(row(2), row(3)), cd_high = _mm_unpackhi_epi32(row(2), row(3));
  put(0, _mm_unpacklo_epi64(ab_low, cd_low));
  put(1, _mm_unpackhi_epi64(ab_low, cd_low));
  put(2, _mm_unpacklo_epi64(ab_high, cd_high));
  put(3, _mm_unpackhi_epi64(ab_high, cd_high));
}

GR_INLINE U32 or_at_least(U32 word, F32 a, F32 b, U32 bits) {
  return {_mm512_mask_or_epi32(word.v, _mm512_cmp_ps_mask(a.v, b.v, _CMP_GE_OQ), word.v, bits.v)};
}
GR_INLINE uint32_t bits_at_least(F32 a, F32 b) { return _mm512_cmp_ps_mask(a.v, b.v, _CMP_GE_OQ); }
GR_INLINE uint32_t bits_at_most(I32 a, I32 b) { return _mm512_cmple_epi32_mask(a.v, b.v); }

struct BitCounter {
  static constexpr size_t kBurst = ~size_t{0};
  __m512i n;
};
GR_INLINE void clear(BitCounter& counter) { counter.n = _mm512_setzero_si512(); }
GR_INLINE void add_differing(BitCounter& counter, U32 a, U32 b) {
  counter.n = _mm512_add_epi32(counter.n, _mm512_popcnt_epi32(_mm512_xor_si512(a.v, b.v)));
}
GR_INLINE I32 total(const BitCounter& counter) { return {counter.n}; }

GR_INLINE void transpose(F32 (&rows)[16]) {
  __m512 a[16], b[16];
  for (int i = 0; i < 16; i += 2) {
    a[i] = _mm512_unpacklo_ps(rows[i].v, rows[i + 1].v);
    a[i + 1] = _mm512_unpackhi_ps(rows[i].v, rows[i + 1].v);
  }
  for (int i = 0; i < 16; i += 4) {
    b[i] = _mm512_shuffle_ps(a[i], a[i + 2], 0x44);
    b[i + 1] = _mm512_shuffle_ps(a[i], a[i + 2], 0xee);
    b[i + 2] = _mm512_shuffle_ps(a[i + 1], a[i + 3], 0x44);
    b[i + 3] = _mm512_shuffle_ps(a[i + 1], a[i + 3], 0xee);
  }
  for (int i = 0; i < 4; ++i) {
    a[i] = _mm512_shuffle_f32x4(b[i], b[i + 4], 0x88);
    a[i + 4] = _mm512_shuffle_f32x4(b[i], b[i + 4], 0xdd);
    a[i + 8] = _mm512_shuffle_f32x4(b[i + 8], b[i + 12], 0x88);
    a[i + 12] = _mm512_shuffle_f32x4(b[i + 8], b[i + 12], 0xdd);
  }
  for (int i = 0; i < 8; ++i) {
    rows[i] = {_mm512_shuffle_f32x4(a[i], a[i + 8], 0x88)};
    rows[i + 8] = {_mm512_shuffle_f32x4(a[i], a[i + 8], 0xdd)};
  }
}

GR_INLINE void prefetch(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0); }

GR_INLINE void deinterleave(F32 a, F32 b, F32& even, F32& odd) {
  const __m512i places = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  even = {_mm512_permutex2var_ps(a.v, places, b.v)};
  odd = {_mm512_permutex2var_ps(a.v, _mm512_add_epi32(places, _mm512_set1_epi32(1)), b.v)};
}
GR_INLINE void interleave(F32 even, F32 odd, F32& a, F32& b) {
  const __m512i places = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  a = {_mm512_permutex2var_ps(even.v, places, odd.v)};
  b = {_mm512_permutex2var_ps(even.v, _mm512_add_epi32(places, _mm512_set1_epi32(8)), odd.v)};
}
template <size_t By>
GR_INLINE F32 slid(F32 a, F32 b) {
  static_assert(By <= kLanes);
  if constexpr (By == kLanes) return b;
  const __m512i words = _mm512_maskz_alignr_epi32(0xffff, _mm512_castps_si512(b.v), _mm512_castps_si512(a.v), By % kLanes);
  return {_mm512_castsi512_ps(words)};
}
GR_INLINE __m128 gather_four(const float* table, size_t a, size_t b, size_t c, size_t d) {
  __m128 v = _mm_load_ss(table + a);
  v = _mm_insert_ps(v, _mm_load_ss(table + b), 0x10);
  v = _mm_insert_ps(v, _mm_load_ss(table + c), 0x20);
  return _mm_insert_ps(v, _mm_load_ss(table + d), 0x30);
}
// One load for four indices, and single loads instead of the gather instruction: 0.9 against 1.5 us for 4096 on Zen 4.
GR_INLINE __m128 gather_four(const float* table, const uint16_t* index) {
  uint64_t four;
  std::memcpy(&four, index, 8);
  return gather_four(table, four & 0xffff, (four >> 16) & 0xffff, (four >> 32) & 0xffff, four >> 48);
}
GR_INLINE __m128 gather_four(const float* table, const uint32_t* index) {
  return gather_four(table, index[0], index[1], index[2], index[3]);
}
template <class Index>
GR_INLINE F32 gather_all(const float* table, const Index* index) {
  const __m256 low = _mm256_set_m128(gather_four(table, index + 4), gather_four(table, index));
  const __m256 high = _mm256_set_m128(gather_four(table, index + 12), gather_four(table, index + 8));
  return {_mm512_insertf32x8(_mm512_castps256_ps512(low), high, 1)};
}
GR_INLINE F32 gather(const float* table, const uint16_t* index) { return gather_all(table, index); }
GR_INLINE F32 gather(const float* table, const uint32_t* index) { return gather_all(table, index); }
// Level by level: the vector with the signs of the level, plus itself with the halves swapped. The full masks keep gcc 12
// from complaining about its own headers.
GR_INLINE F32 hadamard(F32 a) {
  const __m512 by_1 = _mm512_setr_ps(1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1);
  const __m512 by_2 = _mm512_setr_ps(1, 1, -1, -1, 1, 1, -1, -1, 1, 1, -1, -1, 1, 1, -1, -1);
  const __m512 by_4 = _mm512_setr_ps(1, 1, 1, 1, -1, -1, -1, -1, 1, 1, 1, 1, -1, -1, -1, -1);
  const __m512 by_8 = _mm512_setr_ps(1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1, -1);
  __m512 v = _mm512_fmadd_ps(a.v, by_1, _mm512_maskz_permute_ps(0xffff, a.v, 0xb1));
  v = _mm512_fmadd_ps(v, by_2, _mm512_maskz_permute_ps(0xffff, v, 0x4e));
  v = _mm512_fmadd_ps(v, by_4, _mm512_maskz_shuffle_f32x4(0xffff, v, v, 0xb1));
  return {_mm512_fmadd_ps(v, by_8, _mm512_maskz_shuffle_f32x4(0xffff, v, v, 0x4e))};
}

}  // namespace gr::simd::avx512
