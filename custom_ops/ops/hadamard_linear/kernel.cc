// A transform is a few passes over the row. The first works on blocks of consecutive numbers: `hadamard` mixes the lanes of
// each vector, butterflies mix the registers of the block. Each further pass mixes numbers further apart. The diagonals and
// the permutation are part of the first loads and the last stores.
#include "ops/hadamard_linear/kernel.h"

#include "simd/simd.h"

namespace gr::hadamard_linear {
namespace {

using namespace simd::GR_ISA;

// Registers of a block: as many as leave some free for the operands of a butterfly.
#if defined(GR_ISA_AVX2)
constexpr size_t kMost = 8;
#else
constexpr size_t kMost = 16;
#endif

enum class Source { kInput, kCoefficients };
enum class Target { kCoefficients, kSignal, kOutput };

// One row on its way: x -> coefficients -> signal -> y.
template <class Index>
struct Row {
  const Layer<Index>& layer;
  const float* x;
  float* coefficients;
  float* signal;
  float* y;
};

GR_INLINE F32 load_some(const float* p, size_t length, size_t at) {
  if (at + kLanes <= length) return load(p + at);
  return load_part(p + at, at < length ? length - at : 0);
}

// The numbers of a transform's input from position `at` on. Past the end of the input there are zeros, which is also
// what makes a row shorter than a vector come out right.
template <Source S, class Index>
GR_INLINE F32 fetch(const Row<Index>& row, size_t at) {
  const Layer<Index>& layer = row.layer;
  if constexpr (S == Source::kInput) {
    if (at >= layer.in) return zero_f32();
    return mul(load_some(row.x, layer.in, at), load_some(layer.before, layer.in, at));
  } else {
    return mul(gather(row.coefficients, layer.permutation + at), load(layer.middle + at));
  }
}

template <Target T, class Index>
GR_INLINE void keep(const Row<Index>& row, size_t at, F32 v) {
  const Layer<Index>& layer = row.layer;
  if constexpr (T == Target::kCoefficients) {
    store(row.coefficients + at, v);
  } else if constexpr (T == Target::kSignal) {
    store(row.signal + at, v);
  } else {
    if (at >= layer.out) return;
    const F32 done = fma(v, load_some(layer.after, layer.out, at), load_some(layer.bias, layer.out, at));
    if (at + kLanes <= layer.out) {
      store(row.y + at, done);
    } else {
      store_part(row.y + at, done, layer.out - at);
    }
  }
}

template <size_t N>
GR_INLINE void butterflies(F32 (&v)[N]) {
#pragma GCC unroll 4
  for (size_t half = 1; half < N; half *= 2) {
#pragma GCC unroll 16
    for (size_t i = 0; i < N; ++i) {
      if (i & half) continue;
      const F32 sum = add(v[i], v[i + half]);
      v[i + half] = sub(v[i], v[i + half]);
      v[i] = sum;
    }
  }
}

// Blocks of N vectors in a row.
template <size_t N, Source S, Target T, class Index>
void near(const Row<Index>& row) {
  for (size_t at = 0; at < row.layer.size; at += N * kLanes) {
    F32 v[N];
#pragma GCC unroll 16
    for (size_t i = 0; i < N; ++i) v[i] = hadamard(fetch<S>(row, at + i * kLanes));
    butterflies(v);
#pragma GCC unroll 16
    for (size_t i = 0; i < N; ++i) keep<T>(row, at + i * kLanes, v[i]);
  }
}

// N vectors `stride` apart; the first pass has put them into `from`.
template <size_t N, Target T, class Index>
void far(const Row<Index>& row, const float* from, size_t stride) {
  for (size_t block = 0; block < row.layer.size; block += N * stride) {
    for (size_t at = block; at < block + stride; at += kLanes) {
      F32 v[N];
#pragma GCC unroll 16
      for (size_t i = 0; i < N; ++i) v[i] = load(from + at + i * stride);
      butterflies(v);
#pragma GCC unroll 16
      for (size_t i = 0; i < N; ++i) keep<T>(row, at + i * stride, v[i]);
    }
  }
}

// From `S` to `T` through `Between`, the row that `T`'s transform works in.
template <Source S, Target Between, Target T, class Index>
void transform(const Row<Index>& row, float* between) {
  const size_t size = row.layer.size, vectors = size <= kLanes ? 1 : size / kLanes;
  if (vectors == 1) return near<1, S, T>(row);
  if (vectors == 2) return near<2, S, T>(row);
  if (vectors == 4) return near<4, S, T>(row);
  if (vectors == 8) return near<8, S, T>(row);
  if (vectors == kMost) return near<kMost, S, T>(row);
  near<kMost, S, Between>(row);
  size_t stride = kMost * kLanes;
  for (; size / stride > kMost; stride *= kMost) far<kMost, Between>(row, between, stride);
  if (size / stride == 2) return far<2, T>(row, between, stride);
  if (size / stride == 4) return far<4, T>(row, between, stride);
  if (size / stride == 8) return far<8, T>(row, between, stride);
  far<kMost, T>(row, between, stride);
}

template <class Index>
void run(const Layer<Index>& layer, const float* x, float* y, size_t rows, float* work) {
  float* signal = work + (layer.size + kPad - 1) / kPad * kPad;
  for (size_t r = 0; r < rows; ++r) {
    const Row<Index> row{layer, x + r * layer.in, work, signal, y + r * layer.out};
    transform<Source::kInput, Target::kCoefficients, Target::kCoefficients>(row, row.coefficients);
    transform<Source::kCoefficients, Target::kSignal, Target::kOutput>(row, row.signal);
  }
}

}  // namespace

const Table GR_ISA::table = {run<uint16_t>, run<uint32_t>};

}  // namespace gr::hadamard_linear
