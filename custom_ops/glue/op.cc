#include "glue/op.h"

#include <algorithm>

namespace gr {
namespace {

// A status of theirs is ours to release; its text is theirs, and says less than the message we put in its place.
void demand(const ort::Api& api, ort::Status* status, const char* what, const char* name = "") {
  if (status == nullptr) return;
  api.release_status(status);
  throw Error(std::string(what) + (*name != '\0' ? " '" + std::string(name) + "'" : "") +
              " cannot be read; expected a node as graphrewrite writes it, with every input and attribute present");
}

class OwnedInfo {
 public:
  OwnedInfo(const ort::Api& api, const ort::Value* value) : api_(api) {
    demand(api, api.tensor_info(value, &info_), "a tensor's shape");
  }
  ~OwnedInfo() { api_.release_tensor_info(info_); }
  OwnedInfo(const OwnedInfo&) = delete;
  OwnedInfo& operator=(const OwnedInfo&) = delete;

  Dims dims() const {
    size_t rank = 0;
    demand(api_, api_.get_rank(info_, &rank), "a tensor's rank");
    Dims dims(rank);
    demand(api_, api_.get_dims(info_, dims.data(), rank), "a tensor's sizes");
    return dims;
  }

 private:
  const ort::Api& api_;
  ort::TensorInfo* info_ = nullptr;
};

Tensor view(const ort::Api& api, const ort::Value* value) {
  Tensor tensor;
  tensor.dims = OwnedInfo(api, value).dims();
  void* data = nullptr;
  demand(api, api.tensor_data(const_cast<ort::Value*>(value), &data), "a tensor's data");
  tensor.data = data;
  return tensor;
}

}  // namespace

std::string text(const Dims& dims) {
  std::string joined = "[";
  for (size_t i = 0; i < dims.size(); ++i) joined += (i == 0 ? "" : ", ") + std::to_string(dims[i]);
  return joined + "]";
}

size_t Tensor::count() const {
  size_t product = 1;
  for (const int64_t dim : dims) product = checked_mul(product, checked_size(dim, "a size", INT64_MAX), "a tensor");
  return product;
}

int64_t Creation::integer(const char* name) const {
  int64_t value = 0;
  demand(api_, api_.attribute_int(info_, name, &value), "attribute", name);
  return value;
}

float Creation::real(const char* name) const {
  float value = 0;
  demand(api_, api_.attribute_float(info_, name, &value), "attribute", name);
  return value;
}

std::string Creation::string(const char* name) const {
  size_t size = 0;
  demand(api_, api_.attribute_string(info_, name, nullptr, &size), "attribute", name);
  std::string value(size, '\0');
  demand(api_, api_.attribute_string(info_, name, value.data(), &size), "attribute", name);
  value.resize(size > 0 ? size - 1 : 0);  // the size counts the zero at the end
  return value;
}

std::vector<int64_t> Creation::integers(const char* name) const {
  size_t size = 0;
  demand(api_, api_.attribute_ints(info_, name, nullptr, &size), "attribute", name);
  std::vector<int64_t> values(size);
  if (size > 0) demand(api_, api_.attribute_ints(info_, name, values.data(), &size), "attribute", name);
  return values;
}

std::vector<float> Creation::reals(const char* name) const {
  size_t size = 0;
  demand(api_, api_.attribute_floats(info_, name, nullptr, &size), "attribute", name);
  std::vector<float> values(size);
  if (size > 0) demand(api_, api_.attribute_floats(info_, name, values.data(), &size), "attribute", name);
  return values;
}

std::unique_ptr<Tensor> Creation::constant(size_t index) const {
  int is_constant = 0;
  const ort::Value* value = nullptr;
  demand(api_, api_.constant_input(info_, index, &is_constant, &value), "an input");
  if (is_constant == 0 || value == nullptr) return nullptr;
  return std::make_unique<Tensor>(view(api_, value));
}

Tensor Creation::needed(size_t index, const char* name) const {
  const std::unique_ptr<Tensor> found = constant(index);
  if (found == nullptr) {
    throw Error("input '" + std::string(name) + "' is computed at run time; expected an initializer, which the kernel " +
                "can check and pack once");
  }
  return *found;
}

Tensor Call::input(size_t index) const {
  const ort::Value* value = nullptr;
  demand(api_, api_.input(context_, index, &value), "an input");
  if (value == nullptr) throw Error("input " + std::to_string(index) + " is absent; every input must be given");
  return view(api_, value);
}

void* Call::output_data(size_t index, const Dims& dims) const {
  ort::Value* value = nullptr;
  demand(api_, api_.output(context_, index, dims.data(), dims.size(), &value), "an output");
  void* data = nullptr;
  demand(api_, api_.tensor_data(value, &data), "an output's data");
  return data;
}

void Call::run_parts(size_t count, void(GR_ORT_CALL* part)(void*, size_t), void* user) const {
  demand(api_, api_.parallel_for(context_, part, count, 0, user), "the thread pool");
}

Inference::Sizes Inference::input(size_t index) const {
  ort::TensorInfo* info = nullptr;
  ort::Status* status = api_.infer_input(context_, index, &info);
  if (status != nullptr) {
    api_.release_status(status);
    return {};
  }
  size_t rank = 0;
  demand(api_, api_.get_rank(info, &rank), "an input's rank");
  Dims dims(rank);
  std::vector<const char*> symbols(rank, nullptr);
  demand(api_, api_.get_dims(info, dims.data(), rank), "an input's sizes");
  demand(api_, api_.get_symbols(info, symbols.data(), rank), "an input's symbols");
  Sizes sizes(rank);
  for (size_t i = 0; i < rank; ++i) sizes[i] = {dims[i], symbols[i] == nullptr ? "" : symbols[i]};
  return sizes;
}

const ort::OpAttribute* Inference::attribute(const char* name) const {
  const ort::OpAttribute* found = nullptr;
  demand(api_, api_.infer_attribute(context_, name, &found), "attribute", name);
  return found;
}

int64_t Inference::integer(const char* name) const {
  int64_t value = 0;
  size_t needed = 0;
  demand(api_, api_.read_attribute(attribute(name), ort::AttributeKind::integer, &value, sizeof value, &needed),
         "attribute", name);
  return value;
}

std::vector<int64_t> Inference::integers(const char* name) const {
  const ort::OpAttribute* found = attribute(name);
  size_t needed = 0;
  // Too short a buffer is answered with a status and the size; no attribute of ours is longer than this one.
  std::vector<int64_t> values(64);
  demand(api_,
         api_.read_attribute(found, ort::AttributeKind::integers, values.data(), values.size() * sizeof(int64_t), &needed),
         "attribute", name);
  values.resize(std::min(values.size(), needed / sizeof(int64_t)));
  return values;
}

void Inference::output(size_t index, const Sizes& sizes) const {
  // onnxruntime takes a size that is neither known nor named for the number -1, and then finds it contradicted.
  for (const Size& size : sizes) {
    if (size.value < 0 && size.symbol.empty()) return;
  }
  ort::TensorInfo* info = nullptr;
  demand(api_, api_.create_tensor_info(&info), "an output's shape");
  Dims dims;
  std::vector<const char*> symbols;
  for (const Size& size : sizes) {
    dims.push_back(size.value);
    symbols.push_back(size.symbol.c_str());
  }
  ort::Status* failed = api_.set_element(info, spec_.outputs[index].element);
  if (failed == nullptr) failed = api_.set_dims(info, dims.data(), dims.size());
  if (failed == nullptr) failed = api_.set_symbols(info, symbols.data(), symbols.size());
  if (failed == nullptr) failed = api_.infer_output(context_, index, info);
  api_.release_tensor_info(info);
  demand(api_, failed, "an output's shape");
}

}  // namespace gr
