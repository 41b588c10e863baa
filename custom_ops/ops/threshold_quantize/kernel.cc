#include "ops/threshold_quantize/kernel.h"

#include "simd/simd.h"

namespace gr::threshold_quantize {
namespace {

using namespace simd::GR_ISA;

// Registers of numbers that meet a threshold together: enough that the counts do not wait for each other.
constexpr size_t kTogether = 4;

void count(const float* x, uint8_t* codes, size_t count, const float* thresholds, size_t m) {
  constexpr size_t kBlock = kTogether * kLanes;
  size_t from = 0;
  for (; from + kBlock <= count; from += kBlock) {
    F32 values[kTogether];
    I32 counts[kTogether];
    GR_UNROLL for (size_t r = 0; r < kTogether; ++r) {
      values[r] = load(x + from + r * kLanes);
      counts[r] = zero_i32();
    }
    for (size_t t = 0; t < m; ++t) {
      const F32 threshold = set_f32(thresholds[t]);
      GR_UNROLL for (size_t r = 0; r < kTogether; ++r) counts[r] = count_above(counts[r], values[r], threshold);
    }
    GR_UNROLL for (size_t r = 0; r < kTogether; ++r) narrow(codes + from + r * kLanes, counts[r]);
  }
  for (; from < count; from += kLanes) {
    const size_t live = count - from < kLanes ? count - from : kLanes;
    const F32 values = load_part(x + from, live);
    I32 counts = zero_i32();
    for (size_t t = 0; t < m; ++t) counts = count_above(counts, values, set_f32(thresholds[t]));
    uint8_t bytes[kLanes];
    narrow(bytes, counts);
    for (size_t lane = 0; lane < live; ++lane) codes[from + lane] = bytes[lane];
  }
}

}  // namespace

const Table GR_ISA::table = {count};

}  // namespace gr::threshold_quantize
