// AVX-512: 4 pixels x 64 outputs stay in registers; per input word a broadcast and, for 16 outputs, xor, count, add.
// On an AMD EPYC (Zen 4) that runs at 2300-2460 Gop/s on 3x3 layers from bits to bits, 92-97 % of what the three
// instructions allow; 7 x 64 with weights from memory reached 1780, 6 x 64 2200.
// AVX2 and NEON count into bytes, which are added up every 31 words; 4 pixels x 16 outputs: 800-850 Gop/s on AVX2.
#include "binary/kernel.h"

#include "binary/columns.h"
#include "simd/simd.h"

namespace gr::binary {
namespace {

using namespace simd::GR_ISA;

constexpr size_t kPixels = 4;                                   // of a tile
constexpr size_t kTile = kLanes == 16 ? kBlock : kLaneStep;     // outputs of a tile, at most
constexpr bool kInBursts = BitCounter::kBurst != ~size_t{0};

template <size_t P, size_t V>
GR_INLINE void close(const BitCounter (&counter)[P][V], I32 (&sum)[P][V]) {
  for (size_t p = 0; p < P; ++p) {
    for (size_t v = 0; v < V; ++v) {
      sum[p][v] = kInBursts ? add(sum[p][v], total(counter[p][v])) : total(counter[p][v]);
    }
  }
}

template <size_t P, size_t V>
GR_INLINE void clear(BitCounter (&counter)[P][V]) {
  for (size_t p = 0; p < P; ++p) {
    for (size_t v = 0; v < V; ++v) clear(counter[p][v]);
  }
}

// Differing bits between the windows that start at `at` and the weights of V vectors of outputs.
template <size_t P, size_t V>
GR_INLINE void count(const Map& map, const uint32_t* const (&at)[P], const uint32_t* weights, size_t lanes,
                     I32 (&sum)[P][V]) {
  BitCounter counter[P][V];
  clear(counter);
  for (size_t p = 0; p < P; ++p) {
    for (size_t v = 0; v < V; ++v) sum[p][v] = zero_i32();
  }
  size_t room = BitCounter::kBurst;
  for (const Run *run = map.runs, *last = run + map.run_count; run != last; ++run) {
    size_t word = run->offset;
    const size_t end = word + run->words;
    while (word != end) {
      const size_t stop = kInBursts && end - word > room ? word + room : end;
      if (kInBursts) room -= stop - word;
      for (; word != stop; ++word, weights += lanes) {
        U32 weight[V];
        for (size_t v = 0; v < V; ++v) weight[v] = load(weights + v * kLanes);
        for (size_t p = 0; p < P; ++p) {
          const U32 signs = set_u32(at[p][word]);
          for (size_t v = 0; v < V; ++v) add_differing(counter[p][v], signs, weight[v]);
        }
      }
      if (kInBursts && room == 0) {
        close(counter, sum);
        clear(counter);
        room = BitCounter::kBurst;
      }
    }
  }
  close(counter, sum);
}

struct ToBits {
  uint32_t* out;
  size_t step;
};

template <size_t V>
GR_INLINE void give(const ToBits& to, size_t pixel, size_t lane, const I32 (&sum)[V], const int32_t* limits) {
  uint64_t set = 0;
  for (size_t v = 0; v < V; ++v) {
    set |= static_cast<uint64_t>(bits_at_most(sum[v], load(limits + v * kLanes))) << (v * kLanes);
  }
  uint32_t* word = to.out + pixel * to.step + lane / 32;
  if (V * kLanes > 32) {
    word[0] = static_cast<uint32_t>(set);
    word[1] = static_cast<uint32_t>(set >> 32);
  } else if (lane % 32 == 0) {
    word[0] = static_cast<uint32_t>(set);
  } else {
    word[0] |= static_cast<uint32_t>(set) << 16;
  }
}

struct ToNumbers {
  const float* scale;
  const float* bias;
  float* out;
  size_t step;
};

// A product and a sum, each rounded: what the standard operators of the function body give, to the bit.
template <size_t V>
GR_INLINE void give(const ToNumbers& to, size_t pixel, size_t lane, const I32 (&sum)[V], const int32_t* terms) {
  for (size_t v = 0; v < V; ++v) {
    const size_t at = lane + v * kLanes;
    const F32 product = mul(to_f32(sub(load(terms + v * kLanes), add(sum[v], sum[v]))), load(to.scale + at));
    store(to.out + pixel * to.step + at, add(product, load(to.bias + at)));
  }
}

struct Position {
  size_t row, column;
};

GR_INLINE Position position_of(size_t pixel, const Map& map) { return {pixel / map.columns, pixel % map.columns}; }

// P pixels from `position` on, which moves behind them. They may lie in several rows: a tile is never cut short.
template <size_t P>
GR_INLINE void find(const Map& map, const Block& block, Position& position, const uint32_t* (&at)[P],
                    const int32_t* (&terms)[P]) {
  for (size_t p = 0; p < P; ++p) {
    at[p] = map.words + position.row * map.row_step + position.column * map.column_step;
    terms[p] = block.terms;
    if (map.row_terms != nullptr) terms[p] += map.row_terms[position.row] + map.column_terms[position.column];
    if (++position.column == map.columns) {
      position.column = 0;
      ++position.row;
    }
  }
}

template <size_t P, size_t V, class Sink>
GR_INLINE void run_tile(const Map& map, const Block& block, const uint32_t* const (&at)[P],
                        const int32_t* const (&terms)[P], size_t pixel, size_t lane, const Sink& sink) {
  I32 sum[P][V];
  count<P, V>(map, at, block.weights + lane, block.lanes, sum);
  for (size_t p = 0; p < P; ++p) give(sink, pixel + p, lane, sum[p], terms[p] + lane);
}

template <size_t P, class Sink>
GR_INLINE void run_pixels(const Map& map, const Block& block, Position& position, size_t pixel, const Sink& sink) {
  const uint32_t* at[P];
  const int32_t* terms[P];
  find<P>(map, block, position, at, terms);
  if constexpr (kTile == kLaneStep) {
    for (size_t lane = 0; lane < block.lanes; lane += kTile) {
      run_tile<P, kTile / kLanes>(map, block, at, terms, pixel, lane, sink);
    }
  } else {
    switch (block.lanes / kLanes) {
      case 4: return run_tile<P, 4>(map, block, at, terms, pixel, 0, sink);
      case 3: return run_tile<P, 3>(map, block, at, terms, pixel, 0, sink);
      case 2: return run_tile<P, 2>(map, block, at, terms, pixel, 0, sink);
      default: return run_tile<P, 1>(map, block, at, terms, pixel, 0, sink);
    }
  }
}

// All pixels [from, to); `position` is that of the first.
template <class Sink>
GR_INLINE void sweep(const Map& map, const Block& block, Position& position, size_t from, size_t to,
                     const Sink& sink) {
  for (; from + kPixels <= to; from += kPixels) run_pixels<kPixels>(map, block, position, from, sink);
  switch (to - from) {
    case 3: return run_pixels<3>(map, block, position, from, sink);
    case 2: return run_pixels<2>(map, block, position, from, sink);
    case 1: return run_pixels<1>(map, block, position, from, sink);
    default: return;
  }
}

void bits(const Map& map, const Block& block, size_t from, size_t to, uint32_t* out, size_t step) {
  Position position = position_of(from, map);
  sweep(map, block, position, 0, to - from, ToBits{out, step});
}

void planes(const Map& map, const Block& block, size_t from, size_t to, const float* scale, const float* bias,
            float* out, size_t step, size_t outputs) {
  alignas(64) float stage[kLanes * kBlock];  // [pixels][outputs], turned round on the way out
  Position position = position_of(from, map);
  for (; from < to; from += kLanes, out += kLanes) {
    const size_t live = to - from < kLanes ? to - from : kLanes;
    sweep(map, block, position, 0, live, ToNumbers{scale, bias, stage, kBlock});
    for (size_t lane = 0; lane < outputs; lane += kLanes) {
      F32 square[kLanes];
      for (size_t i = 0; i < kLanes; ++i) square[i] = load(stage + i * kBlock + lane);
      transpose(square);
      const size_t wanted = outputs - lane < kLanes ? outputs - lane : kLanes;
      float* to_plane = out + lane * step;
      if (live == kLanes && wanted == kLanes) {
        for (size_t i = 0; i < kLanes; ++i) store(to_plane + i * step, square[i]);
      } else {
        alignas(64) float spare[kLanes * kLanes];
        for (size_t i = 0; i < kLanes; ++i) store(spare + i * kLanes, square[i]);
        for (size_t i = 0; i < wanted; ++i) store_part(to_plane + i * step, load(spare + i * kLanes), live);
      }
    }
  }
}

void rows(const Map& map, const Block& block, size_t from, size_t to, const float* scale, const float* bias,
          float* out, size_t step, size_t outputs) {
  Position position = position_of(from, map);
  if (outputs == block.lanes) {
    return sweep(map, block, position, 0, to - from, ToNumbers{scale, bias, out, step});
  }
  alignas(64) float stage[kPixels * kBlock];
  for (; from < to; from += kPixels, out += kPixels * step) {
    const size_t live = to - from < kPixels ? to - from : kPixels;
    sweep(map, block, position, 0, live, ToNumbers{scale, bias, stage, kBlock});
    for (size_t pixel = 0; pixel < live; ++pixel) {
      for (size_t i = 0; i < outputs; ++i) out[pixel * step + i] = stage[pixel * kBlock + i];
    }
  }
}

void pack_planes(const float* x, const float* threshold, uint32_t* out, size_t channels, size_t positions,
                 size_t from, size_t to) {
  // By value: behind a reference it would be read again for every bit, which took 1.4 times as long.
  pack_columns(x, out, channels, positions, from, to, [threshold](U32 packed, F32 value, size_t channel, U32 bit) {
    return or_at_least(packed, value, set_f32(threshold[channel]), bit);
  });
}

// Lanes are channels: a compare gives as many bits of one word.
void pack_rows(const float* x, const float* threshold, uint32_t* out, size_t channels, size_t from, size_t to) {
  const size_t words = (channels + 31) / 32;
  for (size_t row = from; row < to; ++row) {
    const float* values = x + row * channels;
    for (size_t word = 0; word < words; ++word) {
      const size_t start = word * 32, last = channels - start < 32 ? channels - start : 32;
      uint32_t packed = 0;
      for (size_t bit = 0; bit < last; bit += kLanes) {
        const size_t live = last - bit < kLanes ? last - bit : kLanes;
        const F32 value = load_part(values + start + bit, live);
        const uint32_t set = bits_at_least(value, load_part(threshold + start + bit, live));
        packed |= (set & ((uint32_t{1} << live) - 1)) << bit;  // lanes behind the last channel compare 0 with 0
      }
      out[row * words + word] = packed;
    }
  }
}

}  // namespace

const Table GR_ISA::table = {bits, planes, rows, pack_planes, pack_rows};

}  // namespace gr::binary
