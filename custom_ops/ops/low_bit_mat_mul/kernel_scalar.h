// The specification: one row, one output, one code at a time.
#pragma once

namespace gr::low_bit_mat_mul {
namespace {

size_t tile_rows(const Layer&, size_t) { return 1; }

size_t tile_bytes(const Layer& layer, size_t rows) { return rows * layer.steps * kStep; }

void prepare(const Layer& layer, const float* x, int8_t* levels, const Tile& tile) {
  round_rows(layer, x, levels, tile);
  std::memcpy(tile.data, levels, tile_bytes(layer, tile.rows));
}

float from_half(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000) << 16, exponent = half >> 10 & 31, rest = half & 1023;
  if (exponent == 0) {
    const float small = static_cast<float>(rest) * 5.9604644775390625e-8f;  // 2^-24
    return sign != 0 ? -small : small;
  }
  const uint32_t bits = sign | (exponent + 112) << 23 | rest << 13;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// sum(q c) of one output over `inputs` inputs, a multiple of kStep; `bytes` are its first codes.
int32_t product(const Layer& layer, const uint8_t* bytes, const int8_t* q, size_t inputs) {
  const size_t width = layer.bits == 1 ? 2 : 4, planes = static_cast<size_t>(8 / layer.bits);
  const unsigned mask = (1u << layer.bits) - 1;
  int32_t sum = 0;
  for (size_t input = 0; input < inputs; bytes += kBlock * width) {
    for (size_t plane = 0; plane < planes; ++plane) {
      for (size_t j = 0; j < width; ++j, ++input) {
        const int code = static_cast<int>(bytes[j] >> (plane * static_cast<size_t>(layer.bits)) & mask);
        sum += code * q[input];
      }
    }
  }
  return sum;
}

void multiply(const Layer& layer, const Tile& tile, size_t from, size_t to, float* y) {
  const size_t filled = layer.steps * kStep, group = layer.group_steps * kStep, width = layer.bits == 1 ? 2 : 4;
  for (size_t row = 0; row < tile.rows; ++row) {
    const int8_t* q = static_cast<const int8_t*>(tile.data) + row * filled;
    for (size_t output = from * kBlock; output < to * kBlock && output < layer.outputs; ++output) {
      const size_t lane = output % kBlock;
      const uint8_t* stream = layer.stream + output / kBlock * layer.block_bytes;
      float total = 0;
      for (size_t g = 0; g < layer.groups; ++g) {
        const size_t inputs = filled - g * group < group ? filled - g * group : group;
        float scale = 1.0f;
        if (layer.groups > 1) {
          uint16_t half;
          std::memcpy(&half, stream + lane * sizeof half, sizeof half);
          scale = from_half(half);
          stream += kScales;
        }
        const int32_t sum = product(layer, stream + lane * width, q + g * group, inputs);
        total += static_cast<float>(2 * sum - tile.sums[g * tile.rows + row]) * scale;
        stream += inputs / kStep * slabs_per_step(layer.bits) * slab_bytes(layer.bits);
      }
      y[row * layer.outputs + output] = total * tile.worth[row] * layer.factor[output] + layer.bias[output];
    }
  }
}

}  // namespace
}  // namespace gr::low_bit_mat_mul
