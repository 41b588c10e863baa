// The kernels over blocks of N outputs, compiled once per instruction set by the operators that share them.
//
// Lanes are positions: a tile of kOutputs outputs x a few registers of positions stays in registers while the blocks of
// a group go by. A block costs one load per register of inputs, one broadcast and as many multiply-adds per output.
// Groups wider than kOutputs are done in several passes over the same blocks.
// Measured on one Zen 4 core (118 GFLOP/s): 3x3, 256 channels at 14 x 14, three quarters of 1x8 blocks zero: 99 GFLOP/s
// of the blocks that are left, three times as fast as the dense layer (custom_ops/MEASURED.md). With outputs in the
// lanes a prototype reached 81 there; 113 with blocks of 16, which pads no rows.
#include "blocks/kernel.h"

#include "blocks/finish.h"
#include "simd/simd.h"
#if defined(GR_ISA_AVX512)
#include "simd/avx2.h"
#endif

#define GR_ROWS wide
#define GR_ROWS_SIMD GR_ISA
#include "blocks/rows.h"
#undef GR_ROWS
#undef GR_ROWS_SIMD
#define GR_ROWS narrow
#if defined(GR_ISA_AVX512)
#define GR_ROWS_SIMD avx2
#else
#define GR_ROWS_SIMD GR_ISA
#endif
#include "blocks/rows.h"

namespace gr::blocks {
namespace {

namespace wide = block_rows::wide;
namespace narrow = block_rows::narrow;

// Outputs x registers of positions that fit beside the inputs and one weight: 32 registers, or the 16 of AVX2.
#if defined(GR_ISA_AVX2)
constexpr size_t kManyOutputs = 4, kManyVectors = 3, kFourVectors = 3, kOneVectors = 8;
#else
constexpr size_t kManyOutputs = 8, kManyVectors = 3, kFourVectors = 6, kOneVectors = 8;
#endif

// Floats of weights ahead of a tile that memory is asked for: those of a large product come from there.
constexpr size_t kWeightsAhead = 1024;

// Stores n numbers, n > 0; reads whole registers.
GR_INLINE void copy(const float* from, size_t n, float* to) {
  size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(to + i, load(from + i));
  if (i < n) store_part(to + i, load(from + i), n - i);
}

template <size_t kOutputs, size_t kVectors>
static inline void tile(const Layer& layer, const Work& work, const Tile& at, size_t group, size_t pass) {
  const size_t width = layer.width, first = layer.starts[group], last = layer.starts[group + 1];
  const size_t output = group * width + pass;
  F32 sums[kOutputs][kVectors];
  GR_UNROLL for (size_t n = 0; n < kOutputs; ++n) {
    const F32 bias = set_f32(layer.bias[output + n]);
    GR_UNROLL for (size_t v = 0; v < kVectors; ++v) sums[n][v] = bias;
  }
  const size_t left = layer.outputs > output ? layer.outputs - output : 0;
  const size_t live = left < kOutputs ? left : kOutputs;
  float* y = work.y + (output - work.first_group * width) * work.y_plane;
  const float* planes = work.planes + at.from;
  const uint32_t* places = work.places;
  const float* values = layer.values + first * width + pass;
  for (size_t j = first; j < last; ++j, values += width) {
    const float* coming = planes + places[j + kAhead];
    GR_UNROLL for (size_t v = 0; v <= kVectors; ++v) prefetch(coming + v * kLanes);
    prefetch(values + kWeightsAhead);
    const float* x = planes + places[j];
    F32 inputs[kVectors];
    GR_UNROLL for (size_t v = 0; v < kVectors; ++v) inputs[v] = load(x + v * kLanes);
    GR_UNROLL for (size_t n = 0; n < kOutputs; ++n) {
      const F32 weight = set_f32(values[n]);
      GR_UNROLL for (size_t v = 0; v < kVectors; ++v) sums[n][v] = fma(weight, inputs[v], sums[n][v]);
    }
  }

  const Finish& finish = layer.finish;
  if (finish.activation != Activation::none && !is_gated(finish)) {
    const F32 low = set_f32(finish.low), high = set_f32(finish.high);
    GR_UNROLL for (size_t n = 0; n < kOutputs; ++n) {
      GR_UNROLL for (size_t v = 0; v < kVectors; ++v) sums[n][v] = limited(sums[n][v], low, high);
    }
  }

  constexpr size_t kRow = kVectors * kLanes;
  const Run only = work.runs[at.first_run < at.last_run ? at.first_run : 0];
  const bool is_whole = at.last_run - at.first_run == 1 && only.length == kRow && live == kOutputs;
  if (is_whole && !is_gated(finish)) {
    GR_UNROLL for (size_t n = 0; n < kOutputs; ++n) {
      GR_UNROLL for (size_t v = 0; v < kVectors; ++v) store(y + n * work.y_plane + only.to + v * kLanes, sums[n][v]);
    }
    return;
  }

  alignas(64) float ready[kOutputs * kRow + kLanes];
  GR_UNROLL for (size_t n = 0; n < kOutputs; ++n) {
    GR_UNROLL for (size_t v = 0; v < kVectors; ++v) store(ready + n * kRow + v * kLanes, sums[n][v]);
  }
  if (is_gated(finish)) finish_all(ready, live * kRow, finish);
  for (uint32_t r = at.first_run; r < at.last_run; ++r) {
    const Run run = work.runs[r];
    for (size_t n = 0; n < live; ++n) {
      copy(ready + n * kRow + run.from, run.length, y + n * work.y_plane + run.to);
    }
  }
}

static void place(const Layer& layer, const uint32_t* taps, size_t plane, size_t first, size_t last,
                  uint32_t* GR_RESTRICT places) {
  const uint32_t step = static_cast<uint32_t>(plane), mask = (uint32_t{1} << layer.tap_bits) - 1, shift = taps[0];
  const unsigned bits = layer.tap_bits;
  const uint32_t* GR_RESTRICT where = layer.where;
  const size_t from = layer.starts[first], to = layer.starts[last];
  if (bits == 0) {
    for (size_t j = from; j < to; ++j) places[j] = where[j] * step + shift;
  } else {
    for (size_t j = from; j < to; ++j) places[j] = (where[j] >> bits) * step + taps[where[j] & mask];
  }
  for (size_t j = to; j < to + kAhead; ++j) places[j] = 0;
}

// Picks the tile of the right number of registers.
template <size_t kOutputs, size_t kVectors>
static inline void tile_of(const Layer& layer, const Work& work, const Tile& at, size_t group, size_t pass) {
  if constexpr (kVectors > 1) {
    if (at.vectors < kVectors) return tile_of<kOutputs, kVectors - 1>(layer, work, at, group, pass);
  }
  tile<kOutputs, kVectors>(layer, work, at, group, pass);
}

template <size_t kOutputs, size_t kVectors>
static void spread_by(const Layer& layer, const Work& work) {
  const size_t outer = work.groups_outer ? work.last_group - work.first_group : work.tile_count;
  const size_t inner = work.groups_outer ? work.tile_count : work.last_group - work.first_group;
  for (size_t i = 0; i < outer; ++i) {
    for (size_t k = 0; k < inner; ++k) {
      const size_t group = work.first_group + (work.groups_outer ? i : k);
      const Tile& at = work.tiles[work.groups_outer ? k : i];
      for (size_t pass = 0; pass < layer.width; pass += kOutputs) {
        tile_of<kOutputs, kVectors>(layer, work, at, group, pass);
      }
    }
  }
}

static size_t most_vectors(size_t width) {
  return width == 1 ? kOneVectors : width == 4 ? kFourVectors : kManyVectors;
}

static void spread(const Layer& layer, const Work& work) {
  if (layer.width == 1) return spread_by<1, kOneVectors>(layer, work);
  if (layer.width == 4) return spread_by<4, kFourVectors>(layer, work);
  spread_by<kManyOutputs, kManyVectors>(layer, work);
}

template <size_t kWidth>
static void row_by(const Layer& layer, const float* x, float* y, size_t first, size_t last) {
  alignas(64) float sums[kWidth + kLanes];
  for (size_t group = first; group < last; ++group) {
    // Blocks of 4 or 8 would leave half of a wide register empty, and a wide load takes two turns on some machines.
    if constexpr (kWidth < kLanes) {
      narrow::row_sums<kWidth>(layer, x, group, sums);
    } else {
      wide::row_sums<kWidth>(layer, x, group, sums);
    }
    finish_all(sums, kWidth, layer.finish);
    const size_t output = group * kWidth;
    copy(sums, layer.outputs - output < kWidth ? layer.outputs - output : kWidth, y + output);
  }
}

// Blocks of one output: lanes are blocks.
static void row_of_singles(const Layer& layer, const float* x, float* y, size_t first, size_t last) {
  alignas(64) float ready[kLanes];
  for (size_t group = first; group < last; ++group) {
    F32 sums[2] = {zero_f32(), zero_f32()};
    const size_t end = layer.starts[group + 1];
    size_t j = layer.starts[group];
    for (; j + 2 * kLanes <= end; j += 2 * kLanes) {
      GR_UNROLL for (size_t c = 0; c < 2; ++c) {
        const size_t block = j + c * kLanes;
        prefetch(layer.values + block + wide::kStreamAhead / sizeof(float));
        sums[c] = fma(load(layer.values + block), gather(x, layer.where + block), sums[c]);
      }
    }
    float total = layer.bias[group] + sum(add(sums[0], sums[1]));
    for (; j < end; ++j) total += layer.values[j] * x[layer.where[j]];
    store(ready, finished(set_f32(total), layer.finish));
    y[group] = ready[0];
  }
}

static void row(const Layer& layer, const float* x, float* y, size_t first, size_t last) {
  switch (layer.width) {
    case 1:
      return row_of_singles(layer, x, y, first, last);
    case 4:
      return row_by<4>(layer, x, y, first, last);
    case 8:
      return row_by<8>(layer, x, y, first, last);
    case 16:
      return row_by<16>(layer, x, y, first, last);
    default:
      return row_by<32>(layer, x, y, first, last);
  }
}

static void turn(const float* from, size_t from_pitch, size_t rows, size_t columns, float* to, size_t to_pitch) {
  F32 square[kLanes];
  for (size_t i = 0; i < rows; i += kLanes) {
    const size_t high = rows - i < kLanes ? rows - i : kLanes;
    for (size_t k = 0; k < columns; k += kLanes) {
      const size_t wide = columns - k < kLanes ? columns - k : kLanes;
      if (wide == kLanes) {
        for (size_t r = 0; r < high; ++r) square[r] = load(from + (i + r) * from_pitch + k);
      } else {
        for (size_t r = 0; r < high; ++r) square[r] = load_part(from + (i + r) * from_pitch + k, wide);
      }
      for (size_t r = high; r < kLanes; ++r) square[r] = zero_f32();
      transpose(square);
      if (high == kLanes) {
        for (size_t c = 0; c < wide; ++c) store(to + (k + c) * to_pitch + i, square[c]);
      } else {
        for (size_t c = 0; c < wide; ++c) store_part(to + (k + c) * to_pitch + i, square[c], high);
      }
    }
  }
}

// The loop over a known step becomes shuffles.
static void every(const float* from, size_t step, size_t count, float* to) {
  if (step == 2) {
    for (size_t i = 0; i < count; ++i) to[i] = from[2 * i];
  } else {
    for (size_t i = 0; i < count; ++i) to[i] = from[step * i];
  }
}

}  // namespace

const Table GR_ISA::table = {kLanes, most_vectors, place, spread, row, turn, every};

}  // namespace gr::blocks
