#include <algorithm>

#include "blocks/read_finish.h"
#include "glue/rows.h"
#include "ops/q_block_sparse_mat_mul/kernel.h"
#include "quads/blocks.h"

namespace gr::q_block_sparse_mat_mul {
namespace {

// Products that make a part worth a trip to another thread. A lone row's are slower: its weights come from memory.
constexpr size_t kProductsPerPart = size_t{2} << 20;
constexpr size_t kLoneProductsPerPart = size_t{1} << 19;
constexpr size_t kMostParts = 16;
// Weights that stay in the second-level cache while the rows go by.
constexpr size_t kCachedWeights = size_t{256} << 10;

class QBlockSparseMatMul : public Kernel {
 public:
  explicit QBlockSparseMatMul(const Creation& creation)
      : table_(pick(creation.isa())),
        inputs_(checked_size(creation.integer("in_features"), "in_features")),
        outputs_(checked_size(creation.integer("out_features"), "out_features")),
        w_scale_(padded(creation, 3, "w_scale")),
        bias_(padded(creation, 4, "bias")),
        blocks_(creation.needed(1, "blocks"), creation.needed(2, "positions"), outputs_, inputs_, 1, nullptr,
                creation.isa()),
        finish_(blocks::read_finish(creation)) {
    for (size_t group = 0; group < blocks_.groups(); ++group) {
      const size_t at = group * quads::kOutputs;
      groups_.push_back({blocks_.strand(group), blocks_.sums().data() + at, w_scale_.data() + at, bias_.data() + at});
    }
  }

  void compute(const Call& call) const override {
    const FloatRows whole = float_rows(call, inputs_, outputs_);
    const size_t rows = whole.count;
    if (rows == 0) return;

    const size_t row_bytes = blocks_.quads() * quads::kInputs;
    const size_t tiles = (rows + table_.rows - 1) / table_.rows;
    const auto first_of = [&](size_t tile) { return rows * tile / tiles; };
    const auto pitch_of = [&](size_t count) {
      return count == 1 ? 1 : (count + table_.step - 1) / table_.step * table_.step;
    };
    const size_t tile_bytes = checked_mul(pitch_of((rows + tiles - 1) / tiles), row_bytes, "the quantised rows");
    uint8_t* bytes = call.scratch<uint8_t>(checked_mul(tiles, tile_bytes, "the quantised rows"));
    float* scales = call.scratch<float>(rows);
    int32_t* zero_points = call.scratch<int32_t>(rows);
    const size_t row_parts = parts(rows * inputs_ * 16, kProductsPerPart, tiles);
    call.parallel(row_parts, [&](size_t part) {
      for (size_t tile = tiles * part / row_parts; tile < tiles * (part + 1) / row_parts; ++tile) {
        const size_t first = first_of(tile), count = first_of(tile + 1) - first;
        const size_t step = pitch_of(count) * quads::kInputs;
        for (size_t i = 0; i < count; ++i) {
          uint8_t* to = bytes + tile * tile_bytes + i * quads::kInputs;
          table_.quantise(whole.x + (first + i) * inputs_, inputs_, to, step, scales + first + i,
                          zero_points + first + i);
        }
      }
    });

    const size_t products = checked_mul(blocks_.count() * quads::kBlock, rows, "the work");
    const size_t group_parts = parts(products, rows == 1 ? kLoneProductsPerPart : kProductsPerPart, groups_.size());
    // With many rows a part's weights go by once per tile: fewer at a time stay in the cache.
    const size_t cached = tiles == 1 ? 1 : blocks_.count() * quads::kBlock / group_parts / kCachedWeights + 1;
    call.parallel(group_parts, [&](size_t part) {
      for (size_t piece = part * cached; piece < (part + 1) * cached; ++piece) {
        const size_t first = groups_.size() * piece / (group_parts * cached);
        const size_t last = groups_.size() * (piece + 1) / (group_parts * cached);
        for (size_t tile = 0; tile < tiles; ++tile) {
          const size_t row = first_of(tile), count = first_of(tile + 1) - row;
          table_.multiply({bytes + tile * tile_bytes, count, pitch_of(count), scales + row, zero_points + row,
                           whole.y + row * outputs_, outputs_},
                          groups_.data(), first, last - first, finish_);
        }
      }
    });
  }

 private:
  static size_t parts(size_t work, size_t per_part, size_t most) {
    return std::max<size_t>(1, std::min({work / per_part, most, kMostParts}));
  }

  std::vector<float> padded(const Creation& creation, size_t index, const char* name) const {
    const Tensor tensor = creation.needed(index, name);
    require(tensor.rank() == 1 && tensor.count() == outputs_, [&] {
      return std::string(name) + " has shape " + text(tensor.dims) + "; expected [" + std::to_string(outputs_) + "]";
    });
    std::vector<float> values((outputs_ + quads::kOutputs - 1) / quads::kOutputs * quads::kOutputs, 0.0f);
    std::copy_n(tensor.as<float>(), outputs_, values.data());
    for (size_t i = 0; i < outputs_; ++i) {
      require(std::isfinite(values[i]), [&] {
        return std::string(name) + "[" + std::to_string(i) + "] is not finite; expected finite numbers";
      });
    }
    return values;
  }

  const Table& table_;
  const size_t inputs_, outputs_;
  const std::vector<float> w_scale_, bias_;  // before the blocks: their lengths prove out_features
  const quads::Blocks blocks_;
  const blocks::Finish finish_;
  std::vector<Group> groups_;
};

void infer(const Inference& node) {
  infer_last(node, {node.integer("out_features"), ""});
}

std::unique_ptr<Kernel> create(const Creation& creation) { return std::make_unique<QBlockSparseMatMul>(creation); }

}  // namespace

extern const Definition definition = {create, infer};

}  // namespace gr::q_block_sparse_mat_mul
