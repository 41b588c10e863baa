#include <algorithm>

#include "diagonals/node.h"
#include "ops/wavelet_linear/kernel.h"

namespace gr::wavelet_linear {
namespace {

using diagonals::finite;
using diagonals::padded;
using diagonals::up;
using diagonals::vector;

constexpr int64_t kLargest = int64_t{1} << 24;
constexpr int64_t kMostLevels = 64;
constexpr int64_t kMostTaps = 1024;
// A row takes one or two nanoseconds a number: that many numbers are worth a trip to another thread.
constexpr size_t kNumbersPerPart = 16384;

enum Input : size_t { kX, kBefore, kAnalysis, kPermutation, kMiddle, kSynthesis, kAfter, kBias };

std::string number(size_t value) { return text(static_cast<int64_t>(value)); }

// How many coefficients the analysis of `size` numbers makes.
size_t coefficient_count(size_t size, size_t taps, size_t levels) {
  size_t count = 0;
  for (size_t level = 0; level < levels; ++level) {
    size = (size + taps - 1) / 2;
    count += size;
  }
  return count + size;
}

class WaveletLinear : public Kernel {
 public:
  explicit WaveletLinear(const Creation& creation) : table_(pick(creation.isa())) {
    const Tensor before = finite(vector(creation, kBefore, "before"), "before");
    const Tensor middle = finite(vector(creation, kMiddle, "middle"), "middle");
    const Tensor after = finite(vector(creation, kAfter, "after"), "after");
    const Tensor bias = finite(vector(creation, kBias, "bias"), "bias");
    const Tensor permutation = vector(creation, kPermutation, "permutation");
    const Tensor analysis = finite(creation.needed(kAnalysis, "analysis"), "analysis");
    const Tensor synthesis = finite(creation.needed(kSynthesis, "synthesis"), "synthesis");
    require(analysis.rank() == 2 && analysis.dims[0] == 2 && analysis.dims[1] >= 2 && analysis.dims[1] <= kMostTaps, [&] {
      return "analysis has shape " + text(analysis.dims) + "; expected [2, taps] with 2 to " + text(kMostTaps) + " taps";
    });
    require(synthesis.dims == analysis.dims, [&] {
      return "synthesis has shape " + text(synthesis.dims) + ", analysis " + text(analysis.dims) + "; expected the same";
    });
    size_ = checked_size(creation.integer("size"), "size", kLargest);
    const size_t levels = checked_size(creation.integer("levels"), "levels", kMostLevels);
    require(size_ >= 1 && levels >= 1, [&] {
      return "size is " + number(size_) + " and levels " + number(levels) + "; expected at least 1 of both";
    });
    in_ = before.count();
    out_ = after.count();
    require(in_ >= 1 && in_ <= size_ && out_ >= 1 && out_ <= size_, [&] {
      return "before has " + number(in_) + " numbers and after " + number(out_) + "; expected 1 to " + number(size_) +
             ", the size";
    });
    require(bias.count() == out_, [&] {
      return "bias has " + number(bias.count()) + " numbers, after " + number(out_) + "; expected as many";
    });
    const size_t taps = static_cast<size_t>(analysis.dims[1]), count = coefficient_count(size_, taps, levels);
    require(middle.count() == count && permutation.count() == count, [&] {
      return "middle has " + number(middle.count()) + " numbers and permutation " + number(permutation.count()) +
             "; expected " + number(count) + ", the coefficients of " + number(size_) + " values with these filters";
    });
    place(levels, taps);
    before_ = padded(before, kPad);
    after_ = padded(after, kPad);
    bias_ = padded(bias, kPad);
    set_filters(analysis, synthesis);
    set_permutation(permutation.as<int64_t>(), middle.as<float>());
  }

  void compute(const Call& call) const override {
    const FloatRows rows = float_rows(call, in_, out_);
    const size_t room = 4 * margin_ + 6 * room_ + 2 * coefficients_;
    permutation_.run(
        call, table_, [&](const auto* positions) { return layer(positions); }, rows,
        std::max<size_t>(1, kNumbersPerPart / size_), room);
  }

 private:
  // Lays the bands of coefficients out, each with room behind it; `plain_` is where each coefficient of the file lies.
  void place(size_t levels, size_t taps) {
    pairs_ = (taps + 1) / 2;
    margin_ = up(pairs_, kPad);
    room_ = 0;
    size_t length = size_, at = 0;
    const auto band = [&](size_t half) {
      const size_t start = at, room = up(half + pairs_, kPad) + kPad;
      for (size_t i = 0; i < half; ++i) plain_.push_back(start + i);
      room_ = std::max(room_, room);
      at += room;
      return start;
    };
    for (size_t level = 0; level < levels; ++level) {
      const size_t half = (length + taps - 1) / 2;
      levels_.push_back({length, half, band(half)});
      length = half;
    }
    low_ = band(length);
    coefficients_ = at;
  }

  // An even number of taps: a zero behind the analysis, in front of the synthesis, changes nothing.
  void set_filters(const Tensor& analysis, const Tensor& synthesis) {
    const size_t taps = static_cast<size_t>(analysis.dims[1]), missing = taps % 2;
    for (size_t side = 0; side < 2; ++side) {
      const float *split = analysis.as<float>() + side * taps, *join = synthesis.as<float>() + side * taps;
      analysis_[side].assign(split, split + taps);
      analysis_[side].resize(taps + missing);
      synthesis_[side].assign(missing, 0.0f);
      synthesis_[side].insert(synthesis_[side].end(), join, join + taps);
    }
  }

  void set_permutation(const int64_t* permutation, const float* middle) {
    const size_t count = plain_.size();
    middle_.resize(coefficients_);
    permutation_.resize(coefficients_);
    for (size_t i = 0; i < count; ++i) {
      const size_t from = plain_[diagonals::checked_position(permutation, i, count)], to = plain_[i];
      middle_[to] = middle[i];
      permutation_.set(to, from);
    }
    plain_ = {};
  }

  template <class Index>
  Layer<Index> layer(const Index* permutation) const {
    return {in_,
            out_,
            before_.data(),
            after_.data(),
            bias_.data(),
            levels_.data(),
            levels_.size(),
            low_,
            coefficients_,
            permutation,
            middle_.data(),
            pairs_,
            {analysis_[0].data(), analysis_[1].data()},
            {synthesis_[0].data(), synthesis_[1].data()},
            margin_,
            room_};
  }

  const Table& table_;
  size_t in_, size_, out_, pairs_, margin_, room_, low_, coefficients_;
  std::vector<Level> levels_;
  std::vector<size_t> plain_;
  std::vector<float> before_, middle_, after_, bias_, analysis_[2], synthesis_[2];
  diagonals::Permutation permutation_;
};

void infer(const Inference& node) { infer_last_of(node, kAfter); }

std::unique_ptr<Kernel> create(const Creation& creation) { return std::make_unique<WaveletLinear>(creation); }

}  // namespace

extern const Definition definition = {create, infer};

}  // namespace gr::wavelet_linear
