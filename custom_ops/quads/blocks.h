// Block-sparse int8 weights as the QBlockSparse kernels want them: checked, copied to cache lines of their own, and
// listed per group of 16 outputs. See quads/pack.py for the format. For node.cc only.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "glue/op.h"
#include "glue/pages.h"
#include "quads/strand.h"

namespace gr::quads {

class Blocks {
 public:
  // Throws unless `blocks` [n, 16, 4] and `positions` [n] describe a weight [outputs, inputs, taps].
  // `bias` may be null; with it, or without, no sum of products may leave 32 bits.
  Blocks(const Tensor& blocks, const Tensor& positions, size_t outputs, size_t inputs, size_t taps, const int32_t* bias,
         Isa isa)
      : has_limit_(isa == Isa::avx2),
        groups_((outputs + kOutputs - 1) / kOutputs),
        quads_((inputs + kInputs - 1) / kInputs) {
    require(outputs > 0 && inputs > 0 && taps > 0, [&] {
      return "the weight is [" + std::to_string(outputs) + ", " + std::to_string(inputs) + ", " + std::to_string(taps) +
             "]; expected at least one output, input and kernel position";
    });
    require(quads_ <= 65536 && taps <= 65536, [&] {
      return "the weight has " + std::to_string(inputs) + " inputs and " + std::to_string(taps) +
             " kernel positions; expected at most 262144 and 65536";
    });
    const size_t count = blocks.rank() == 3 ? static_cast<size_t>(blocks.dims[0]) : 0;
    require(blocks.rank() == 3 && blocks.dims[1] == kOutputs && blocks.dims[2] == kInputs, [&] {
      return "blocks has shape " + text(blocks.dims) + "; expected [blocks, 16, 4]";
    });
    require(positions.rank() == 1 && static_cast<size_t>(positions.dims[0]) == count, [&] {
      return "positions has shape " + text(positions.dims) + "; expected [" + std::to_string(count) +
             "], a number for each block";
    });
    fill(blocks.as<int8_t>(), positions.as<int32_t>(), count, taps);
    check_sums(bias, outputs);
  }

  size_t groups() const { return groups_; }
  size_t quads() const { return quads_; }
  // Blocks kept; a block whose products some instruction sets cannot add counts twice.
  size_t count() const { return count_; }
  // The sum of the weights of each output, [groups * 16].
  const std::vector<int32_t>& sums() const { return sums_; }

  // What the sum of an output cannot exceed, neither in the end nor on the way. `bias` may be null.
  int64_t largest_sum(size_t output, const int32_t* bias) const {
    return (bias == nullptr ? 0 : std::abs(int64_t{bias[output]})) + 2 * 255 * sizes_[output];
  }

  Strand strand(size_t group) const {
    const size_t from = starts_[group];
    return {weights_ + from * kBlock, quad_ + from, tap_ + from, starts_[group + 1] - from};
  }

 private:
  void fill(const int8_t* blocks, const int32_t* positions, size_t count, size_t taps) {
    const size_t most = checked_mul(checked_mul(groups_, quads_, "the weight"), taps, "the weight");
    size_t kept = 0;
    for (size_t i = 0; i < count; ++i) kept += is_small(blocks + i * kBlock) ? 1 : 2;
    const size_t bytes = checked_mul(kept, kBlock + 2 * sizeof(uint16_t), "the weight");
    // Half a huge page is worth a whole one.
    pages_ = Pages(bytes >= kHuge / 2 ? std::max(bytes, kHuge) : bytes);
    weights_ = reinterpret_cast<int8_t*>(pages_.data());
    quad_ = reinterpret_cast<uint16_t*>(pages_.data() + kept * kBlock);
    tap_ = quad_ + kept;
    starts_.assign(groups_ + 1, 0);
    sums_.assign(groups_ * kOutputs, 0);
    sizes_.assign(groups_ * kOutputs, 0);
    int64_t previous = -1;
    for (size_t i = 0; i < count; ++i) {
      const int64_t at = positions[i];
      require(at > previous && at < static_cast<int64_t>(most), [&] {
        return "positions[" + std::to_string(i) + "] is " + std::to_string(at) +
               "; expected more than the one before (" + std::to_string(previous) + ") and less than " +
               std::to_string(most);
      });
      previous = at;
      const size_t place = static_cast<size_t>(at), group = place / (quads_ * taps);
      add(blocks + i * kBlock, group, place / taps % quads_, place % taps);
    }
    for (size_t group = 0; group < groups_; ++group) starts_[group + 1] += starts_[group];
  }

  void add(const int8_t* block, size_t group, size_t quad, size_t tap) {
    for (size_t output = 0; output < kOutputs; ++output) {
      for (size_t input = 0; input < kInputs; ++input) {
        const int weight = block[output * kInputs + input];
        sums_[group * kOutputs + output] += weight;
        sizes_[group * kOutputs + output] += weight < 0 ? -weight : weight;
      }
    }
    int8_t* to = weights_ + count_ * kBlock;
    if (is_small(block)) {
      std::memcpy(to, block, kBlock);
    } else {
      for (size_t i = 0; i < kBlock; ++i) {
        to[i] = static_cast<int8_t>(block[i] / 2);
        to[kBlock + i] = static_cast<int8_t>(block[i] - block[i] / 2);
      }
      push(group, quad, tap);
    }
    push(group, quad, tap);
  }

  void push(size_t group, size_t quad, size_t tap) {
    quad_[count_] = static_cast<uint16_t>(quad);
    tap_[count_] = static_cast<uint16_t>(tap);
    ++count_;
    ++starts_[group + 1];
  }

  // Whether simd::dot_small may multiply the block. Where the instruction set has no such limit every block is.
  bool is_small(const int8_t* block) const {
    if (!has_limit_) return true;
    for (size_t i = 0; i < kBlock; i += 2) {
      if (std::abs(int{block[i]}) + std::abs(int{block[i + 1]}) > 128) return false;
    }
    return true;
  }

  // Sums start at the bias less the zero point's share and take 4-byte products one by one: no step may overflow.
  void check_sums(const int32_t* bias, size_t outputs) const {
    for (size_t output = 0; output < outputs; ++output) {
      const int64_t most = largest_sum(output, bias);
      require(most <= INT32_MAX, [&] {
        return "output " + std::to_string(output) + " could sum up to " + std::to_string(most) +
               "; expected bias + 510 * sum |weight| below 2^31";
      });
    }
  }

  static constexpr size_t kHuge = size_t{2} << 20;

  bool has_limit_;
  size_t groups_, quads_;
  Pages pages_;
  int8_t* weights_ = nullptr;
  uint16_t* quad_ = nullptr;
  uint16_t* tap_ = nullptr;
  size_t count_ = 0;
  std::vector<size_t> starts_;
  std::vector<int32_t> sums_;
  std::vector<int64_t> sizes_;
};

}  // namespace gr::quads
