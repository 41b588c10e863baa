// One lane, plain C++: the meaning of every operation.
#pragma once

#include <cmath>
#include <cstring>

namespace gr::simd::scalar {

constexpr size_t kLanes = 1;
struct F32 { float v; };
struct I32 { int32_t v; };
struct U32 { uint32_t v; };
struct I8 { int8_t v[4]; };

// Floats.
GR_INLINE F32 zero_f32() { return {0.0f}; }
GR_INLINE F32 set_f32(float x) { return {x}; }
GR_INLINE F32 load(const float* p) { return {*p}; }
GR_INLINE void store(float* p, F32 a) { *p = a.v; }
// The first n lanes, n <= kLanes; the others are 0, and nothing of theirs is touched.
GR_INLINE F32 load_part(const float* p, size_t n) { return {n > 0 ? *p : 0.0f}; }
GR_INLINE void store_part(float* p, F32 a, size_t n) {
  if (n > 0) *p = a.v;
}
GR_INLINE F32 add(F32 a, F32 b) { return {a.v + b.v}; }
GR_INLINE F32 sub(F32 a, F32 b) { return {a.v - b.v}; }
GR_INLINE F32 mul(F32 a, F32 b) { return {a.v * b.v}; }
GR_INLINE F32 div(F32 a, F32 b) { return {a.v / b.v}; }
// a * b + c, rounded once.
GR_INLINE F32 fma(F32 a, F32 b, F32 c) { return {std::fma(a.v, b.v, c.v)}; }
// Where either is NaN the second operand comes out.
GR_INLINE F32 max(F32 a, F32 b) { return {a.v > b.v ? a.v : b.v}; }
GR_INLINE F32 min(F32 a, F32 b) { return {a.v < b.v ? a.v : b.v}; }
GR_INLINE F32 abs(F32 a) { return {std::fabs(a.v)}; }
GR_INLINE float sum(F32 a) { return a.v; }
GR_INLINE float highest(F32 a) { return a.v; }
// To the nearest integer, halves to the even one. Numbers that an int32 cannot hold are the caller's to keep away.
GR_INLINE I32 round_i32(F32 a) { return {static_cast<int32_t>(std::nearbyint(a.v))}; }
GR_INLINE F32 to_f32(I32 a) { return {static_cast<float>(a.v)}; }
// 2 to the power of a, for a from -126 to 127.
GR_INLINE F32 pow2(I32 a) {
  const uint32_t bits = static_cast<uint32_t>(a.v + 127) << 23;
  F32 power;
  std::memcpy(&power.v, &bits, 4);
  return power;
}
// All bits of a lane where a >= 0 (-0.0 is, NaN is not), else none.
GR_INLINE U32 not_negative(F32 a) { return {a.v >= 0.0f ? 0xffffffffu : 0u}; }

// Signed integers.
GR_INLINE I32 zero_i32() { return {0}; }
GR_INLINE I32 set_i32(int32_t x) { return {x}; }
GR_INLINE I32 load(const int32_t* p) { return {*p}; }
GR_INLINE void store(int32_t* p, I32 a) { *p = a.v; }
GR_INLINE I32 add(I32 a, I32 b) { return {static_cast<int32_t>(static_cast<uint32_t>(a.v) + static_cast<uint32_t>(b.v))}; }
GR_INLINE I32 sub(I32 a, I32 b) { return {static_cast<int32_t>(static_cast<uint32_t>(a.v) - static_cast<uint32_t>(b.v))}; }
// The lower 32 bits of the product.
GR_INLINE I32 mul(I32 a, I32 b) { return {static_cast<int32_t>(static_cast<uint32_t>(a.v) * static_cast<uint32_t>(b.v))}; }
GR_INLINE I32 max(I32 a, I32 b) { return {a.v > b.v ? a.v : b.v}; }
// acc plus one in the lanes where a > b, which NaN never is.
GR_INLINE I32 count_above(I32 acc, F32 a, F32 b) { return {acc.v + (a.v > b.v ? 1 : 0)}; }
GR_INLINE I32 min(I32 a, I32 b) { return {a.v < b.v ? a.v : b.v}; }
// a itself, as a value the compiler knows nothing about. Said of every sum behind a long loop it keeps gcc from holding
// each sum twice, as the type of the sum and as the type of what reads it, which takes twice the registers.
GR_INLINE I32 settled(I32 a) { return a; }
GR_INLINE int32_t sum(I32 a) { return a.v; }

// Words of bits.
GR_INLINE U32 zero_u32() { return {0}; }
GR_INLINE U32 set_u32(uint32_t x) { return {x}; }
GR_INLINE U32 load(const uint32_t* p) { return {*p}; }
GR_INLINE void store(uint32_t* p, U32 a) { *p = a.v; }
GR_INLINE U32 bit_and(U32 a, U32 b) { return {a.v & b.v}; }
GR_INLINE U32 bit_or(U32 a, U32 b) { return {a.v | b.v}; }
GR_INLINE U32 bit_xor(U32 a, U32 b) { return {a.v ^ b.v}; }
// Set bits of every lane.
GR_INLINE I32 popcount(U32 a) {
  uint32_t x = a.v - ((a.v >> 1) & 0x55555555u);
  x = (x & 0x33333333u) + ((x >> 2) & 0x33333333u);
  x = (x + (x >> 4)) & 0x0f0f0f0fu;
  return {static_cast<int32_t>((x * 0x01010101u) >> 24)};
}

// Bytes.
GR_INLINE I8 load_bytes(const void* p) {
  I8 a;
  std::memcpy(a.v, p, 4);
  return a;
}
// The same four bytes in every lane.
GR_INLINE I8 set_bytes(uint32_t four) {
  I8 a;
  std::memcpy(a.v, &four, 4);
  return a;
}
// Each lane of acc plus the four products of its bytes: those of u unsigned, those of s signed. Exact.
GR_INLINE I32 dot(I32 acc, I8 u, I8 s) {
  for (int i = 0; i < 4; ++i) acc.v += static_cast<int32_t>(static_cast<uint8_t>(u.v[i])) * s.v[i];
  return acc;
}
// As dot, where neither the first nor the last two bytes of a lane of s have absolute values of more than 128 together.
GR_INLINE I32 dot_small(I32 acc, I8 u, I8 s) { return dot(acc, u, s); }
// Every lane cut to 0..255, a byte each.
GR_INLINE void narrow(uint8_t* p, I32 a) { *p = static_cast<uint8_t>(a.v < 0 ? 0 : a.v > 255 ? 255 : a.v); }
// p[4 lane + i] is lane `lane` of the i-th register, cut to 16 bits, plus `zero`, cut to 0..255.
GR_INLINE void narrow4(uint8_t* p, I32 a, I32 b, I32 c, I32 d, int16_t zero) {
  const int32_t four[4] = {a.v, b.v, c.v, d.v};
  for (int i = 0; i < 4; ++i) {
    const int32_t cut = four[i] < -32768 ? -32768 : four[i] > 32767 ? 32767 : four[i];
    p[i] = static_cast<uint8_t>(cut + zero < 0 ? 0 : cut + zero > 255 ? 255 : cut + zero);
  }
}

// Bytes in memory, the same size for every instruction set.
// Four rows of 16 bytes become 16 groups of four: p[4 i] = a[i], p[4 i + 1] = b[i] ...
GR_INLINE void zip4(uint8_t* p, const uint8_t* a, const uint8_t* b, const uint8_t* c, const uint8_t* d) {
  for (int i = 0; i < 16; ++i) {
    p[4 * i] = a[i];
    p[4 * i + 1] = b[i];
    p[4 * i + 2] = c[i];
    p[4 * i + 3] = d[i];
  }
}
// A 4 x 4 matrix of words transposed. `from` are words between rows of q; `to` are bytes between rows of p, which need
// no alignment.
GR_INLINE void turn4(void* p, size_t to, const uint32_t* q, size_t from) {
  for (size_t i = 0; i < 4; ++i) {
    for (size_t j = 0; j < 4; ++j) std::memcpy(static_cast<uint8_t*>(p) + j * to + i * 4, q + i * from + j, 4);
  }
}

// Comparisons: word | bits where a >= b (never for NaN); a bit per lane where a >= b, or a <= b.
GR_INLINE U32 or_at_least(U32 word, F32 a, F32 b, U32 bits) { return {a.v >= b.v ? word.v | bits.v : word.v}; }
GR_INLINE uint32_t bits_at_least(F32 a, F32 b) { return a.v >= b.v ? 1 : 0; }
GR_INLINE uint32_t bits_at_most(I32 a, I32 b) { return a.v <= b.v ? 1 : 0; }

// Counts of the bits in which words differ. At most kBurst words go in before the total is taken.
struct BitCounter {
  static constexpr size_t kBurst = ~size_t{0};
  uint32_t n;
};
GR_INLINE void clear(BitCounter& counter) { counter.n = 0; }
GR_INLINE void add_differing(BitCounter& counter, U32 a, U32 b) {
  counter.n += static_cast<uint32_t>(popcount(bit_xor(a, b)).v);
}
GR_INLINE I32 total(const BitCounter& counter) { return {static_cast<int32_t>(counter.n)}; }

// Rows of a square of kLanes x kLanes become columns.
GR_INLINE void transpose(F32 (&)[1]) {}

// Asks for the cache line that holds p.
GR_INLINE void prefetch(const void* p) { (void)p; }

// Order of lanes.
// Of the 2 * kLanes numbers a, b: those at even and at odd places.
GR_INLINE void deinterleave(F32 a, F32 b, F32& even, F32& odd) {
  even = a;
  odd = b;
}
// The way back: `a` gets the first kLanes numbers, `b` the others.
GR_INLINE void interleave(F32 even, F32 odd, F32& a, F32& b) {
  a = even;
  b = odd;
}
// Of the 2 * kLanes numbers a, b: those that start `By` lanes after the first, By <= kLanes.
template <size_t By>
GR_INLINE F32 slid(F32 a, F32 b) {
  static_assert(By <= kLanes);
  return By == 0 ? a : b;
}
// Lane i is table[index[i]].
GR_INLINE F32 gather(const float* table, const uint16_t* index) { return {table[*index]}; }
GR_INLINE F32 gather(const float* table, const uint32_t* index) { return {table[*index]}; }
// The Walsh-Hadamard transform over the lanes, not scaled: lane i is the sum of all lanes, lane j with the sign of the
// parity of i & j.
GR_INLINE F32 hadamard(F32 a) { return a; }

}  // namespace gr::simd::scalar
