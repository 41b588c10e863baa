// The library's only export, and how our operators look to onnxruntime.
#include <algorithm>
#include <climits>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "glue/op.h"
#include "op_specs.h"

#if defined(_WIN32)
#define GR_EXPORT extern "C" __declspec(dllexport)
#else
#define GR_EXPORT extern "C" __attribute__((visibility("default")))
#endif

// Every operator's node.cc defines this.
#define GR_DECLARE(op)               \
  namespace gr::op {                 \
  extern const Definition definition; \
  }
GR_EACH_OP(GR_DECLARE)
#undef GR_DECLARE

namespace gr {
namespace {

// One operator for one copy of onnxruntime: a process may hold two, each with a table of its own.
struct Op : ort::CustomOp {
  Op(const ort::Api& api, const OpSpec& spec, const Definition& definition, uint32_t api_version);

  const ort::Api& api;
  const OpSpec& spec;
  const Definition& definition;
};

// A kernel and what its border needs: whose functions to call, and how to name the node in a message.
struct Instance {
  const ort::Api& api;
  std::string node;
  std::unique_ptr<Kernel> kernel;
};

const Op& op_of(const ort::CustomOp* op) { return *static_cast<const Op*>(op); }

// Runs `work` and turns whatever it throws into a status: no exception may cross the border.
template <class Work>
ort::Status* guarded(const ort::Api& api, const std::string& node, const Work& work) {
  try {
    work();
    return nullptr;
  } catch (const Error& error) {
    return api.create_status(ort::Code::invalid_argument, (node + ": " + error.what()).c_str());
  } catch (const std::bad_alloc&) {
    const char* what = ": there is not enough memory for its weights or its working space";
    return api.create_status(ort::Code::fail, (node + what).c_str());
  } catch (const std::exception& error) {
    return api.create_status(ort::Code::fail, (node + ": " + error.what()).c_str());
  }
}

std::string described(const Op& op, const ort::KernelInfo* info) {
  std::string name;
  size_t size = 0;
  ort::Status* failed = op.api.node_name(info, nullptr, &size);  // only tells the size
  if (failed == nullptr) {
    name.resize(size);
    failed = op.api.node_name(info, name.data(), &size);
  }
  if (failed != nullptr) {
    op.api.release_status(failed);
    size = 0;
  }
  name.resize(size > 0 ? size - 1 : 0);
  return std::string(op.spec.name) + " node '" + name + "'";
}

ort::Status* GR_ORT_CALL create_kernel(const ort::CustomOp* self, const void*, const ort::KernelInfo* info, void** out) {
  const Op& op = op_of(self);
  *out = nullptr;
  const std::string node = described(op, info);
  return guarded(op.api, node, [&] {
    auto instance = std::make_unique<Instance>(Instance{op.api, node, nullptr});
    instance->kernel = op.definition.create(Creation(op.api, info, chosen_isa()));
    *out = instance.release();
  });
}

ort::Status* GR_ORT_CALL compute(void* kernel, ort::KernelContext* context) {
  const Instance& instance = *static_cast<const Instance*>(kernel);
  return guarded(instance.api, instance.node, [&] {
    const Scratch::Scope scope(Scratch::of_this_thread());
    instance.kernel->compute(Call(instance.api, context));
  });
}

ort::Status* GR_ORT_CALL infer(const ort::CustomOp* self, ort::ShapeContext* context) {
  const Op& op = op_of(self);
  return guarded(op.api, op.spec.name, [&] {
    if (op.definition.infer != nullptr) op.definition.infer(Inference(op.api, context, op.spec));
  });
}

Op::Op(const ort::Api& api, const OpSpec& spec, const Definition& definition, uint32_t api_version)
    : ort::CustomOp{}, api(api), spec(spec), definition(definition) {
  version = api_version;
  ort::CustomOp::name = [](const ort::CustomOp* self) { return op_of(self).spec.name; };
  provider = [](const ort::CustomOp*) -> const char* { return nullptr; };  // the processor
  input_type = [](const ort::CustomOp* self, size_t i) { return op_of(self).spec.inputs[i].element; };
  inputs = [](const ort::CustomOp* self) { return op_of(self).spec.input_count; };
  output_type = [](const ort::CustomOp* self, size_t i) { return op_of(self).spec.outputs[i].element; };
  outputs = [](const ort::CustomOp* self) { return op_of(self).spec.output_count; };
  destroy = [](void* kernel) { delete static_cast<Instance*>(kernel); };
  const auto zero_at = [](const ort::CustomOp*, size_t) { return 0; };  // required; the default memory
  input_kind = zero_at;
  output_kind = zero_at;
  input_memory = zero_at;
  const auto one = [](const ort::CustomOp*) { return 1; };
  variadic_inputs_least = one;
  variadic_inputs_alike = one;
  variadic_outputs_least = one;
  variadic_outputs_alike = one;
  ort::CustomOp::create_kernel = gr::create_kernel;
  ort::CustomOp::compute = gr::compute;
  ort::CustomOp::infer = gr::infer;
  first_version = [](const ort::CustomOp* self) { return op_of(self).spec.since; };
  last_version = [](const ort::CustomOp*) { return INT_MAX; };
}

// All operators for one copy of onnxruntime. Sessions refer to it as long as they live, and nobody tells us when the
// last one ends, so it is never destroyed.
struct Library {
  explicit Library(const void* const* table) : api(table) {}

  ort::Api api;
  ort::OpDomain* domain = nullptr;
  std::vector<std::unique_ptr<Op>> ops;
};

ort::Status* make(const void* const* table, uint32_t version, Library** out) {
  auto library = std::make_unique<Library>(table);
  ort::Status* failed = library->api.create_domain("graphrewrite", &library->domain);
  const auto add = [&](const OpSpec& spec, const Definition& definition) {
    if (failed != nullptr) return;
    library->ops.push_back(std::make_unique<Op>(library->api, spec, definition, version));
    failed = library->api.domain_add(library->domain, library->ops.back().get());
  };
#define GR_ADD(op) add(specs::op, op::definition);
  GR_EACH_OP(GR_ADD)
#undef GR_ADD
  if (failed == nullptr) *out = library.release();
  return failed;
}

ort::Status* library_for(const void* const* table, uint32_t version, Library** out) {
  static std::mutex guard;
  static auto& made = *new std::map<const void*, Library*>();
  const std::lock_guard<std::mutex> lock(guard);
  const auto found = made.find(table);
  if (found != made.end()) {
    *out = found->second;
    return nullptr;
  }
  ort::Status* failed = make(table, version, out);
  if (failed == nullptr) made.emplace(table, *out);
  return failed;
}

// 23 for "1.23.2", which is also the version of that release's table; 0 for what does not look like a release.
uint32_t minor_release(const std::string& release) {
  const size_t dot = release.find('.');
  return dot == std::string::npos ? 0 : static_cast<uint32_t>(std::strtoul(release.c_str() + dot + 1, nullptr, 10));
}

}  // namespace
}  // namespace gr

GR_EXPORT gr::ort::Status* GR_ORT_CALL RegisterCustomOps(gr::ort::SessionOptions* options,
                                                         const gr::ort::ApiBase* base) {
  using namespace gr;
  // Asking for a version that is not there would print a complaint on the user's terminal.
  const uint32_t version = std::min(minor_release(base->version_text()), ort::kNewestVersion);
  const void* const* table = version < ort::kOldestVersion ? nullptr : base->table(version);
  if (table == nullptr) {
    const void* const* oldest = base->table(1);
    if (oldest == nullptr) return nullptr;  // not an onnxruntime we could even tell
    const std::string text = std::string("graphrewrite's operators need onnxruntime 1.17 or newer, this is ") +
                             base->version_text() + "; update it, or run the model without the library";
    return ort::Api(oldest).create_status(ort::Code::not_implemented, text.c_str());
  }
  try {
    Library* library = nullptr;
    if (ort::Status* failed = library_for(table, version, &library)) return failed;
    return library->api.add_domain(options, library->domain);
  } catch (const std::exception& error) {
    return ort::Api(table).create_status(ort::Code::fail, error.what());
  }
}
