#include "binary/layer.h"

#include <algorithm>
#include <cmath>

namespace gr::binary {
namespace {

// A sum of so many signs is still a whole number in a float: the function body adds them up in one.
constexpr size_t kMostSigns = size_t{1} << 24;
// Farther than any sum, so that a threshold behind it is never reached, or always.
constexpr int32_t kNever = 1 << 26;

uint32_t tail_mask(size_t channels) {
  return channels % 32 == 0 ? ~uint32_t{0} : (uint32_t{1} << channels % 32) - 1;
}

int32_t ones(uint32_t word) {
  int32_t count = 0;
  for (; word != 0; word &= word - 1) ++count;
  return count;
}

const float* floats(const Tensor& tensor, const char* name, size_t count) {
  require(tensor.dims == Dims{static_cast<int64_t>(count)}, [&] {
    return std::string(name) + " has shape " + text(tensor.dims) + "; expected [" + std::to_string(count) + "]";
  });
  return tensor.as<float>();
}

void require_finite(const float* values, size_t count, const char* name) {
  for (size_t i = 0; i < count; ++i) {
    require(std::isfinite(values[i]), [&] {
      return std::string(name) + " " + std::to_string(i) + " is not finite; expected plain numbers";
    });
  }
}

}  // namespace

Layer::Layer(const Creation& creation, Form form, const Sizes& sizes, const uint32_t* weight)
    : table_(pick(creation.isa())),
      form_(form),
      sizes_(sizes),
      group_channels_(sizes.channels / sizes.groups),
      group_outputs_(sizes.outputs / sizes.groups),
      words_((sizes.channels + 31) / 32),
      group_words_((group_channels_ + 31) / 32),
      window_words_(sizes.height * sizes.width * group_words_) {
  require(sizes.height * sizes.width <= kMostSigns && group_channels_ < kMostSigns / (sizes.height * sizes.width), [&] {
    return "a window holds " + std::to_string(sizes.height) + " x " + std::to_string(sizes.width) + " x " +
           std::to_string(group_channels_) + " signs; expected fewer than 2^24";
  });
  size_t words = 0;
  for (size_t group = 0; group < sizes.groups; ++group) {
    for (size_t output = 0; output < group_outputs_; output += kBlock) {
      const size_t outputs = std::min(kBlock, group_outputs_ - output);
      const size_t lanes = (outputs + kLaneStep - 1) / kLaneStep * kLaneStep;
      slots_.push_back({group, group * group_outputs_ + output, outputs, lanes_, lanes, words});
      lanes_ += lanes;
      words = checked_add(words, checked_mul(window_words_, lanes, "packed weights"), "packed weights");
    }
  }
  weights_ = Aligned<uint32_t>(words);
  pack_weights(weight);
  sum_taps(weight);
  read_numbers(creation);
  inside_ = Aligned<int32_t>(lanes_);
  const auto all = static_cast<int32_t>(sizes_.height * sizes_.width * group_channels_);
  for (size_t lane = 0; lane < lanes_; ++lane) inside_[lane] = term(lane, all);
}

void Layer::pack_weights(const uint32_t* weight) {
  const uint32_t mask = tail_mask(group_channels_);
  for (const Slot& slot : slots_) {
    for (size_t i = 0; i < slot.outputs; ++i) {
      const uint32_t* from = weight + (slot.first_output + i) * window_words_;
      uint32_t* to = weights_.data() + slot.weights + i;
      for (size_t word = 0; word < window_words_; ++word) {
        to[word * slot.lanes] = from[word] & ((word + 1) % group_words_ == 0 ? mask : ~uint32_t{0});
      }
    }
  }
}

void Layer::sum_taps(const uint32_t* weight) {
  const size_t rows = sizes_.height + 1, columns = sizes_.width + 1;
  tap_sums_ = Aligned<int32_t>(checked_mul(rows * columns, lanes_, "sums of weights"));
  const uint32_t mask = tail_mask(group_channels_);
  for (const Slot& slot : slots_) {
    for (size_t i = 0; i < slot.outputs; ++i) {
      const uint32_t* words = weight + (slot.first_output + i) * window_words_;
      int32_t* sums = tap_sums_.data() + slot.first_lane + i;
      for (size_t y = 1; y < rows; ++y) {
        int32_t row = 0;
        for (size_t x = 1; x < columns; ++x) {
          int32_t set = 0;
          for (size_t word = 1; word <= group_words_; ++word) {
            set += ones(*words++ & (word == group_words_ ? mask : ~uint32_t{0}));
          }
          row += 2 * set - static_cast<int32_t>(group_channels_);
          sums[(y * columns + x) * lanes_] = sums[((y - 1) * columns + x) * lanes_] + row;
        }
      }
    }
  }
}

void Layer::read_numbers(const Creation& creation) {
  const size_t next = weight_index(form_) + 1;
  if (!form_.bits_in) {
    const Tensor thresholds = creation.needed(1, "x_threshold");
    const float* values = floats(thresholds, "x_threshold", sizes_.channels);
    for (size_t i = 0; i < sizes_.channels; ++i) {
      require(!std::isnan(values[i]), [&] {
        return "x_threshold " + std::to_string(i) + " is not a number; expected one";
      });
    }
    x_threshold_.assign(values, values + sizes_.channels);
  }
  if (form_.bits_out) {
    const Tensor threshold = creation.needed(next, "threshold");
    require(threshold.dims == Dims{static_cast<int64_t>(sizes_.outputs)}, [&] {
      return "threshold has shape " + text(threshold.dims) + "; expected [" + std::to_string(sizes_.outputs) + "]";
    });
    thresholds_ = Aligned<int32_t>(lanes_);
    std::fill(thresholds_.data(), thresholds_.data() + lanes_, kNever);
    for (const Slot& slot : slots_) {
      for (size_t i = 0; i < slot.outputs; ++i) {
        const int32_t value = threshold.as<int32_t>()[slot.first_output + i];
        thresholds_[slot.first_lane + i] = std::min(std::max(value, -kNever), kNever);
      }
    }
    return;
  }
  const Tensor scale = creation.needed(next, "scale"), bias = creation.needed(next + 1, "bias");
  const float* scales = floats(scale, "scale", sizes_.outputs);
  const float* biases = floats(bias, "bias", sizes_.outputs);
  require_finite(scales, sizes_.outputs, "scale");
  require_finite(biases, sizes_.outputs, "bias");
  scale_ = Aligned<float>(lanes_);
  bias_ = Aligned<float>(lanes_);
  for (const Slot& slot : slots_) {
    std::copy_n(scales + slot.first_output, slot.outputs, scale_.data() + slot.first_lane);
    std::copy_n(biases + slot.first_output, slot.outputs, bias_.data() + slot.first_lane);
  }
}

// `total` is what the sum would be if no bit differed. For bits: with how many differing ones the threshold is still
// reached; total - 2 * count >= threshold.
int32_t Layer::term(size_t lane, int32_t total) const {
  return form_.bits_out ? (total - thresholds_[lane]) >> 1 : total;
}

}  // namespace gr::binary
