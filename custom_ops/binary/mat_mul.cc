#include <string>

#include "binary/nodes.h"
#include "glue/rows.h"

namespace gr::binary {
namespace {

Sizes sizes_of(const Creation& creation, const Tensor& weight) {
  const int64_t channels = creation.integer("channels");
  require(channels >= 1 && channels <= INT32_MAX, [&] {
    return "channels is " + std::to_string(channels) + "; expected a positive number";
  });
  const int64_t words = words_for(channels);
  const Dims& dims = weight.dims;
  require(dims.size() == 2 && dims[0] >= 1 && dims[0] <= INT32_MAX && dims[1] == words, [&] {
    return "weight has shape " + text(dims) + "; expected [outputs, " + std::to_string(words) + "]";
  });
  Sizes sizes;
  sizes.channels = static_cast<size_t>(channels);
  sizes.outputs = static_cast<size_t>(dims[0]);
  return sizes;
}

class MatMulKernel : public Kernel {
 public:
  MatMulKernel(const Creation& creation, Form form, const Tensor& weight)
      : form_(form), sizes_(sizes_of(creation, weight)), layer_(creation, form, sizes_, weight.as<uint32_t>()) {}

  void compute(const Call& call) const override {
    const Tensor x = call.input(0);
    const size_t expected = form_.bits_in ? layer_.words() : sizes_.channels;
    require_last(x, expected);
    Dims out = x.dims;
    Placement placement;
    placement.width = Tensor{nullptr, Dims(out.begin(), out.end() - 1)}.count();
    placement.out_width = placement.width;
    placement.rows = true;
    void* y = nullptr;
    if (form_.bits_out) {
      out.back() = static_cast<int64_t>(layer_.words_out());
      y = call.output<uint32_t>(0, out);
    } else {
      out.back() = static_cast<int64_t>(sizes_.outputs);
      y = call.output<float>(0, out);
    }
    layer_.run(call, placement, x.data, y);
  }

 private:
  Form form_;
  Sizes sizes_;
  Layer layer_;
};

}  // namespace

std::unique_ptr<Kernel> make_mat_mul(const Creation& creation, Form form) {
  const Tensor weight = creation.needed(Layer::weight_index(form), "weight");
  return std::make_unique<MatMulKernel>(creation, form, weight);
}

void infer_mat_mul(const Inference& node, Form form) {
  const Inference::Sizes weight = node.input(Layer::weight_index(form));
  if (weight.size() != 2) return;
  const int64_t outputs = weight[0].value;
  infer_last(node, {outputs < 0 ? -1 : form.bits_out ? words_for(outputs) : outputs, ""});
}

}  // namespace gr::binary
