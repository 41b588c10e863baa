// Activations on vectors. Included by kernel units only.
#pragma once

#include "blocks/layer.h"
#include "simd/simd.h"

namespace gr::blocks {
namespace {

using namespace simd::GR_ISA;

// e^x to 2 units in the last place, for x in [-87, 88]; outside it the nearer end's value, for NaN any.
GR_INLINE F32 exponential(F32 x) {
  const F32 inside = min(max(x, set_f32(-87.0f)), set_f32(88.0f));
  const I32 power = round_i32(mul(inside, set_f32(1.44269504f)));
  const F32 n = to_f32(power);
  // ln 2 in two parts, the first of which has few enough bits that n times it is exact.
  const F32 r = fma(n, set_f32(2.12194440e-4f), fma(n, set_f32(-0.693359375f), inside));
  F32 series = set_f32(1.0f / 5040.0f);
  for (const float factor : {1.0f / 720.0f, 1.0f / 120.0f, 1.0f / 24.0f, 1.0f / 6.0f, 0.5f, 1.0f, 1.0f}) {
    series = fma(series, r, set_f32(factor));
  }
  return mul(series, pow2(power));
}

// What is not one of these has limits only.
GR_INLINE bool is_gated(const Finish& finish) {
  return finish.activation == Activation::silu || finish.activation == Activation::hardswish;
}

// A NaN stays one: it is the second operand of every comparison.
GR_INLINE F32 limited(F32 z, F32 low, F32 high) { return min(high, max(low, z)); }

// The activation of z.
GR_INLINE F32 finished(F32 z, const Finish& finish) {
  switch (finish.activation) {
    case Activation::relu:
    case Activation::clip:
      return limited(z, set_f32(finish.low), set_f32(finish.high));
    case Activation::silu:
      return div(z, add(set_f32(1.0f), exponential(sub(zero_f32(), z))));
    case Activation::hardswish: {
      const F32 gate = fma(z, set_f32(1.0f / 6.0f), set_f32(0.5f));
      return mul(z, min(set_f32(1.0f), max(zero_f32(), gate)));
    }
    case Activation::none:
      break;
  }
  return z;
}

// The activation of n numbers in place; up to kLanes - 1 numbers behind them may change too.
static inline void finish_all(float* numbers, size_t n, const Finish& finish) {
  if (finish.activation == Activation::none) return;
  for (size_t i = 0; i < n; i += kLanes) store(numbers + i, finished(load(numbers + i), finish));
}

}  // namespace
}  // namespace gr::blocks
