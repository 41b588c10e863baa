// The inner loop of the QBlockSparse kernels: a few neighbouring pixels (or rows) times the blocks of 16 outputs.
// For kernel.cc only, after GR_ISA is set.
//
// Inputs lie as [quad][...][pixel][4 bytes], so that a step to the next pixel is 4 bytes whatever the kernel position.
// A block is loaded once and multiplied with one broadcast per pixel; all sums stay in registers.
#pragma once

#include <cstring>

#include "quads/strand.h"
#include "simd/simd.h"

namespace gr::quads::GR_ISA {

using namespace simd::GR_ISA;

// Registers that the 16 outputs of a block take.
constexpr size_t kParts = kOutputs / kLanes;
// Pixels whose sums fit into the registers beside a block and a broadcast, and the step between the sizes of tiles:
// a tile of a size between computes a few pixels that nobody asked for, which costs less than more code.
#if defined(GR_ISA_AVX512)
constexpr size_t kPixels = 28, kStep = 4;
#elif defined(GR_ISA_SCALAR)
constexpr size_t kPixels = 1, kStep = 1;
#else
constexpr size_t kPixels = 5, kStep = 1;
#endif

template <size_t... I>
struct Numbers {};
template <size_t N, size_t... I>
struct Upto : Upto<N - 1, N - 1, I...> {};
template <size_t... I>
struct Upto<0, I...> {
  using type = Numbers<I...>;
};

// Sums of `P` pixels: part `part` of pixel `pixel` is at [pixel * kParts + part]. Indices are always constants, or the
// compiler would keep the array in memory.
template <size_t P>
struct Sums {
  I32 at[P * kParts];
};

GR_INLINE I8 four_bytes(const uint8_t* p) {
  uint32_t bytes;
  std::memcpy(&bytes, p, 4);
  return set_bytes(bytes);
}

template <size_t P, size_t... I, size_t... Part>
GR_INLINE void begin(Sums<P>& sums, const int32_t* start, Numbers<I...>, Numbers<Part...>) {
  const I32 parts[kParts] = {load(start + Part * kLanes)...};
  ((sums.at[I] = parts[I % kParts]), ...);
}

template <size_t P, size_t... I, size_t... Part>
GR_INLINE void multiply(Sums<P>& sums, const uint8_t* x, const int8_t* block, Numbers<I...>, Numbers<Part...>) {
  const I8 weights[kParts] = {load_bytes(block + Part * kLanes * kInputs)...};
  ((sums.at[I] = dot_small(sums.at[I], four_bytes(x + I / kParts * kInputs), weights[I % kParts])), ...);
}

template <size_t P, size_t... I>
GR_INLINE void settle(Sums<P>& sums, Numbers<I...>) {
  ((sums.at[I] = settled(sums.at[I])), ...);
}

// Returns start[output] + the products of the strand with `P` pixels from `x` on. Quads of inputs are `plane` bytes
// apart; taps[tap] is how many bytes on a kernel position lies.
template <size_t P>
GR_INLINE Sums<P> summed(const Strand& strand, const uint8_t* x, size_t plane, const size_t* taps,
                         const int32_t* start) {
  Sums<P> sums;
  const auto all = typename Upto<P * kParts>::type{};
  const auto parts = typename Upto<kParts>::type{};
  begin<P>(sums, start, all, parts);
  for (size_t i = 0; i < strand.count; ++i) {
    multiply<P>(sums, x + strand.quads[i] * plane + taps[strand.taps[i]], strand.weights + i * kBlock, all, parts);
  }
  settle<P>(sums, all);
  return sums;
}

}  // namespace gr::quads::GR_ISA
