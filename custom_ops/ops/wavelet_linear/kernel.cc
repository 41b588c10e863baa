// Every second value of a convolution needs the numbers at even places with every second tap and those at odd places with
// the others. So what is split is kept as two rows, even and odd, and a vector of results is a few unaligned loads and
// multiply-adds; the low half leaves as two such rows for the next level. The synthesis reads plain rows and interleaves
// what it makes. The diagonals are part of the first loads and the last stores, the middle one of the permutation.
//
// 4096 numbers, 7 levels, us a row on Zen 4 at 3.5 GHz: AVX-512 3.5 with 4 taps and 4.4 with 8, of which 1.0 is the
// permutation; scalar 110 and 210. The multiply-adds alone need 1.2 and 2.3.
#include "ops/wavelet_linear/kernel.h"

#include "simd/simd.h"

namespace gr::wavelet_linear {
namespace {

using namespace simd::GR_ISA;

// Up to 8 taps the number of pairs is known to the compiler; this stands for any number.
constexpr size_t kAnyPairs = 0;

// A row with its numbers at even and at odd places apart. Zeros lie in front of both.
struct Halves {
  float* even;
  float* odd;
};

GR_INLINE size_t up(size_t length, size_t multiple) { return (length + multiple - 1) / multiple * multiple; }

GR_INLINE void zero(float* p, size_t from, size_t to) {
  for (; from + kLanes <= to; from += kLanes) store(p + from, zero_f32());
  for (; from < to; ++from) p[from] = 0.0f;
}

// Zeros behind the first `length` numbers of a row, as far as a level that makes `half` results reads.
GR_INLINE void end_row(Halves row, size_t length, size_t half) {
  const size_t last = up(half, 2 * kLanes);
  zero(row.even, (length + 1) / 2, last);
  zero(row.odd, length / 2, last);
}

GR_INLINE F32 load_some(const float* p, size_t length, size_t at) {
  if (at + kLanes <= length) return load(p + at);
  return load_part(p + at, at < length ? length - at : 0);
}

template <class Index>
GR_INLINE void take_in(const Layer<Index>& layer, const float* x, Halves row) {
  for (size_t at = 0; at < layer.in; at += 2 * kLanes) {
    F32 v[2], even, odd;
    for (size_t i = 0; i < 2; ++i) {
      const size_t from = at + i * kLanes;
      v[i] = mul(load_some(x, layer.in, from), load_some(layer.before, layer.in, from));
    }
    deinterleave(v[0], v[1], even, odd);
    store(row.even + at / 2, even);
    store(row.odd + at / 2, odd);
  }
  end_row(row, layer.in, layer.levels[0].half);
}

// The taps of both filters. Those of short filters are copied into registers in front of a loop: stores inside it could
// change them otherwise, for all the compiler knows.
template <size_t Pairs>
struct Taps {
  static constexpr size_t count(size_t) { return Pairs; }
  F32 low[2 * Pairs], high[2 * Pairs];
};
template <>
struct Taps<kAnyPairs> {
  static constexpr size_t count(size_t pairs) { return pairs; }
  const float *low, *high;
};

template <size_t Pairs>
GR_INLINE Taps<Pairs> taps_of(const float* const* filters) {
  Taps<Pairs> taps;
  if constexpr (Pairs == kAnyPairs) {
    taps = {filters[0], filters[1]};
  } else {
#pragma GCC unroll 8
    for (size_t i = 0; i < 2 * Pairs; ++i) {
      taps.low[i] = set_f32(filters[0][i]);
      taps.high[i] = set_f32(filters[1][i]);
    }
  }
  return taps;
}

GR_INLINE F32 tap(F32 value) { return value; }
GR_INLINE F32 tap(float value) { return set_f32(value); }

// Whether vectors that start between two loads are made of the two: a load across cache lines costs twice. 25 against 17
// cycles a vector of results at 8 taps on Zen 4.
template <size_t Pairs>
constexpr bool kSlides = Pairs != kAnyPairs && Pairs <= kLanes;

// Sums of taps times numbers, of both filters.
struct Sums {
  F32 low, high, low_too, high_too;
};

GR_INLINE Sums no_sums() { return {zero_f32(), zero_f32(), zero_f32(), zero_f32()}; }

template <size_t Pairs>
GR_INLINE void add_split(Sums& sums, const Taps<Pairs>& taps, size_t s, F32 even, F32 odd) {
  sums.low_too = fma(tap(taps.low[2 * s]), odd, sums.low_too);
  sums.high_too = fma(tap(taps.high[2 * s]), odd, sums.high_too);
  sums.low = fma(tap(taps.low[2 * s + 1]), even, sums.low);
  sums.high = fma(tap(taps.high[2 * s + 1]), even, sums.high);
}

// Taps S and on, for numbers that lie in vectors `before` and `now` of either row.
template <size_t Pairs, size_t S = 0>
GR_INLINE void slide_split(Sums& sums, const Taps<Pairs>& taps, const F32 (&even)[2], const F32 (&odd)[2]) {
  if constexpr (S < Pairs) {
    add_split(sums, taps, S, slid<kLanes - S>(even[0], even[1]), slid<kLanes - S>(odd[0], odd[1]));
    slide_split<Pairs, S + 1>(sums, taps, even, odd);
  }
}

// One level of the analysis: taps 2s and 2s + 1 meet numbers at odd and at even places, s places back. The low half goes
// to `low.even` as it is where `low.odd` is null.
template <size_t Pairs>
void split(Halves row, size_t half, const float* const* filters, size_t pairs, float* high, Halves low) {
  const Taps<Pairs> taps = taps_of<Pairs>(filters);
  F32 even[2] = {zero_f32(), load(row.even - kLanes)}, odd[2] = {zero_f32(), load(row.odd - kLanes)};
  for (size_t at = 0; at < half; at += 2 * kLanes) {
    F32 lows[2];
#pragma GCC unroll 2
    for (size_t i = 0; i < 2; ++i) {
      Sums sums = no_sums();
      const float *evens = row.even + at + i * kLanes, *odds = row.odd + at + i * kLanes;
      if constexpr (kSlides<Pairs>) {
        even[0] = even[1];
        odd[0] = odd[1];
        even[1] = load(evens);
        odd[1] = load(odds);
        slide_split<Pairs>(sums, taps, even, odd);
      } else {
        for (size_t s = 0; s < Taps<Pairs>::count(pairs); ++s) add_split(sums, taps, s, load(evens - s), load(odds - s));
      }
      lows[i] = add(sums.low, sums.low_too);
      store(high + at + i * kLanes, add(sums.high, sums.high_too));
    }
    if (low.odd == nullptr) {
      store(low.even + at, lows[0]);
      store(low.even + at + kLanes, lows[1]);
    } else {
      F32 low_even, low_odd;
      deinterleave(lows[0], lows[1], low_even, low_odd);
      store(low.even + at / 2, low_even);
      store(low.odd + at / 2, low_odd);
    }
  }
}

void split_any(Halves row, size_t half, const float* const* filters, size_t pairs, float* high, Halves low) {
  switch (pairs) {
    case 1: return split<1>(row, half, filters, pairs, high, low);
    case 2: return split<2>(row, half, filters, pairs, high, low);
    case 3: return split<3>(row, half, filters, pairs, high, low);
    case 4: return split<4>(row, half, filters, pairs, high, low);
    default: return split<kAnyPairs>(row, half, filters, pairs, high, low);
  }
}

// The row of a finer level, or the layer's output with its diagonal and bias.
struct Joined {
  float* row;
  const float* after;  // null for a row
  const float* bias;
  size_t length;
};

GR_INLINE void keep(const Joined& to, size_t at, F32 v) {
  if (to.after == nullptr) {
    store(to.row + at, v);
  } else if (at + kLanes <= to.length) {
    store(to.row + at, fma(v, load(to.after + at), load(to.bias + at)));
  } else if (at < to.length) {
    const size_t rest = to.length - at;
    store_part(to.row + at, fma(v, load_part(to.after + at, rest), load_part(to.bias + at, rest)), rest);
  }
}

// Results at even places take every second tap, those at odd places the others.
struct Results {
  F32 even, odd, even_too, odd_too;
};

template <size_t Pairs>
GR_INLINE void add_join(Results& results, const Taps<Pairs>& taps, size_t place, F32 low, F32 high) {
  results.even = fma(tap(taps.low[place]), low, results.even);
  results.odd = fma(tap(taps.low[place + 1]), low, results.odd);
  results.even_too = fma(tap(taps.high[place]), high, results.even_too);
  results.odd_too = fma(tap(taps.high[place + 1]), high, results.odd_too);
}

template <size_t Pairs, size_t S = 0>
GR_INLINE void slide_join(Results& results, const Taps<Pairs>& taps, const F32 (&low)[2], const F32 (&high)[2]) {
  if constexpr (S < Pairs) {
    add_join(results, taps, 2 * (Pairs - 1 - S), slid<S>(low[0], low[1]), slid<S>(high[0], high[1]));
    slide_join<Pairs, S + 1>(results, taps, low, high);
  }
}

// One level of the synthesis: tap 2 (pairs - 1 - s) and the next meet numbers s places ahead.
template <size_t Pairs>
void join(const float* low, const float* high, size_t length, const float* const* filters, size_t pairs,
          const Joined& to) {
  const Taps<Pairs> taps = taps_of<Pairs>(filters);
  F32 lows[2] = {zero_f32(), load(low)}, highs[2] = {zero_f32(), load(high)};
  for (size_t at = 0; 2 * at < length; at += kLanes) {
    Results results = {zero_f32(), zero_f32(), zero_f32(), zero_f32()};
    if constexpr (kSlides<Pairs>) {
      lows[0] = lows[1];
      highs[0] = highs[1];
      lows[1] = load(low + at + kLanes);
      highs[1] = load(high + at + kLanes);
      slide_join<Pairs>(results, taps, lows, highs);
    } else {
      const size_t count = Taps<Pairs>::count(pairs);
      for (size_t s = 0; s < count; ++s) {
        add_join(results, taps, 2 * (count - 1 - s), load(low + at + s), load(high + at + s));
      }
    }
    F32 first, second;
    interleave(add(results.even, results.even_too), add(results.odd, results.odd_too), first, second);
    keep(to, 2 * at, first);
    keep(to, 2 * at + kLanes, second);
  }
}

void join_any(const float* low, const float* high, size_t length, const float* const* filters, size_t pairs,
              const Joined& to) {
  switch (pairs) {
    case 1: return join<1>(low, high, length, filters, pairs, to);
    case 2: return join<2>(low, high, length, filters, pairs, to);
    case 3: return join<3>(low, high, length, filters, pairs, to);
    case 4: return join<4>(low, high, length, filters, pairs, to);
    default: return join<kAnyPairs>(low, high, length, filters, pairs, to);
  }
}

template <class Index>
GR_INLINE void mix_band(const Layer<Index>& layer, const float* from, float* to, size_t start, size_t length) {
  for (size_t at = start; at < start + length; at += kLanes) {
    store(to + at, mul(gather(from, layer.permutation + at), load(layer.middle + at)));
  }
  // A filter of odd length looks one number too far, with a tap that is zero.
  to[start + length] = 0.0f;
}

template <class Index>
void run(const Layer<Index>& layer, const float* x, float* y, size_t rows, float* work) {
  float* rows_of_halves[4];
  for (float*& row : rows_of_halves) {
    zero(work, 0, layer.margin);
    row = work + layer.margin;
    work += layer.margin + layer.room;
  }
  const Halves halves[2] = {{rows_of_halves[0], rows_of_halves[1]}, {rows_of_halves[2], rows_of_halves[3]}};
  float* joined[2] = {work, work + layer.room};
  float* analysed = work + 2 * layer.room;
  float* mixed = analysed + layer.coefficients;
  const size_t last = layer.level_count - 1;
  for (size_t r = 0; r < rows; ++r) {
    take_in(layer, x + r * layer.in, halves[0]);
    for (size_t level = 0; level <= last; ++level) {
      const Level& now = layer.levels[level];
      const Halves from = halves[level % 2];
      if (level == last) {
        split_any(from, now.half, layer.analysis, layer.pairs, analysed + now.high, {analysed + layer.low, nullptr});
      } else {
        const Halves to = halves[(level + 1) % 2];
        split_any(from, now.half, layer.analysis, layer.pairs, analysed + now.high, to);
        end_row(to, now.half, layer.levels[level + 1].half);
      }
    }

    for (size_t level = 0; level <= last; ++level) {
      mix_band(layer, analysed, mixed, layer.levels[level].high, layer.levels[level].half);
    }
    mix_band(layer, analysed, mixed, layer.low, layer.levels[last].half);

    const float* low = mixed + layer.low;
    for (size_t level = last; level > 0; --level) {
      const Level& now = layer.levels[level];
      const Joined to{joined[level % 2], nullptr, nullptr, 0};
      join_any(low, mixed + now.high, now.length, layer.synthesis, layer.pairs, to);
      to.row[now.length] = 0.0f;  // as in mix_band
      low = to.row;
    }
    join_any(low, mixed + layer.levels[0].high, layer.out, layer.synthesis, layer.pairs,
             {y + r * layer.out, layer.after, layer.bias, layer.out});
  }
}

}  // namespace

const Table GR_ISA::table = {run<uint16_t>, run<uint32_t>};

}  // namespace gr::wavelet_linear
