#include <algorithm>
#include <cmath>
#include <cstring>

#include "glue/pages.h"
#include "glue/rows.h"
#include "ops/low_bit_mat_mul/kernel.h"

namespace gr::low_bit_mat_mul {
namespace {

constexpr int64_t kMostDepth = 131072;  // what 32-bit sums of codes times bytes can hold, at any offset
constexpr int64_t kMostGroup = 4096;    // what a float holds exactly
constexpr size_t kTogether = 512 << 10;  // bytes of prepared rows that stay in the second-level cache beside the codes
constexpr size_t kPart = 512 << 10;      // bytes of codes times rows that are worth a trip to another thread
constexpr size_t kBlocksTogether = 8;    // so many are multiplied with one tile after the other

void require_shape(const Tensor& tensor, const char* name, const Dims& wanted) {
  require(tensor.dims == wanted,
          [&] { return std::string(name) + " has shape " + text(tensor.dims) + "; expected " + text(wanted); });
}

class LowBitMatMul : public Kernel {
 public:
  explicit LowBitMatMul(const Creation& creation) : table_(pick(creation.isa())) {
    const int64_t bits = creation.integer("bits"), group = creation.integer("group");
    const int64_t offset = creation.integer("offset"), depth = creation.integer("depth");
    require(bits == 1 || bits == 2 || bits == 4, [&] { return "bits is " + text(bits) + "; expected 1, 2 or 4"; });
    require(depth >= 1 && depth <= kMostDepth,
            [&] { return "depth is " + text(depth) + "; expected 1 to " + text(kMostDepth); });
    require(group >= 16 && group % 16 == 0 && (group <= kMostGroup || group >= depth), [&] {
      return "group is " + text(group) + "; expected a multiple of 16 up to " + text(kMostGroup) +
             ", or at least depth, which is " + text(depth);
    });
    require(offset >= 0 && offset <= int64_t{2} << bits,
            [&] { return "offset is " + text(offset) + "; expected 0 to " + text(int64_t{2} << bits); });
    const Tensor packed = creation.needed(1, "packed"), scales = creation.needed(2, "scales");
    const Tensor gain = creation.needed(3, "gain"), bias = creation.needed(4, "bias");
    require(gain.rank() == 1 && gain.dims[0] >= 1,
            [&] { return "gain has shape " + text(gain.dims) + "; expected one number per output"; });
    const int64_t outputs = gain.dims[0], blocks = (outputs + 31) / 32, steps = (depth + 15) / 16;
    // Not (depth + group - 1) / group: a group may be as large as a number gets.
    const int64_t groups = depth / group + (depth % group != 0 ? 1 : 0);
    require_shape(packed, "packed", {blocks, bits == 4 ? 2 * steps : steps, 32, bits == 1 ? 2 : 4});
    require_shape(scales, "scales", {blocks, groups, 32});
    require_shape(bias, "bias", {outputs});
    for (const uint16_t* half = scales.as<uint16_t>(); half != scales.as<uint16_t>() + scales.count(); ++half) {
      require((*half & 0x7c00) != 0x7c00, [] { return std::string("a scale is not finite; expected numbers"); });
    }
    factor_.assign(static_cast<size_t>(blocks) * kBlock, 0.0f);
    bias_.assign(factor_.size(), 0.0f);
    for (size_t i = 0; i < static_cast<size_t>(outputs); ++i) {
      factor_[i] = gain.as<float>()[i];
      bias_[i] = bias.as<float>()[i];
      require(std::isfinite(factor_[i]) && std::isfinite(bias_[i]),
              [&] { return "the gain or bias of output " + std::to_string(i) + " is not finite; expected numbers"; });
      if (groups == 1) factor_[i] *= scale(scales.as<uint16_t>()[i]);
    }
    layer_.factor = factor_.data();
    layer_.bias = bias_.data();
    layer_.depth = static_cast<size_t>(depth);
    layer_.outputs = static_cast<size_t>(outputs);
    layer_.steps = static_cast<size_t>(steps);
    layer_.groups = static_cast<size_t>(groups);
    layer_.group_steps = groups == 1 ? layer_.steps : static_cast<size_t>(group / 16);
    layer_.bits = static_cast<int>(bits);
    layer_.offset = static_cast<int>(offset);
    make_stream(packed.as<uint8_t>(), scales.as<uint16_t>(), static_cast<size_t>(blocks));
  }

  void compute(const Call& call) const override {
    const Tensor x = call.input(0);
    require(x.rank() >= 1 && x.dims.back() == static_cast<int64_t>(layer_.depth), [&] {
      return "x has shape " + text(x.dims) + "; expected a last axis of " + std::to_string(layer_.depth);
    });
    Dims out = x.dims;
    out.back() = static_cast<int64_t>(layer_.outputs);
    float* y = call.output<float>(0, out);
    const size_t rows = x.count() / layer_.depth;
    if (rows == 0) return;
    const size_t per_row = table_.tile_bytes(layer_, 1);
    const size_t most = std::max(kMostRows, kTogether / per_row / kMostRows * kMostRows);
    const Rows room(call, layer_, table_, std::min(rows, most));
    for (size_t row = 0; row < rows; row += most) {
      several(call, room, x.as<float>() + row * layer_.depth, std::min(most, rows - row),
              y + row * layer_.outputs);
    }
  }

 private:
  // Puts the scales of each group in front of its codes, so that a product reads one stream and not two.
  void make_stream(const uint8_t* packed, const uint16_t* scales, size_t blocks) {
    const size_t per_step = static_cast<size_t>(layer_.bits) * kBlock * kStep / 8;
    const size_t heads = layer_.groups == 1 ? 0 : layer_.groups;
    layer_.block_bytes = layer_.steps * per_step + heads * kScales;
    stream_ = Pages(checked_mul(blocks, layer_.block_bytes, "the codes and scales"));
    layer_.stream = stream_.data();
    uint8_t* to = stream_.data();
    for (size_t block = 0; block < blocks; ++block) {
      for (size_t group = 0; group < layer_.groups; ++group, scales += kBlock) {
        if (heads != 0) {
          std::memcpy(to, scales, kScales);
          to += kScales;
        }
        const size_t steps = std::min(layer_.group_steps, layer_.steps - group * layer_.group_steps);
        std::memcpy(to, packed, steps * per_step);
        to += steps * per_step;
        packed += steps * per_step;
      }
    }
  }

  // Room for the tiles of so many rows.
  struct Rows {
    Rows(const Call& call, const Layer& layer, const Table& table, size_t rows) {
      // As if each row were a tile: however rows are divided, theirs is no more than that.
      data = call.scratch<uint8_t>(checked_mul(rows, (table.tile_bytes(layer, 1) + 63) / 64 * 64, "prepared rows"));
      levels = call.scratch<int8_t>(checked_mul(rows, layer.steps * kStep, "rounded rows"));
      worth = call.scratch<float>(rows);
      sums = call.scratch<int32_t>(checked_mul(rows, layer.groups, "sums of rows"));
      tiles = call.scratch<Tile>(rows);
    }
    uint8_t* data;
    int8_t* levels;
    float* worth;
    int32_t* sums;
    Tile* tiles;
  };

  void several(const Call& call, const Rows& room, const float* x, size_t rows, float* y) const {
    size_t count = 0, data = 0;
    for (size_t row = 0; row < rows; ++count) {
      const size_t taken = table_.tile_rows(layer_, rows - row);
      room.tiles[count] = {taken, room.data + data, room.worth + row, room.sums + row * layer_.groups};
      data += (table_.tile_bytes(layer_, taken) + 63) / 64 * 64;
      row += taken;
    }
    const auto first_row = [&](size_t tile) { return static_cast<size_t>(room.tiles[tile].worth - room.worth); };
    const auto prepare = [&](size_t tile) {
      const size_t row = first_row(tile);
      table_.prepare(layer_, x + row * layer_.depth, room.levels + row * layer_.steps * kStep, room.tiles[tile]);
    };
    if (rows * layer_.depth < kPart / 4) {
      for (size_t tile = 0; tile < count; ++tile) prepare(tile);
    } else {
      call.parallel(count, prepare);
    }
    // Blocks are handed out in bundles: the kernels may run several of them at once, and what is read of the codes
    // stays in the cache from one tile to the next.
    const size_t blocks = factor_.size() / kBlock, bundles = (blocks + kBlocksTogether - 1) / kBlocksTogether;
    const size_t work = layer_.steps * kStep * static_cast<size_t>(layer_.bits) * kBlock / 8 * blocks * count;
    const size_t parts = std::min(bundles, std::max<size_t>(1, work / kPart));
    call.parallel(parts, [&](size_t part) {
      for (size_t bundle = bundles * part / parts; bundle < bundles * (part + 1) / parts; ++bundle) {
        const size_t from = bundle * kBlocksTogether, to = std::min(blocks, from + kBlocksTogether);
        for (size_t tile = 0; tile < count; ++tile) {
          table_.multiply(layer_, room.tiles[tile], from, to, y + first_row(tile) * layer_.outputs);
        }
      }
    });
  }

  static float scale(uint16_t half) {
    const float rest = static_cast<float>(half & 1023), sign = (half & 0x8000) != 0 ? -1.0f : 1.0f;
    const int exponent = half >> 10 & 31;
    return sign * (exponent == 0 ? std::ldexp(rest, -24) : std::ldexp(rest + 1024.0f, exponent - 25));
  }

  const Table& table_;
  Layer layer_;
  std::vector<float> factor_, bias_;
  Pages stream_;
};

void infer(const Inference& node) { infer_last_of(node, 3); }

std::unique_ptr<Kernel> create(const Creation& creation) { return std::make_unique<LowBitMatMul>(creation); }

}  // namespace

extern const Definition definition = {create, infer};

}  // namespace gr::low_bit_mat_mul
