// The function table: slots by number, each a few lines. Numbers and signatures are onnxruntime's interface.
#include "runtime.h"

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <utility>

namespace host {

namespace {

constexpr size_t kSlots = 400;
// A kernel is created from a case of at most a few megabytes; what asks for more believed a number it should not have.
constexpr size_t kMostElements = size_t{1} << 28;

Status* fail(int code, std::string text) { return new Status{code, std::move(text)}; }
constexpr int kFail = 1, kInvalidArgument = 2;

std::atomic<size_t> splits{0};

template <size_t N>
void* missing() {
  std::fprintf(stderr, "host: slot %zu was called and is not implemented\n", N);
  std::abort();
}

template <size_t... N>
void fill(void** table, std::index_sequence<N...>) {
  ((table[N] = reinterpret_cast<void*>(&missing<N>)), ...);
}

// onnxruntime's two-step protocol: without a buffer tell the size, with one too small refuse and tell the size.
template <class T>
Status* hand_over(const T* from, size_t count, T* out, size_t* size) {
  const size_t room = *size;
  *size = count;
  if (out == nullptr) return nullptr;
  if (room < count) return fail(kInvalidArgument, "the buffer is too small");
  for (size_t k = 0; k < count; ++k) out[k] = from[k];
  return nullptr;
}

const Attribute* find(const std::map<std::string, Attribute>& all, const char* name, Attribute::Kind kind) {
  const auto at = all.find(name);
  return at == all.end() || at->second.kind != kind ? nullptr : &at->second;
}

Status* no_attribute(const char* name) {
  return fail(kFail, std::string("no attribute of that name and kind: ") + name);
}

// -- status, domains ------------------------------------------------------------------------------------------------
Status* create_status(int code, const char* text) { return fail(code, text); }
int error_code(const Status* status) { return status->code; }
const char* error_message(const Status* status) { return status->text.c_str(); }
void release_status(Status* status) { delete status; }

Status* create_domain(const char* name, Domain** out) {
  *out = new Domain{name, {}};
  return nullptr;
}
Status* domain_add(Domain* domain, const Op* op) {
  domain->ops.push_back(op);
  return nullptr;
}
Status* add_domain(SessionOptions* options, Domain* domain) {
  options->domains.push_back(domain);
  return nullptr;
}
void release_domain(Domain* domain) { delete domain; }

// -- tensors --------------------------------------------------------------------------------------------------------
Status* mutable_data(Value* value, void** out) {
  *out = value->block.data();
  return nullptr;
}
Status* as_tensor_info(const TypeShape* info, const TypeShape** out) {
  *out = info;
  return nullptr;
}
Status* create_type_shape(TypeShape** out) {
  *out = new TypeShape;
  return nullptr;
}
Status* set_element_type(TypeShape* info, int32_t type) {
  info->type = type;
  return nullptr;
}
Status* set_dims(TypeShape* info, const int64_t* dims, size_t count) {
  info->dims.assign(dims, dims + count);
  info->symbols.assign(count, "");
  return nullptr;
}
Status* get_element_type(const TypeShape* info, int32_t* out) {
  *out = info->type;
  return nullptr;
}
Status* dims_count(const TypeShape* info, size_t* out) {
  *out = info->dims.size();
  return nullptr;
}
Status* get_dims(const TypeShape* info, int64_t* out, size_t room) {
  for (size_t k = 0; k < info->dims.size() && k < room; ++k) out[k] = info->dims[k];
  return nullptr;
}
Status* get_symbols(const TypeShape* info, const char** out, size_t room) {
  for (size_t k = 0; k < info->dims.size() && k < room; ++k) {
    out[k] = k < info->symbols.size() ? info->symbols[k].c_str() : "";
  }
  return nullptr;
}
Status* set_symbols(TypeShape* info, const char** symbols, size_t count) {
  info->symbols.assign(count, "");
  for (size_t k = 0; k < count; ++k) info->symbols[k] = symbols[k] == nullptr ? "" : symbols[k];
  return nullptr;
}
Status* shape_elements(const TypeShape* info, size_t* out) {
  return element_count(info->dims, kMostElements, out) ? nullptr : fail(kInvalidArgument, "sizes without a product");
}
Status* type_shape_of(const Value* value, TypeShape** out) {
  *out = new TypeShape(value->shape);
  return nullptr;
}
Status* type_info_shape(const Value* value, TypeShape** out) { return type_shape_of(value, out); }
void release_type_shape(TypeShape* info) { delete info; }
Status* cpu_memory(int, int, void** out) {
  *out = new int(0);
  return nullptr;
}
void release_memory(void* info) { delete static_cast<int*>(info); }

// -- what a kernel is created from ----------------------------------------------------------------------------------
Status* attribute_float(const KernelInfo* info, const char* name, float* out) {
  const Attribute* found = find(info->attributes, name, Attribute::Float);
  if (found == nullptr) return no_attribute(name);
  *out = found->f;
  return nullptr;
}
Status* attribute_int(const KernelInfo* info, const char* name, int64_t* out) {
  const Attribute* found = find(info->attributes, name, Attribute::Int);
  if (found == nullptr) return no_attribute(name);
  *out = found->i;
  return nullptr;
}
Status* attribute_text(const KernelInfo* info, const char* name, char* out, size_t* size) {
  const Attribute* found = find(info->attributes, name, Attribute::Text);
  if (found == nullptr) return no_attribute(name);
  return hand_over(found->text.c_str(), found->text.size() + 1, out, size);
}
Status* attribute_floats(const KernelInfo* info, const char* name, float* out, size_t* size) {
  const Attribute* found = find(info->attributes, name, Attribute::Floats);
  return found == nullptr ? no_attribute(name) : hand_over(found->floats.data(), found->floats.size(), out, size);
}
Status* attribute_ints(const KernelInfo* info, const char* name, int64_t* out, size_t* size) {
  const Attribute* found = find(info->attributes, name, Attribute::Ints);
  return found == nullptr ? no_attribute(name) : hand_over(found->ints.data(), found->ints.size(), out, size);
}
Status* info_inputs(const KernelInfo* info, size_t* out) {
  *out = info->inputs->values.size();
  return nullptr;
}
Status* info_outputs(const KernelInfo* info, size_t* out) {
  *out = info->outputs;
  return nullptr;
}
Status* info_input_type(const KernelInfo* info, size_t index, TypeShape** out) {
  if (index >= info->inputs->values.size()) return fail(kInvalidArgument, "no such input");
  return type_info_shape(&info->inputs->values[index], out);
}
Status* info_node_name(const KernelInfo* info, char* out, size_t* size) {
  return hand_over(info->node.c_str(), info->node.size() + 1, out, size);
}
Status* info_constant(const KernelInfo* info, size_t index, int* is_constant, const Value** out) {
  if (index >= info->inputs->values.size()) return fail(kInvalidArgument, "no such input");
  *is_constant = info->inputs->constant[index] ? 1 : 0;
  *out = info->inputs->constant[index] ? &info->inputs->values[index] : nullptr;
  return nullptr;
}

// -- one call -------------------------------------------------------------------------------------------------------
Status* context_inputs(const Context* context, size_t* out) {
  *out = context->inputs->values.size();
  return nullptr;
}
Status* context_outputs(const Context* context, size_t* out) {
  *out = context->outputs.size();
  return nullptr;
}
Status* context_input(const Context* context, size_t index, const Value** out) {
  if (index >= context->inputs->values.size()) return fail(kInvalidArgument, "no such input");
  *out = &context->inputs->values[index];
  return nullptr;
}
Status* context_output(Context* context, size_t index, const int64_t* dims, size_t count, Value** out) {
  if (index >= context->outputs.size()) return fail(kInvalidArgument, "no such output");
  auto& slot = context->outputs[index];
  if (slot == nullptr) {
    const std::vector<int64_t> sizes(dims, dims + count);
    const size_t width = element_size(context->output_types[index]);
    size_t elements = 0;
    if (width == 0 || !element_count(sizes, context->most_bytes / width, &elements)) {
      return fail(kFail, "no memory for an output of that shape");
    }
    slot.reset(new Value{{context->output_types[index], sizes, {}}, Block(elements * width, 0)});
    if (elements != 0) std::memset(slot->block.data(), 0xFF, elements * width);  // as floats: not a number
  }
  *out = slot.get();
  return nullptr;
}
Status* parallel_for(const Context* context, void (*work)(void*, size_t), size_t total, size_t, void* user) {
  const size_t threads = total < context->threads ? total : context->threads;
  if (threads <= 1) {
    for (size_t k = 0; k < total; ++k) work(user, k);
    return nullptr;
  }
  ++splits;
  // Dealt out in turn rather than taken: a thread that starts late must not find all work done, or no race is seen.
  const auto loop = [&](size_t first) {
    for (size_t k = first; k < total; k += threads) work(user, k);
  };
  std::vector<std::thread> helpers;
  for (size_t k = 1; k < threads; ++k) helpers.emplace_back(loop, k);
  loop(0);
  for (auto& helper : helpers) helper.join();
  return nullptr;
}
Status* scratch(const Context* context, const void*, size_t bytes, void** out) {
  if (bytes > context->most_bytes) return fail(kFail, "no memory for scratch of that size");
  auto& blocks = const_cast<Context*>(context)->scratch;
  blocks.emplace_back(bytes, 0);
  if (bytes != 0) std::memset(blocks.back().data(), 0xFF, bytes);
  *out = blocks.back().data();
  return nullptr;
}

// -- shape inference ------------------------------------------------------------------------------------------------
Status* shape_inputs(const ShapeContext* context, size_t* out) {
  *out = context->inputs.size();
  return nullptr;
}
Status* shape_input(const ShapeContext* context, size_t index, const TypeShape** out) {
  if (index >= context->inputs.size()) return fail(kInvalidArgument, "no such input");
  *out = &context->inputs[index];
  return nullptr;
}
Status* shape_attribute(const ShapeContext* context, const char* name, const Attribute** out) {
  const auto at = context->attributes.find(name);
  if (at == context->attributes.end()) return no_attribute(name);
  *out = &at->second;
  return nullptr;
}
Status* shape_output(const ShapeContext* context, size_t index, const TypeShape* info) {
  if (index >= context->outputs.size()) return fail(kInvalidArgument, "no such output");
  auto& outputs = const_cast<ShapeContext*>(context)->outputs;
  outputs[index] = std::make_unique<TypeShape>(*info);
  return nullptr;
}
Status* read_attribute(const Attribute* attribute, int kind, void* data, size_t room, size_t* out) {
  static constexpr Attribute::Kind kinds[] = {Attribute::Int, Attribute::Int, Attribute::Ints, Attribute::Float,
                                              Attribute::Floats, Attribute::Text};
  if (kind < 1 || kind > 5 || attribute->kind != kinds[kind]) return fail(kFail, "attribute of another kind");
  const void* from = nullptr;
  size_t bytes = 0;
  switch (attribute->kind) {
    case Attribute::Int: from = &attribute->i, bytes = sizeof(int64_t); break;
    case Attribute::Float: from = &attribute->f, bytes = sizeof(float); break;
    case Attribute::Ints: from = attribute->ints.data(), bytes = 8 * attribute->ints.size(); break;
    case Attribute::Floats: from = attribute->floats.data(), bytes = 4 * attribute->floats.size(); break;
    case Attribute::Text: from = attribute->text.data(), bytes = attribute->text.size(); break;
  }
  *out = bytes;
  if (room < bytes) return fail(kFail, "the buffer is too small");
  if (bytes != 0) std::memcpy(data, from, bytes);
  return nullptr;
}

struct Table {
  void* slot[kSlots];

  template <class F>
  void set(size_t number, F* function) {
    slot[number] = reinterpret_cast<void*>(function);
  }

  Table() {
    fill(slot, std::make_index_sequence<kSlots>{});
    set(0, create_status), set(1, error_code), set(2, error_message), set(93, release_status);
    set(26, create_domain), set(27, domain_add), set(28, add_domain), set(101, release_domain);
    set(51, mutable_data), set(55, as_tensor_info), set(57, create_type_shape), set(58, set_element_type);
    set(59, set_dims), set(60, get_element_type), set(61, dims_count), set(62, get_dims), set(63, get_symbols);
    set(64, shape_elements), set(65, type_shape_of), set(98, release_type_shape), set(99, release_type_shape);
    set(69, cpu_memory), set(94, release_memory);
    set(85, attribute_float), set(86, attribute_int), set(87, attribute_text);
    set(162, attribute_floats), set(163, attribute_ints);
    set(88, context_inputs), set(89, context_outputs), set(90, context_input), set(91, context_output);
    set(230, info_inputs), set(231, info_outputs), set(234, info_input_type), set(244, info_node_name);
    set(249, info_constant);
    set(267, shape_inputs), set(268, shape_input), set(269, shape_attribute), set(270, shape_output);
    set(271, set_symbols), set(272, read_attribute);
    set(274, parallel_for), set(277, scratch);
  }
};

uint32_t served_version = 18;

const void* get_api(uint32_t version) { return version >= 1 && version <= served_version ? api(version) : nullptr; }

const char* version_text() {
  static const std::string text = "1." + std::to_string(served_version) + ".0";
  return text.c_str();
}

}  // namespace

Block::Block(size_t size, size_t shift, size_t alignment) : size_(size) {
  void* memory = nullptr;
  if (posix_memalign(&memory, alignment, size + shift) != 0) std::abort();
  memory_.reset(static_cast<uint8_t*>(memory));
  start_ = memory_.get() + shift;
}

void Block::Free::operator()(uint8_t* p) const { std::free(p); }

size_t element_size(int32_t type) {
  switch (type) {
    case 2: case 3: case 9: return 1;             // uint8, int8, bool
    case 4: case 5: case 10: case 16: return 2;   // uint16, int16, float16, bfloat16
    case 1: case 6: case 12: return 4;            // float, int32, uint32
    case 7: case 11: case 13: return 8;           // int64, double, uint64
    default: return 0;
  }
}

bool element_count(const std::vector<int64_t>& dims, size_t limit, size_t* count) {
  size_t product = 1;
  bool empty = false;
  for (const int64_t dim : dims) {
    if (dim < 0) return false;
    empty = empty || dim == 0;
  }
  for (const int64_t dim : dims) {
    if (empty) break;
    if (static_cast<size_t>(dim) > limit / product) return false;
    product *= static_cast<size_t>(dim);
  }
  *count = empty ? 0 : product;
  return true;
}

size_t split_loops() { return splits; }

const void* api(uint32_t) {
  static const Table table;
  return &table;
}

const ApiBase* api_base(uint32_t version) {
  static const ApiBase base = {get_api, version_text};
  served_version = version;
  return &base;
}

}  // namespace host
