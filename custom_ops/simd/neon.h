// Four lanes: the vector unit that every 64-bit Arm has.
#pragma once

#include <arm_neon.h>

#include <cstring>

namespace gr::simd::neon {

constexpr size_t kLanes = 4;
struct F32 { float32x4_t v; };
struct I32 { int32x4_t v; };
struct U32 { uint32x4_t v; };
struct I8 { int8x16_t v; };

GR_INLINE F32 zero_f32() { return {vdupq_n_f32(0.0f)}; }
GR_INLINE F32 set_f32(float x) { return {vdupq_n_f32(x)}; }
GR_INLINE F32 load(const float* p) { return {vld1q_f32(p)}; }
GR_INLINE void store(float* p, F32 a) { vst1q_f32(p, a.v); }
GR_INLINE F32 load_part(const float* p, size_t n) {
  float lanes[4] = {0.0f, 0.0f, 0.0f, 0.0f};
  for (size_t i = 0; i < n; ++i) lanes[i] = p[i];
  return load(lanes);
}
GR_INLINE void store_part(float* p, F32 a, size_t n) {
  float lanes[4];
  store(lanes, a);
  for (size_t i = 0; i < n; ++i) p[i] = lanes[i];
}
GR_INLINE F32 add(F32 a, F32 b) { return {vaddq_f32(a.v, b.v)}; }
GR_INLINE F32 sub(F32 a, F32 b) { return {vsubq_f32(a.v, b.v)}; }
GR_INLINE F32 mul(F32 a, F32 b) { return {vmulq_f32(a.v, b.v)}; }
GR_INLINE F32 div(F32 a, F32 b) { return {vdivq_f32(a.v, b.v)}; }
GR_INLINE F32 fma(F32 a, F32 b, F32 c) { return {vfmaq_f32(c.v, a.v, b.v)}; }
// By comparison: the instruction for the maximum lets a NaN of either side through.
GR_INLINE F32 max(F32 a, F32 b) { return {vbslq_f32(vcgtq_f32(a.v, b.v), a.v, b.v)}; }
GR_INLINE F32 min(F32 a, F32 b) { return {vbslq_f32(vcltq_f32(a.v, b.v), a.v, b.v)}; }
GR_INLINE F32 abs(F32 a) { return {vabsq_f32(a.v)}; }
GR_INLINE float sum(F32 a) { return vaddvq_f32(a.v); }
GR_INLINE float highest(F32 a) { return vmaxvq_f32(a.v); }
GR_INLINE I32 round_i32(F32 a) { return {vcvtnq_s32_f32(a.v)}; }
GR_INLINE F32 to_f32(I32 a) { return {vcvtq_f32_s32(a.v)}; }
GR_INLINE F32 pow2(I32 a) {
  return {vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(a.v, vdupq_n_s32(127)), 23))};
}
GR_INLINE U32 not_negative(F32 a) { return {vcgezq_f32(a.v)}; }

GR_INLINE I32 zero_i32() { return {vdupq_n_s32(0)}; }
GR_INLINE I32 set_i32(int32_t x) { return {vdupq_n_s32(x)}; }
GR_INLINE I32 load(const int32_t* p) { return {vld1q_s32(p)}; }
GR_INLINE void store(int32_t* p, I32 a) { vst1q_s32(p, a.v); }
GR_INLINE I32 add(I32 a, I32 b) { return {vaddq_s32(a.v, b.v)}; }
GR_INLINE I32 sub(I32 a, I32 b) { return {vsubq_s32(a.v, b.v)}; }
GR_INLINE I32 mul(I32 a, I32 b) { return {vmulq_s32(a.v, b.v)}; }
GR_INLINE I32 max(I32 a, I32 b) { return {vmaxq_s32(a.v, b.v)}; }
GR_INLINE I32 count_above(I32 acc, F32 a, F32 b) {
  return {vsubq_s32(acc.v, vreinterpretq_s32_u32(vcgtq_f32(a.v, b.v)))};
}
GR_INLINE I32 min(I32 a, I32 b) { return {vminq_s32(a.v, b.v)}; }
GR_INLINE I32 settled(I32 a) {
#if defined(__GNUC__)
  asm("" : "+w"(a.v));
#endif
  return a;
}
GR_INLINE int32_t sum(I32 a) { return vaddvq_s32(a.v); }

GR_INLINE U32 zero_u32() { return {vdupq_n_u32(0)}; }
GR_INLINE U32 set_u32(uint32_t x) { return {vdupq_n_u32(x)}; }
GR_INLINE U32 load(const uint32_t* p) { return {vld1q_u32(p)}; }
GR_INLINE void store(uint32_t* p, U32 a) { vst1q_u32(p, a.v); }
GR_INLINE U32 bit_and(U32 a, U32 b) { return {vandq_u32(a.v, b.v)}; }
GR_INLINE U32 bit_or(U32 a, U32 b) { return {vorrq_u32(a.v, b.v)}; }
GR_INLINE U32 bit_xor(U32 a, U32 b) { return {veorq_u32(a.v, b.v)}; }
GR_INLINE I32 popcount(U32 a) {
  return {vreinterpretq_s32_u32(vpaddlq_u16(vpaddlq_u8(vcntq_u8(vreinterpretq_u8_u32(a.v)))))};
}

GR_INLINE I8 load_bytes(const void* p) { return {vld1q_s8(static_cast<const int8_t*>(p))}; }
GR_INLINE I8 set_bytes(uint32_t four) { return {vreinterpretq_s8_u32(vdupq_n_u32(four))}; }
// Widened to 16 bits: the dot-product instructions for mixed signs are not in the base architecture.
GR_INLINE I32 dot(I32 acc, I8 u, I8 s) {
  const uint8x16_t bytes = vreinterpretq_u8_s8(u.v);
  const int16x8_t u_low = vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(bytes)));
  const int16x8_t u_high = vreinterpretq_s16_u16(vmovl_u8(vget_high_u8(bytes)));
  const int16x8_t s_low = vmovl_s8(vget_low_s8(s.v)), s_high = vmovl_s8(vget_high_s8(s.v));
  const int32x4_t first = vpaddq_s32(vmull_s16(vget_low_s16(u_low), vget_low_s16(s_low)),
                                     vmull_s16(vget_high_s16(u_low), vget_high_s16(s_low)));
  const int32x4_t second = vpaddq_s32(vmull_s16(vget_low_s16(u_high), vget_low_s16(s_high)),
                                      vmull_s16(vget_high_s16(u_high), vget_high_s16(s_high)));
  return {vaddq_s32(acc.v, vpaddq_s32(first, second))};
}
GR_INLINE I32 dot_small(I32 acc, I8 u, I8 s) { return dot(acc, u, s); }
GR_INLINE void narrow(uint8_t* p, I32 a) {
  const int16x4_t words = vqmovn_s32(a.v);
  const uint32_t bytes = vget_lane_u32(vreinterpret_u32_u8(vqmovun_s16(vcombine_s16(words, words))), 0);
  std::memcpy(p, &bytes, 4);
}
GR_INLINE void narrow4(uint8_t* p, I32 a, I32 b, I32 c, I32 d, int16_t zero) {
  const uint8x16_t order = {0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15};
  const int16x8_t low = vqaddq_s16(vcombine_s16(vqmovn_s32(a.v), vqmovn_s32(b.v)), vdupq_n_s16(zero));
  const int16x8_t high = vqaddq_s16(vcombine_s16(vqmovn_s32(c.v), vqmovn_s32(d.v)), vdupq_n_s16(zero));
  vst1q_u8(p, vqtbl1q_u8(vcombine_u8(vqmovun_s16(low), vqmovun_s16(high)), order));
}
GR_INLINE void zip4(uint8_t* p, const uint8_t* a, const uint8_t* b, const uint8_t* c, const uint8_t* d) {
  vst4q_u8(p, uint8x16x4_t{{vld1q_u8(a), vld1q_u8(b), vld1q_u8(c), vld1q_u8(d)}});
}
GR_INLINE void turn4(void* p, size_t to, const uint32_t* q, size_t from) {
  const uint32x4_t a = vld1q_u32(q), b = vld1q_u32(q + from), c = vld1q_u32(q + 2 * from), d = vld1q_u32(q + 3 * from);
  const uint32x4x2_t ab = vtrnq_u32(a, b), cd = vtrnq_u32(c, d);
  const auto put = [=](size_t i, uint32x2_t low, uint32x2_t high) {
    vst1q_u8(static_cast<uint8_t*>(p) + i * to, vreinterpretq_u8_u32(vcombine_u32(low, high)));
  };
  put(0, vget_low_u32(ab.val[0]), vget_low_u32(cd.val[0]));
  put(1, vget_low_u32(ab.val[1]), vget_low_u32(cd.val[1]));
  put(2, vget_high_u32(ab.val[0]), vget_high_u32(cd.val[0]));
  put(3, vget_high_u32(ab.val[1]), vget_high_u32(cd.val[1]));
}

GR_INLINE U32 or_at_least(U32 word, F32 a, F32 b, U32 bits) {
  return {vorrq_u32(word.v, vandq_u32(vcgeq_f32(a.v, b.v), bits.v))};
}
GR_INLINE uint32_t bits_of(uint32x4_t where) {
  const uint32x4_t bit = {1, 2, 4, 8};
  return vaddvq_u32(vandq_u32(where, bit));
}
GR_INLINE uint32_t bits_at_least(F32 a, F32 b) { return bits_of(vcgeq_f32(a.v, b.v)); }
GR_INLINE uint32_t bits_at_most(I32 a, I32 b) { return bits_of(vcleq_s32(a.v, b.v)); }

// In bytes, eight more at most per word.
struct BitCounter {
  static constexpr size_t kBurst = 31;
  uint8x16_t n;
};
GR_INLINE void clear(BitCounter& counter) { counter.n = vdupq_n_u8(0); }
GR_INLINE void add_differing(BitCounter& counter, U32 a, U32 b) {
  counter.n = vaddq_u8(counter.n, vcntq_u8(vreinterpretq_u8_u32(veorq_u32(a.v, b.v))));
}
GR_INLINE I32 total(const BitCounter& counter) {
  return {vreinterpretq_s32_u32(vpaddlq_u16(vpaddlq_u8(counter.n)))};
}

GR_INLINE void transpose(F32 (&rows)[4]) {
  const float32x4_t a = vzip1q_f32(rows[0].v, rows[2].v), b = vzip2q_f32(rows[0].v, rows[2].v);
  const float32x4_t c = vzip1q_f32(rows[1].v, rows[3].v), d = vzip2q_f32(rows[1].v, rows[3].v);
  rows[0] = {vzip1q_f32(a, c)};
  rows[1] = {vzip2q_f32(a, c)};
  rows[2] = {vzip1q_f32(b, d)};
  rows[3] = {vzip2q_f32(b, d)};
}

GR_INLINE void prefetch(const void* p) { __builtin_prefetch(p); }

GR_INLINE void deinterleave(F32 a, F32 b, F32& even, F32& odd) {
  even = {vuzp1q_f32(a.v, b.v)};
  odd = {vuzp2q_f32(a.v, b.v)};
}
GR_INLINE void interleave(F32 even, F32 odd, F32& a, F32& b) {
  a = {vzip1q_f32(even.v, odd.v)};
  b = {vzip2q_f32(even.v, odd.v)};
}
template <size_t By>
GR_INLINE F32 slid(F32 a, F32 b) {
  static_assert(By <= kLanes);
  if constexpr (By == kLanes) return b;
  return {vextq_f32(a.v, b.v, By % kLanes)};
}
template <class Index>
GR_INLINE F32 gather_all(const float* table, const Index* index) {
  float32x4_t v = vld1q_dup_f32(table + index[0]);
  v = vld1q_lane_f32(table + index[1], v, 1);
  v = vld1q_lane_f32(table + index[2], v, 2);
  return {vld1q_lane_f32(table + index[3], v, 3)};
}
GR_INLINE F32 gather(const float* table, const uint16_t* index) { return gather_all(table, index); }
GR_INLINE F32 gather(const float* table, const uint32_t* index) { return gather_all(table, index); }
GR_INLINE F32 hadamard(F32 a) {
  const float32x4_t by_1 = {1, -1, 1, -1}, by_2 = {1, 1, -1, -1};
  const float32x4_t v = vfmaq_f32(vrev64q_f32(a.v), a.v, by_1);
  return {vfmaq_f32(vextq_f32(v, v, 2), v, by_2)};
}

}  // namespace gr::simd::neon
