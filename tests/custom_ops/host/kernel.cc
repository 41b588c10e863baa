#include "kernel.h"

#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace host {

namespace {

[[noreturn]] void give_up(const std::string& text) {
  std::fprintf(stderr, "host: %s\n", text.c_str());
  std::exit(2);
}

Refused taken(Status* status) {
  if (status == nullptr) return std::nullopt;
  Refused text = status->text;
  delete status;
  return text;
}

}  // namespace

Library::Library(const std::string& path, uint32_t api_version) : api_version_(api_version) {
  void* handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) give_up(dlerror());
  using Register = Status* (*)(SessionOptions*, const ApiBase*);
  const auto enter = reinterpret_cast<Register>(dlsym(handle, "RegisterCustomOps"));
  if (enter == nullptr) give_up(path + " exports no RegisterCustomOps");
  if (const Refused why = taken(enter(&options_, api_base(api_version)))) give_up(*why);
}

const Op* Library::find(const std::string& name) const {
  for (const Domain* domain : options_.domains) {
    for (const Op* op : domain->ops) {
      if (name == op->name(op)) return op;
    }
  }
  return nullptr;
}

std::vector<std::string> Library::names() const {
  std::vector<std::string> all;
  for (const Domain* domain : options_.domains) {
    for (const Op* op : domain->ops) all.emplace_back(op->name(op));
  }
  return all;
}

Inputs place(const std::vector<Tensor>& tensors, size_t shift) {
  Inputs inputs;
  for (const Tensor& tensor : tensors) {
    const size_t width = element_size(tensor.type);
    if (width == 0) give_up("the host carries no element type " + std::to_string(tensor.type));
    const size_t off = (shift + width - 1) / width * width;
    inputs.values.push_back(Value{{tensor.type, tensor.dims, {}}, Block(tensor.bytes.size(), off)});
    if (!tensor.bytes.empty()) {
      std::memcpy(inputs.values.back().block.data(), tensor.bytes.data(), tensor.bytes.size());
    }
    inputs.constant.push_back(tensor.constant);
  }
  return inputs;
}

Kernel::Kernel(const Library& library, const Op& op, const std::string& node,
               const std::map<std::string, Attribute>& attributes, const Inputs& inputs)
    : op_(op) {
  // Everything but the inputs' constants dies with this call, as in a session: a kernel that keeps a pointer is caught.
  const KernelInfo info{node, attributes, &inputs, op.output_count(&op)};
  const void* table = api(library.api_version());
  if (op.version >= 16 && op.create_v2 != nullptr) {
    refused_ = taken(op.create_v2(&op, table, &info, &kernel_));
    if (!refused_ && kernel_ == nullptr) refused_ = "creation gave neither a kernel nor an error";
  } else {
    kernel_ = op.create(&op, table, &info);
  }
}

Kernel::~Kernel() {
  if (kernel_ != nullptr) op_.destroy(kernel_);
}

Refused Kernel::run(Context& context) const {
  if (op_.version >= 16 && op_.compute_v2 != nullptr) return taken(op_.compute_v2(kernel_, &context));
  op_.compute(kernel_, &context);
  return std::nullopt;
}

Context call(const Op& op, const Inputs& inputs, size_t threads) {
  Context context;
  context.inputs = &inputs;
  context.threads = threads;
  context.outputs.resize(op.output_count(&op));
  for (size_t k = 0; k < context.outputs.size(); ++k) context.output_types.push_back(op.output_type(&op, k));
  return context;
}

Refused infer(const Op& op, const std::map<std::string, Attribute>& attributes, const std::vector<Tensor>& inputs,
              std::vector<std::unique_ptr<TypeShape>>& outputs) {
  outputs.clear();
  if (op.version < 17 || op.infer == nullptr) return "the op infers no shapes";
  ShapeContext context;
  context.attributes = attributes;
  for (const Tensor& tensor : inputs) {
    TypeShape shape{tensor.type, tensor.dims, {}};
    for (const int64_t dim : tensor.dims) shape.symbols.push_back(dim < 0 ? "some" + std::to_string(-dim) : "");
    for (int64_t& dim : shape.dims) dim = dim < 0 ? -1 : dim;
    context.inputs.push_back(std::move(shape));
  }
  context.outputs.resize(op.output_count(&op));
  Refused refused = taken(op.infer(&op, &context));
  outputs = std::move(context.outputs);
  return refused;
}

}  // namespace host
