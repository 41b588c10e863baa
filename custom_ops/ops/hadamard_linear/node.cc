#include <algorithm>
#include <cmath>

#include "glue/op.h"
#include "ops/hadamard_linear/kernel.h"

namespace gr::hadamard_linear {
namespace {

constexpr int64_t kLargest = int64_t{1} << 18;
// A row takes about a nanosecond a number: that many numbers are worth a trip to another thread.
constexpr size_t kNumbersPerPart = 32768;

enum Input : size_t { kX, kBefore, kPermutation, kMiddle, kAfter, kBias };

Tensor vector(const Creation& creation, size_t index, const char* name) {
  Tensor tensor = creation.needed(index, name);
  require(tensor.rank() == 1,
          [&] { return std::string(name) + " has shape " + text(tensor.dims) + "; expected one axis"; });
  return tensor;
}

// The numbers with `factor` in them, and zeros behind them that a vector load may touch.
std::vector<float> padded(const Tensor& tensor, const char* name, float factor = 1.0f) {
  const float* values = tensor.as<float>();
  const size_t count = tensor.count();
  std::vector<float> copy((count + kPad - 1) / kPad * kPad + kPad);
  for (size_t i = 0; i < count; ++i) {
    require(std::isfinite(values[i]), [&] {
      return std::string(name) + "[" + text(static_cast<int64_t>(i)) + "] is not finite; expected finite numbers";
    });
    copy[i] = values[i] * factor;
  }
  return copy;
}

template <class Index>
std::vector<Index> indices(const Tensor& tensor, size_t size) {
  const int64_t* values = tensor.as<int64_t>();
  std::vector<Index> copy((size + kPad - 1) / kPad * kPad);
  for (size_t i = 0; i < size; ++i) {
    require(values[i] >= 0 && values[i] < static_cast<int64_t>(size), [&] {
      return "permutation[" + text(static_cast<int64_t>(i)) + "] is " + text(values[i]) + "; expected 0 to " +
             text(static_cast<int64_t>(size) - 1);
    });
    copy[i] = static_cast<Index>(values[i]);
  }
  return copy;
}

class HadamardLinear : public Kernel {
 public:
  explicit HadamardLinear(const Creation& creation) : table_(pick(creation.isa())) {
    const Tensor before = vector(creation, kBefore, "before"), middle = vector(creation, kMiddle, "middle");
    const Tensor permutation = vector(creation, kPermutation, "permutation");
    const Tensor after = vector(creation, kAfter, "after"), bias = vector(creation, kBias, "bias");
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
    before_ = padded(before, "before");
    middle_ = padded(middle, "middle", 1.0f / static_cast<float>(size_));
    after_ = padded(after, "after");
    bias_ = padded(bias, "bias");
    if (size_ <= size_t{1} << 16) {
      narrow_ = indices<uint16_t>(permutation, size_);
    } else {
      wide_ = indices<uint32_t>(permutation, size_);
    }
  }

  void compute(const Call& call) const override {
    const Tensor x = call.input(kX);
    require(x.rank() >= 1 && x.dims.back() == static_cast<int64_t>(in_), [&] {
      return "x has shape " + text(x.dims) + "; expected [..., " + text(static_cast<int64_t>(in_)) +
             "], the length of before";
    });
    Dims out = x.dims;
    out.back() = static_cast<int64_t>(out_);
    float* y = call.output<float>(0, out);
    const float* data = x.as<float>();
    const size_t rows = x.count() / in_;
    const size_t rows_per_part = std::max<size_t>(1, kNumbersPerPart / size_);
    const size_t room = checked_mul(2, (size_ + kPad - 1) / kPad * kPad, "the working rows");
    call.parallel((rows + rows_per_part - 1) / rows_per_part, [&](size_t part) {
      const size_t from = part * rows_per_part, count = std::min(rows_per_part, rows - from);
      float* work = call.scratch<float>(room);
      if (!narrow_.empty()) {
        table_.narrow(layer(narrow_), data + from * in_, y + from * out_, count, work);
      } else {
        table_.wide(layer(wide_), data + from * in_, y + from * out_, count, work);
      }
    });
  }

 private:
  template <class Index>
  Layer<Index> layer(const std::vector<Index>& permutation) const {
    return {in_, size_, out_, before_.data(), permutation.data(), middle_.data(), after_.data(), bias_.data()};
  }

  const Table& table_;
  size_t in_, size_, out_;
  std::vector<float> before_, middle_, after_, bias_;
  // One of the two: half the bytes where they can hold the positions.
  std::vector<uint16_t> narrow_;
  std::vector<uint32_t> wide_;
};

void infer(const Inference& node) {
  Inference::Sizes x = node.input(kX);
  const Inference::Sizes after = node.input(kAfter);
  if (x.empty() || after.size() != 1) return;
  x.back() = after[0];
  node.output(0, x);
}

std::unique_ptr<Kernel> create(const Creation& creation) { return std::make_unique<HadamardLinear>(creation); }

}  // namespace

extern const Definition definition = {create, infer};

}  // namespace gr::hadamard_linear
