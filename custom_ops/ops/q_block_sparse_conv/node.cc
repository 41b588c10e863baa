#include <algorithm>

#include "glue/op.h"
#include "ops/q_block_sparse_conv/geometry.h"
#include "ops/q_block_sparse_conv/kernel.h"
#include "quads/blocks.h"

namespace gr::q_block_sparse_conv {
namespace {

// What fewer multiply-adds than this cost is not worth a trip to another thread: about 20 microseconds.
constexpr size_t kProductsPerPart = size_t{4} << 20;
constexpr size_t kParts = 8;
// Results before they are cut to a byte must fit into 32 bits.
constexpr double kMostSteps = 1 << 30;

template <class T>
T scalar(const Creation& creation, size_t index, const char* name) {
  const Tensor tensor = creation.needed(index, name);
  require(tensor.count() == 1, [&] { return std::string(name) + " has shape " + text(tensor.dims) + "; expected []"; });
  return *tensor.as<T>();
}

float positive(const Creation& creation, size_t index, const char* name) {
  const float value = scalar<float>(creation, index, name);
  require(value > 0 && std::isfinite(value), [&] {
    return std::string(name) + " is " + std::to_string(value) + "; expected a finite number above 0";
  });
  return value;
}

Tensor per_output(const Creation& creation, size_t index, const char* name, size_t outputs) {
  const Tensor tensor = creation.needed(index, name);
  require(tensor.rank() == 1 && tensor.count() == outputs, [&] {
    return std::string(name) + " has shape " + text(tensor.dims) + "; expected [" + std::to_string(outputs) + "]";
  });
  return tensor;
}

class QBlockSparseConv : public Kernel {
 public:
  explicit QBlockSparseConv(const Creation& creation)
      : table_(pick(creation.isa())),
        window_(creation),
        inputs_(checked_size(creation.integer("in_channels"), "in_channels")),
        outputs_(checked_size(creation.integer("out_channels"), "out_channels")),
        zero_point_(scalar<uint8_t>(creation, 2, "x_zero_point")),
        bias_(per_output(creation, 8, "bias", outputs_)),
        blocks_(creation.needed(3, "blocks"), creation.needed(4, "positions"), outputs_, inputs_, window_.taps(),
                bias_.as<int32_t>(), creation.isa()) {
    const float x_scale = positive(creation, 1, "x_scale"), y_scale = positive(creation, 6, "y_scale");
    const int16_t y_zero_point = scalar<uint8_t>(creation, 7, "y_zero_point");
    const Tensor w_scale = per_output(creation, 5, "w_scale", outputs_);
    const size_t padded = blocks_.groups() * quads::kOutputs;
    starts_.assign(padded, 0);
    scales_.assign(padded, 0.0f);
    for (size_t i = 0; i < padded; ++i) {
      starts_[i] = (i < outputs_ ? bias_.as<int32_t>()[i] : 0) - zero_point_ * blocks_.sums()[i];
    }
    for (size_t i = 0; i < outputs_; ++i) {
      scales_[i] = x_scale * w_scale.as<float>()[i] / y_scale;
      require(std::isfinite(scales_[i]), [&] {
        return "x_scale * w_scale / y_scale is " + std::to_string(scales_[i]) + " at output " + std::to_string(i) +
               "; expected a finite number";
      });
      const int64_t sum = blocks_.largest_sum(i, bias_.as<int32_t>());
      const double most = static_cast<double>(sum) * std::abs(double{scales_[i]});
      require(most < kMostSteps, [&] {
        return "output " + std::to_string(i) + " could reach " + std::to_string(most) + " steps of y, which has 256; " +
               "expected less than 2^30";
      });
    }
    for (size_t group = 0; group < blocks_.groups(); ++group) {
      groups_.push_back({blocks_.strand(group), starts_.data() + group * quads::kOutputs,
                         scales_.data() + group * quads::kOutputs, y_zero_point});
    }
  }

  void compute(const Call& call) const override {
    const Tensor x = call.input(0);
    require(x.rank() == 4 && static_cast<size_t>(x.dims[1]) == inputs_, [&] {
      return "x has shape " + text(x.dims) + "; expected [N, " + std::to_string(inputs_) + ", H, W]";
    });
    const Geometry geometry(window_, static_cast<size_t>(x.dims[2]), static_cast<size_t>(x.dims[3]), blocks_.quads(),
                            table_.pixels);
    const size_t pictures = static_cast<size_t>(x.dims[0]);
    uint8_t* y = call.output<uint8_t>(0, {x.dims[0], static_cast<int64_t>(outputs_),
                                          static_cast<int64_t>(geometry.shown_height),
                                          static_cast<int64_t>(geometry.shown_width)});
    const size_t plane = geometry.out_height * geometry.out_width;
    if (pictures == 0 || plane == 0) return;
    const uint8_t* data = x.as<uint8_t>();
    const uint8_t* end = data + x.count();
    const size_t bands = geometry.bands(), products = blocks_.count() * quads::kBlock * plane;
    const auto band_at = [&](size_t index) {
      const size_t picture = index / bands;
      Band band = geometry.band(index % bands);
      band.x = data + picture * inputs_ * geometry.height * geometry.width;
      band.x_end = end;
      band.channels = inputs_;
      band.zero_point = zero_point_;
      band.y = y + picture * outputs_ * plane + geometry.first_row(index % bands) * geometry.out_width;
      band.out_channels = outputs_;
      Scratch& scratch = Scratch::of_this_thread();
      band.halo = static_cast<uint8_t*>(scratch.take(geometry.halo_bytes()));
      band.line = static_cast<uint8_t*>(scratch.take(geometry.line_bytes()));
      band.empty = static_cast<uint8_t*>(scratch.take(geometry.width + 16));
      table_.spread(band);
      return band;
    };
    if (pictures * bands >= kParts || products < kProductsPerPart) {
      // Neighbouring bands in one part where they are small.
      const size_t most = std::max<size_t>(1, products * pictures / kProductsPerPart);
      const size_t parts = std::min(pictures * bands, most);
      call.parallel(parts, [&](size_t part) {
        for (size_t i = pictures * bands * part / parts; i < pictures * bands * (part + 1) / parts; ++i) {
          const Scratch::Scope scope(Scratch::of_this_thread());
          table_.convolve(band_at(i), groups_.data(), 0, groups_.size());
        }
      });
      return;
    }
    const size_t parts = std::min({kParts, groups_.size(), products / kProductsPerPart / bands + 1});
    for (size_t i = 0; i < pictures * bands; ++i) {
      const Scratch::Scope scope(Scratch::of_this_thread());
      const Band band = band_at(i);
      call.parallel(parts, [&](size_t part) {
        const size_t from = groups_.size() * part / parts;
        table_.convolve(band, groups_.data(), from, groups_.size() * (part + 1) / parts - from);
      });
    }
  }

 private:
  const Table& table_;
  const Window window_;
  const size_t inputs_, outputs_;
  const uint8_t zero_point_;
  const Tensor bias_;
  const quads::Blocks blocks_;
  std::vector<int32_t> starts_;
  std::vector<float> scales_;
  std::vector<Group> groups_;
};

void infer(const Inference& node) {
  const Inference::Sizes x = node.input(0);
  if (x.size() != 4) return;
  const Window window(node);
  const auto size = [](int64_t known, size_t axis, const Window& w) -> Inference::Size {
    return {known < 0 ? -1 : static_cast<int64_t>(w.outputs(axis, static_cast<size_t>(known))), ""};
  };
  node.output(0, {x[0], {node.integer("out_channels"), ""}, size(x[2].value, 0, window), size(x[3].value, 1, window)});
}

std::unique_ptr<Kernel> create(const Creation& creation) { return std::make_unique<QBlockSparseConv>(creation); }

}  // namespace

extern const Definition definition = {create, infer};

}  // namespace gr::q_block_sparse_conv
