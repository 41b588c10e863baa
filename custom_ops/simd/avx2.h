// Eight lanes: AVX2 with fused multiply-add (Intel from Haswell, AMD from Excavator).
#pragma once

#include <immintrin.h>

namespace gr::simd::avx2 {

constexpr size_t kLanes = 8;
struct F32 { __m256 v; };
struct I32 { __m256i v; };
struct U32 { __m256i v; };
struct I8 { __m256i v; };

GR_INLINE __m256i first(size_t n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

GR_INLINE F32 zero_f32() { return {_mm256_setzero_ps()}; }
GR_INLINE F32 set_f32(float x) { return {_mm256_set1_ps(x)}; }
GR_INLINE F32 load(const float* p) { return {_mm256_loadu_ps(p)}; }
GR_INLINE void store(float* p, F32 a) { _mm256_storeu_ps(p, a.v); }
GR_INLINE F32 load_part(const float* p, size_t n) { return {_mm256_maskload_ps(p, first(n))}; }
GR_INLINE void store_part(float* p, F32 a, size_t n) { _mm256_maskstore_ps(p, first(n), a.v); }
GR_INLINE F32 add(F32 a, F32 b) { return {_mm256_add_ps(a.v, b.v)}; }
GR_INLINE F32 sub(F32 a, F32 b) { return {_mm256_sub_ps(a.v, b.v)}; }
GR_INLINE F32 mul(F32 a, F32 b) { return {_mm256_mul_ps(a.v, b.v)}; }
GR_INLINE F32 div(F32 a, F32 b) { return {_mm256_div_ps(a.v, b.v)}; }
GR_INLINE F32 fma(F32 a, F32 b, F32 c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
GR_INLINE F32 max(F32 a, F32 b) { return {_mm256_max_ps(a.v, b.v)}; }
GR_INLINE F32 min(F32 a, F32 b) { return {_mm256_min_ps(a.v, b.v)}; }
GR_INLINE F32 abs(F32 a) { return {_mm256_andnot_ps(_mm256_set1_ps(-0.0f), a.v)}; }
GR_INLINE float sum(F32 a) {
  __m128 half = _mm_add_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
  half = _mm_add_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
}
GR_INLINE float highest(F32 a) {
  __m128 half = _mm_max_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
  half = _mm_max_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_max_ss(half, _mm_movehdup_ps(half)));
}
GR_INLINE I32 round_i32(F32 a) { return {_mm256_cvtps_epi32(a.v)}; }
GR_INLINE F32 to_f32(I32 a) { return {_mm256_cvtepi32_ps(a.v)}; }
GR_INLINE F32 pow2(I32 a) {
  return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(a.v, _mm256_set1_epi32(127)), 23))};
}
GR_INLINE U32 not_negative(F32 a) {
  return {_mm256_castps_si256(_mm256_cmp_ps(a.v, _mm256_setzero_ps(), _CMP_GE_OQ))};
}

GR_INLINE I32 zero_i32() { return {_mm256_setzero_si256()}; }
GR_INLINE I32 set_i32(int32_t x) { return {_mm256_set1_epi32(x)}; }
GR_INLINE I32 load(const int32_t* p) { return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))}; }
GR_INLINE void store(int32_t* p, I32 a) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), a.v); }
GR_INLINE I32 add(I32 a, I32 b) { return {_mm256_add_epi32(a.v, b.v)}; }
GR_INLINE I32 sub(I32 a, I32 b) { return {_mm256_sub_epi32(a.v, b.v)}; }
GR_INLINE I32 mul(I32 a, I32 b) { return {_mm256_mullo_epi32(a.v, b.v)}; }
GR_INLINE I32 max(I32 a, I32 b) { return {_mm256_max_epi32(a.v, b.v)}; }
GR_INLINE I32 count_above(I32 acc, F32 a, F32 b) {
  return {_mm256_sub_epi32(acc.v, _mm256_castps_si256(_mm256_cmp_ps(a.v, b.v, _CMP_GT_OQ)))};
}
GR_INLINE I32 min(I32 a, I32 b) { return {_mm256_min_epi32(a.v, b.v)}; }
GR_INLINE I32 settled(I32 a) {
#if defined(__GNUC__)
  asm("" : "+x"(a.v));
#endif
  return a;
}
GR_INLINE int32_t sum(I32 a) {
  __m128i half = _mm_add_epi32(_mm256_castsi256_si128(a.v), _mm256_extracti128_si256(a.v, 1));
  half = _mm_add_epi32(half, _mm_shuffle_epi32(half, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(half, _mm_shuffle_epi32(half, 0xb1)));
}

GR_INLINE U32 zero_u32() { return {_mm256_setzero_si256()}; }
GR_INLINE U32 set_u32(uint32_t x) { return {_mm256_set1_epi32(static_cast<int32_t>(x))}; }
GR_INLINE U32 load(const uint32_t* p) { return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))}; }
GR_INLINE void store(uint32_t* p, U32 a) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), a.v); }
GR_INLINE U32 bit_and(U32 a, U32 b) { return {_mm256_and_si256(a.v, b.v)}; }
GR_INLINE U32 bit_or(U32 a, U32 b) { return {_mm256_or_si256(a.v, b.v)}; }
GR_INLINE U32 bit_xor(U32 a, U32 b) { return {_mm256_xor_si256(a.v, b.v)}; }
// Set bits of every byte, by a table of half bytes: what wider counts are made of.
GR_INLINE __m256i popcount_bytes(__m256i a) {
  const __m256i table = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4,  //
                                         0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
  const __m256i low = _mm256_set1_epi8(0x0f);
  return _mm256_add_epi8(_mm256_shuffle_epi8(table, _mm256_and_si256(a, low)),
                         _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16(a, 4), low)));
}
GR_INLINE I32 popcount(U32 a) {
  const __m256i pairs = _mm256_maddubs_epi16(popcount_bytes(a.v), _mm256_set1_epi8(1));
  return {_mm256_madd_epi16(pairs, _mm256_set1_epi16(1))};
}

GR_INLINE I8 load_bytes(const void* p) { return {_mm256_loadu_si256(static_cast<const __m256i*>(p))}; }
GR_INLINE I8 set_bytes(uint32_t four) { return {_mm256_set1_epi32(static_cast<int32_t>(four))}; }
// Bytes widened to 16 bits first: the instruction that multiplies bytes directly saturates.
GR_INLINE I32 dot(I32 acc, I8 u, I8 s) {
  const __m256i even = _mm256_madd_epi16(_mm256_and_si256(u.v, _mm256_set1_epi16(0xff)),
                                         _mm256_srai_epi16(_mm256_slli_epi16(s.v, 8), 8));
  const __m256i odd = _mm256_madd_epi16(_mm256_srli_epi16(u.v, 8), _mm256_srai_epi16(s.v, 8));
  return {_mm256_add_epi32(acc.v, _mm256_add_epi32(even, odd))};
}
// The instruction that multiplies bytes directly adds pairs in 16 bits: they must not need more.
GR_INLINE I32 dot_small(I32 acc, I8 u, I8 s) {
  const __m256i pairs = _mm256_maddubs_epi16(u.v, s.v);
  return {_mm256_add_epi32(acc.v, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))};
}
GR_INLINE void narrow(uint8_t* p, I32 a) {
  const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(a.v), _mm256_extracti128_si256(a.v, 1));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packus_epi16(words, words));
}
GR_INLINE void narrow4(uint8_t* p, I32 a, I32 b, I32 c, I32 d, int16_t zero) {
  const __m256i order =
      _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
  const __m256i zeros = _mm256_set1_epi16(zero);
  const __m256i bytes = _mm256_packus_epi16(_mm256_adds_epi16(_mm256_packs_epi32(a.v, b.v), zeros),
                                            _mm256_adds_epi16(_mm256_packs_epi32(c.v, d.v), zeros));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_shuffle_epi8(bytes, order));
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
  const __m256i where = _mm256_castps_si256(_mm256_cmp_ps(a.v, b.v, _CMP_GE_OQ));
  return {_mm256_or_si256(word.v, _mm256_and_si256(where, bits.v))};
}
GR_INLINE uint32_t bits_at_least(F32 a, F32 b) {
  return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(a.v, b.v, _CMP_GE_OQ)));
}
GR_INLINE uint32_t bits_at_most(I32 a, I32 b) {
  return 0xffu ^ static_cast<uint32_t>(_mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cmpgt_epi32(a.v, b.v))));
}

// In bytes, eight more at most per word.
struct BitCounter {
  static constexpr size_t kBurst = 31;
  __m256i n;
};
GR_INLINE void clear(BitCounter& counter) { counter.n = _mm256_setzero_si256(); }
GR_INLINE void add_differing(BitCounter& counter, U32 a, U32 b) {
  counter.n = _mm256_add_epi8(counter.n, popcount_bytes(_mm256_xor_si256(a.v, b.v)));
}
GR_INLINE I32 total(const BitCounter& counter) {
  const __m256i pairs = _mm256_maddubs_epi16(counter.n, _mm256_set1_epi8(1));
  return {_mm256_madd_epi16(pairs, _mm256_set1_epi16(1))};
}

GR_INLINE void transpose(F32 (&rows)[8]) {
  __m256 pairs[8], fours[8];
  for (int i = 0; i < 8; i += 2) {
    pairs[i] = _mm256_unpacklo_ps(rows[i].v, rows[i + 1].v);
    pairs[i + 1] = _mm256_unpackhi_ps(rows[i].v, rows[i + 1].v);
  }
  for (int i = 0; i < 8; i += 4) {
    fours[i] = _mm256_shuffle_ps(pairs[i], pairs[i + 2], 0x44);
    fours[i + 1] = _mm256_shuffle_ps(pairs[i], pairs[i + 2], 0xee);
    fours[i + 2] = _mm256_shuffle_ps(pairs[i + 1], pairs[i + 3], 0x44);
    fours[i + 3] = _mm256_shuffle_ps(pairs[i + 1], pairs[i + 3], 0xee);
  }
  for (int i = 0; i < 4; ++i) {
    rows[i] = {_mm256_permute2f128_ps(fours[i], fours[i + 4], 0x20)};
    rows[i + 4] = {_mm256_permute2f128_ps(fours[i], fours[i + 4], 0x31)};
  }
}

GR_INLINE void prefetch(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0); }

GR_INLINE void deinterleave(F32 a, F32 b, F32& even, F32& odd) {
  const __m256 low = _mm256_permute2f128_ps(a.v, b.v, 0x20), high = _mm256_permute2f128_ps(a.v, b.v, 0x31);
  even = {_mm256_shuffle_ps(low, high, 0x88)};
  odd = {_mm256_shuffle_ps(low, high, 0xdd)};
}
GR_INLINE void interleave(F32 even, F32 odd, F32& a, F32& b) {
  const __m256 low = _mm256_unpacklo_ps(even.v, odd.v), high = _mm256_unpackhi_ps(even.v, odd.v);
  a = {_mm256_permute2f128_ps(low, high, 0x20)};
  b = {_mm256_permute2f128_ps(low, high, 0x31)};
}
template <size_t By>
GR_INLINE F32 slid(F32 a, F32 b) {
  static_assert(By <= kLanes);
  if constexpr (By == 0) return a;
  if constexpr (By == kLanes) return b;
  const __m256i middle = _mm256_castps_si256(_mm256_permute2f128_ps(a.v, b.v, 0x21));
  if constexpr (By < 4) return {_mm256_castsi256_ps(_mm256_alignr_epi8(middle, _mm256_castps_si256(a.v), 4 * By % 16))};
  return {_mm256_castsi256_ps(_mm256_alignr_epi8(_mm256_castps_si256(b.v), middle, 4 * By % 16))};
}
template <class Index>
GR_INLINE __m128 gather_four(const float* table, const Index* index) {
  __m128 v = _mm_load_ss(table + index[0]);
  v = _mm_insert_ps(v, _mm_load_ss(table + index[1]), 0x10);
  v = _mm_insert_ps(v, _mm_load_ss(table + index[2]), 0x20);
  return _mm_insert_ps(v, _mm_load_ss(table + index[3]), 0x30);
}
GR_INLINE F32 gather(const float* table, const uint16_t* index) {
  return {_mm256_set_m128(gather_four(table, index + 4), gather_four(table, index))};
}
GR_INLINE F32 gather(const float* table, const uint32_t* index) {
  return {_mm256_set_m128(gather_four(table, index + 4), gather_four(table, index))};
}
GR_INLINE F32 hadamard(F32 a) {
  const __m256 by_1 = _mm256_setr_ps(1, -1, 1, -1, 1, -1, 1, -1);
  const __m256 by_2 = _mm256_setr_ps(1, 1, -1, -1, 1, 1, -1, -1);
  const __m256 by_4 = _mm256_setr_ps(1, 1, 1, 1, -1, -1, -1, -1);
  __m256 v = _mm256_fmadd_ps(a.v, by_1, _mm256_permute_ps(a.v, 0xb1));
  v = _mm256_fmadd_ps(v, by_2, _mm256_permute_ps(v, 0x4e));
  return {_mm256_fmadd_ps(v, by_4, _mm256_permute2f128_ps(v, v, 0x01))};
}

}  // namespace gr::simd::avx2
