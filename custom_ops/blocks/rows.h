// The sums of one row for one group of outputs: one stream through its blocks, lanes are outputs.
//
// Included by kernel.cc more than once: GR_ROWS names the namespace, GR_ROWS_SIMD whose registers are used. Not inside
// gr::blocks, which already looks for its registers in one place.

namespace gr::block_rows {
namespace {
namespace GR_ROWS {

using blocks::Layer;

using namespace simd::GR_ROWS_SIMD;

// Bytes ahead of the stream that memory is asked for it. Less is late where memory is slow, more drives the row of
// inputs out of a small first-level cache: 4 to 16 KiB are within 10 % of each other.
constexpr size_t kStreamAhead = 8192;

// Writes the kWidth sums, biases included, of `group`; room for a register more.
template <size_t kWidth>
static inline void row_sums(const Layer& layer, const float* x, size_t group, float* sums) {
  constexpr size_t kVectors = kWidth > kLanes ? kWidth / kLanes : 1;
  // As many sums of every output as hide the latency of a multiply-add.
  constexpr size_t kChains = kVectors >= 4 ? 1 : 4 / kVectors;
  F32 partial[kChains][kVectors];
  GR_UNROLL for (size_t c = 0; c < kChains; ++c) {
    GR_UNROLL for (size_t v = 0; v < kVectors; ++v) partial[c][v] = zero_f32();
  }
  const auto step = [&](size_t block, size_t chain) {
    const float* values = layer.values + block * kWidth;
    const F32 input = set_f32(x[layer.where[block]]);
    if constexpr (kWidth < kLanes) {
      partial[chain][0] = fma(load_part(values, kWidth), input, partial[chain][0]);
    } else {
      GR_UNROLL for (size_t v = 0; v < kVectors; ++v) {
        partial[chain][v] = fma(load(values + v * kLanes), input, partial[chain][v]);
      }
    }
  };
  size_t block = layer.starts[group];
  const size_t end = layer.starts[group + 1];
  for (; block + kChains <= end; block += kChains) {
    const char* stream = reinterpret_cast<const char*>(layer.values + block * kWidth) + kStreamAhead;
    GR_UNROLL for (size_t byte = 0; byte < kChains * kWidth * sizeof(float); byte += 64) prefetch(stream + byte);
    prefetch(layer.where + block + kStreamAhead / 64);
    GR_UNROLL for (size_t c = 0; c < kChains; ++c) step(block + c, c);
  }
  for (; block < end; ++block) step(block, 0);
  GR_UNROLL for (size_t v = 0; v < kVectors; ++v) {
    F32 sum = load(layer.bias + group * kWidth + v * kLanes);
    GR_UNROLL for (size_t c = 0; c < kChains; ++c) sum = add(sum, partial[c][v]);
    store(sums + v * kLanes, sum);
  }
}

}  // namespace GR_ROWS
}  // namespace
}  // namespace gr::block_rows
