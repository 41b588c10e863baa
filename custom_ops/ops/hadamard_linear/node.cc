#include <algorithm>

#include "diagonals/node.h"
#include "ops/hadamard_linear/kernel.h"

namespace gr::hadamard_linear {
namespace {

constexpr int64_t kLargest = int64_t{1} << 18;
// A row takes about a nanosecond a number: that many numbers are worth a trip to another thread.
constexpr size_t kNumbersPerPart = 32768;

enum Input : size_t { kX, kBefore, kPermutation, kMiddle, kAfter, kBias };

Tensor floats(const Creation& creation, size_t index, const char* name) {
  return diagonals::finite(diagonals::vector(creation, index, name), name);
}

class HadamardLinear : public Kernel {
 public:
  explicit HadamardLinear(const Creation& creation) : table_(pick(creation.isa())) {
    const Tensor before = floats(creation, kBefore, "before"), middle = floats(creation, kMiddle, "middle");
    const Tensor permutation = diagonals::vector(creation, kPermutation, "permutation");
    const Tensor after = floats(creation, kAfter, "after"), bias = floats(creation, kBias, "bias");
    in_ = before.count();
    size_ = checked_size(middle.dims[0], "the length of middle", kLargest);
    out_ = after.count();
    require(size_ > 0 && (size_ & (size_ - 1)) == 0, [&] {
      return "middle has " + text(middle.dims[0]) + " numbers; expected a power of two";
    });
    require(permutation.count() == size_, [&] {
      return "permutation has " + text(permutation.dims[0]) + " numbers, middle " + text(middle.dims[0]) +
             "; expected as many";
    });
    require(in_ >= 1 && in_ <= size_ && out_ >= 1 && out_ <= size_, [&] {
      return "before has " + text(before.dims[0]) + " numbers and after " + text(after.dims[0]) + "; expected 1 to " +
             text(middle.dims[0]) + ", the length of middle";
    });
    require(bias.count() == out_, [&] {
      return "bias has " + text(bias.dims[0]) + " numbers, after " + text(after.dims[0]) + "; expected as many";
    });
    before_ = diagonals::padded(before, kPad);
    middle_ = diagonals::padded(middle, kPad, 1.0f / static_cast<float>(size_));
    after_ = diagonals::padded(after, kPad);
    bias_ = diagonals::padded(bias, kPad);
    permutation_.resize(diagonals::up(size_, kPad));
    for (size_t i = 0; i < size_; ++i) {
      permutation_.set(i, diagonals::checked_position(permutation.as<int64_t>(), i, size_));
    }
  }

  void compute(const Call& call) const override {
    const FloatRows rows = float_rows(call, in_, out_);
    const size_t room = checked_mul(2, diagonals::up(size_, kPad), "the working rows");
    permutation_.run(
        call, table_, [&](const auto* positions) { return layer(positions); }, rows,
        std::max<size_t>(1, kNumbersPerPart / size_), room);
  }

 private:
  template <class Index>
  Layer<Index> layer(const Index* permutation) const {
    return {in_, size_, out_, before_.data(), permutation, middle_.data(), after_.data(), bias_.data()};
  }

  const Table& table_;
  size_t in_, size_, out_;
  std::vector<float> before_, middle_, after_, bias_;
  diagonals::Permutation permutation_;
};

void infer(const Inference& node) { infer_last_of(node, kAfter); }

std::unique_ptr<Kernel> create(const Creation& creation) { return std::make_unique<HadamardLinear>(creation); }

}  // namespace

extern const Definition definition = {create, infer};

}  // namespace gr::hadamard_linear
