#include <string>

#include "binary/nodes.h"

namespace gr::binary {
namespace {

constexpr int64_t kMostTaps = 63;
constexpr int64_t kMostStep = 32767;  // strides, dilations, pads

// Two or four numbers of an attribute.
std::vector<size_t> steps(const Creation& creation, const char* name, size_t count, int64_t least) {
  const std::vector<int64_t> given = creation.integers(name);
  require(given.size() == count, [&] {
    return std::string(name) + " has " + std::to_string(given.size()) + " numbers; expected " + std::to_string(count);
  });
  std::vector<size_t> sizes;
  for (const int64_t value : given) {
    require(value >= least && value <= kMostStep, [&] {
      return std::string(name) + " holds " + std::to_string(value) + "; expected " + std::to_string(least) + " to " +
             std::to_string(kMostStep);
    });
    sizes.push_back(static_cast<size_t>(value));
  }
  return sizes;
}

Sizes sizes_of(const Creation& creation, const Tensor& weight) {
  const int64_t channels = creation.integer("channels"), groups = creation.integer("group");
  require(channels >= 1 && channels <= INT32_MAX && groups >= 1 && channels % groups == 0, [&] {
    return "channels is " + std::to_string(channels) + " and group is " + std::to_string(groups) +
           "; expected a positive number of channels that the groups divide";
  });
  const int64_t words = words_for(channels / groups);
  const Dims& dims = weight.dims;
  require(dims.size() == 4 && dims[0] >= 1 && dims[0] <= INT32_MAX && dims[0] % groups == 0 && dims[1] >= 1 &&
              dims[1] <= kMostTaps && dims[2] >= 1 && dims[2] <= kMostTaps && dims[3] == words,
          [&] {
            return "weight has shape " + text(dims) + "; expected [outputs, height, width, " + std::to_string(words) +
                   "] with outputs a multiple of " + std::to_string(groups) + " and a window of at most " +
                   std::to_string(kMostTaps) + " x " + std::to_string(kMostTaps);
          });
  return {static_cast<size_t>(channels), static_cast<size_t>(groups), static_cast<size_t>(dims[0]),
          static_cast<size_t>(dims[1]), static_cast<size_t>(dims[2])};
}

// The positions of a window of `taps` in `size` + pads.
size_t positions(size_t size, size_t pads, size_t taps, size_t dilation, size_t stride, const char* axis) {
  const size_t window = (taps - 1) * dilation + 1, room = size + pads;
  require(room >= window, [&] {
    return std::string("the window is ") + std::to_string(window) + " " + axis + " but x with its pads has " +
           std::to_string(room) + "; expected at least as many";
  });
  return (room - window) / stride + 1;
}

class ConvKernel : public Kernel {
 public:
  ConvKernel(const Creation& creation, Form form, const Tensor& weight)
      : form_(form),
        sizes_(sizes_of(creation, weight)),
        strides_(steps(creation, "strides", 2, 1)),
        dilations_(steps(creation, "dilations", 2, 1)),
        pads_(steps(creation, "pads", 4, 0)),
        layer_(creation, form, sizes_, weight.as<uint32_t>()) {}

  void compute(const Call& call) const override {
    const Tensor x = call.input(0);
    const size_t channel_axis = form_.bits_in ? 3 : 1, spatial = form_.bits_in ? 1 : 2;
    const size_t expected = form_.bits_in ? layer_.words() : sizes_.channels;
    require(x.rank() == 4 && x.dims[channel_axis] == static_cast<int64_t>(expected), [&] {
      return "x has shape " + text(x.dims) + "; expected " +
             (form_.bits_in ? "[N, H, W, " + std::to_string(expected) + "]"
                            : "[N, " + std::to_string(expected) + ", H, W]");
    });
    Placement placement;
    placement.images = checked_size(x.dims[0], "the batch");
    placement.height = checked_size(x.dims[spatial], "the height of x");
    placement.width = checked_size(x.dims[spatial + 1], "the width of x");
    placement.stride_y = strides_[0];
    placement.stride_x = strides_[1];
    placement.dilation_y = dilations_[0];
    placement.dilation_x = dilations_[1];
    placement.pad_top = pads_[0];
    placement.pad_left = pads_[1];
    placement.padded = pads_[0] + pads_[1] + pads_[2] + pads_[3] > 0;
    placement.out_height =
        positions(placement.height, pads_[0] + pads_[2], sizes_.height, dilations_[0], strides_[0], "rows high");
    placement.out_width =
        positions(placement.width, pads_[1] + pads_[3], sizes_.width, dilations_[1], strides_[1], "columns wide");
    const auto images = static_cast<int64_t>(placement.images), rows = static_cast<int64_t>(placement.out_height),
               columns = static_cast<int64_t>(placement.out_width);
    void* y = nullptr;
    if (form_.bits_out) {
      y = call.output<uint32_t>(0, {images, rows, columns, static_cast<int64_t>(layer_.words_out())});
    } else {
      y = call.output<float>(0, {images, static_cast<int64_t>(sizes_.outputs), rows, columns});
    }
    layer_.run(call, placement, x.data, y);
  }

 private:
  Form form_;
  Sizes sizes_;
  std::vector<size_t> strides_, dilations_, pads_;
  Layer layer_;
};

}  // namespace

std::unique_ptr<Kernel> make_conv(const Creation& creation, Form form) {
  const Tensor weight = creation.needed(Layer::weight_index(form), "weight");
  return std::make_unique<ConvKernel>(creation, form, weight);
}

void infer_conv(const Inference& node, Form form) {
  const Inference::Sizes x = node.input(0), weight = node.input(Layer::weight_index(form));
  if (x.size() != 4 || weight.size() != 4) return;
  const std::vector<int64_t> strides = node.integers("strides"), dilations = node.integers("dilations"),
                             pads = node.integers("pads");
  if (strides.size() != 2 || dilations.size() != 2 || pads.size() != 4) return;
  const auto size = [&](size_t axis) -> Inference::Size {
    const int64_t given = x[axis + (form.bits_in ? 1 : 2)].value, taps = weight[axis + 1].value;
    // What a kernel would refuse has no size; nothing was checked yet, and numbers may be as large as they like.
    const auto within = [](int64_t value, int64_t least, int64_t most) { return value >= least && value <= most; };
    if (!within(given, 0, INT32_MAX) || !within(taps, 1, kMostTaps) || !within(strides[axis], 1, kMostStep) ||
        !within(dilations[axis], 1, kMostStep) || !within(pads[axis], 0, kMostStep) ||
        !within(pads[axis + 2], 0, kMostStep)) {
      return {};
    }
    const int64_t room = given + pads[axis] + pads[axis + 2] - (taps - 1) * dilations[axis] - 1;
    return {room < 0 ? -1 : room / strides[axis] + 1, ""};
  };
  const Inference::Size outputs = weight[0];
  if (form.bits_out) {
    node.output(0, {x[0], size(0), size(1), {outputs.value < 0 ? -1 : words_for(outputs.value), ""}});
  } else {
    node.output(0, {x[0], outputs, size(0), size(1)});
  }
}

}  // namespace gr::binary
