// A library of two test operators on the project's own description of onnxruntime's interface.
//
// Walk calls every function that custom_ops/abi/ort.h names and writes down what it was told, one `name value` line a
// fact, as the text in its first output; the test compares that with what it put into the model and with the Python
// interface. Probe adds 100 where its function body adds 1; PROBE_VERSIONS="first:last" says which versions of the
// domain it serves, PROBE_NAME what it is called.
#include <atomic>
#include <climits>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <sstream>
#include <string>
#include <vector>

#include "abi/ort.h"

namespace {

using namespace gr::ort;

// What shape inference saw; it runs before there is a kernel that could keep it.
std::mutex guard;
std::string inferred;

class Report {
 public:
  template <class T>
  void say(const char* name, const T& value) {
    text_ << name << ' ' << value << '\n';
  }
  template <class T>
  void list(const char* name, const std::vector<T>& values) {
    text_ << name;
    for (const T& value : values) text_ << ' ' << value;
    text_ << '\n';
  }
  std::string text() const { return text_.str(); }

 private:
  std::ostringstream text_;
};

// Not an exception: a test library has no border to turn one into a status.
#define NEED(call)                                  \
  do {                                              \
    if (Status* refusal_ = (call)) return refusal_; \
  } while (false)

struct WalkOp : CustomOp {
  explicit WalkOp(const Api& api) : CustomOp{}, api(api) {}
  Api api;
};

struct WalkKernel {
  Api api;
  std::string created;
  int64_t fail = 0;
};

Status* describe(const Api& api, const TensorInfo* info, const char* name, Report& report) {
  Element element{};
  size_t rank = 0;
  NEED(api.get_element(info, &element));
  NEED(api.get_rank(info, &rank));
  std::vector<int64_t> dims(rank);
  std::vector<const char*> symbols(rank, nullptr);
  NEED(api.get_dims(info, dims.data(), rank));
  NEED(api.get_symbols(info, symbols.data(), rank));
  report.say((std::string(name) + ".element").c_str(), static_cast<int>(element));
  report.list((std::string(name) + ".dims").c_str(), dims);
  std::vector<std::string> names;
  for (const char* symbol : symbols) names.emplace_back(symbol == nullptr || *symbol == '\0' ? "-" : symbol);
  report.list((std::string(name) + ".symbols").c_str(), names);
  return nullptr;
}

Status* create_walk(const CustomOp* self, const void* table, const KernelInfo* info, void** out) {
  const Api& api = static_cast<const WalkOp*>(self)->api;
  Report report;
  report.say("same_table", table == api.table() ? 1 : 0);
  size_t size = 0;
  NEED(api.node_name(info, nullptr, &size));
  std::string text(size, '\0');
  NEED(api.node_name(info, text.data(), &size));
  report.say("node_name", text.c_str());
  size_t inputs = 0;
  NEED(api.info_input_count(info, &inputs));
  report.say("info_input_count", inputs);

  int64_t integer = 0;
  float real = 0;
  NEED(api.attribute_int(info, "an_int", &integer));
  report.say("attribute_int", integer);
  NEED(api.attribute_float(info, "a_float", &real));
  report.say("attribute_float", real);
  NEED(api.attribute_string(info, "a_string", nullptr, &size));
  text.assign(size, '\0');
  NEED(api.attribute_string(info, "a_string", text.data(), &size));
  report.say("attribute_string", text.c_str());
  NEED(api.attribute_ints(info, "some_ints", nullptr, &size));
  std::vector<int64_t> integers(size);
  NEED(api.attribute_ints(info, "some_ints", integers.data(), &size));
  report.list("attribute_ints", integers);
  NEED(api.attribute_floats(info, "some_floats", nullptr, &size));
  std::vector<float> reals(size);
  NEED(api.attribute_floats(info, "some_floats", reals.data(), &size));
  report.list("attribute_floats", reals);

  for (size_t index = 0; index < inputs; ++index) {
    int is_constant = -1;
    const Value* value = nullptr;
    NEED(api.constant_input(info, index, &is_constant, &value));
    report.say(index == 0 ? "constant_input.0" : "constant_input.1", is_constant);
    if (is_constant != 1) continue;
    TensorInfo* shape = nullptr;
    NEED(api.tensor_info(value, &shape));
    Status* failed = describe(api, shape, "constant", report);
    api.release_tensor_info(shape);
    NEED(failed);
    void* data = nullptr;
    NEED(api.tensor_data(const_cast<Value*>(value), &data));
    report.list("constant.data", std::vector<int64_t>(static_cast<int64_t*>(data), static_cast<int64_t*>(data) + 4));
  }

  // A refusal must be one, must name what it refused, and its release must free it: the test watches the memory.
  Status* refused = api.attribute_int(info, "not_there", &integer);
  report.say("refused", refused != nullptr ? 1 : 0);
  if (refused != nullptr) api.release_status(refused);
  int64_t churn = 0;
  NEED(api.attribute_int(info, "churn", &churn));
  const std::string long_text(2000, 'x');
  const std::vector<int64_t> many(200, 1);
  for (int64_t k = 0; k < churn; ++k) {
    api.release_status(api.create_status(Code::fail, long_text.c_str()));
    TensorInfo* shape = nullptr;
    NEED(api.create_tensor_info(&shape));
    NEED(api.set_dims(shape, many.data(), many.size()));
    api.release_tensor_info(shape);
  }

  auto* kernel = new WalkKernel{api, report.text(), 0};
  *out = kernel;
  return api.attribute_int(info, "fail", &kernel->fail);
}

Status* compute_walk(void* state, KernelContext* context) {
  const auto& kernel = *static_cast<WalkKernel*>(state);
  const Api& api = kernel.api;
  if (kernel.fail != 0) return api.create_status(Code::invalid_argument, "failed because it was asked to");
  Report report;
  size_t inputs = 0;
  NEED(api.input_count(context, &inputs));
  report.say("input_count", inputs);
  const Value* x = nullptr;
  NEED(api.input(context, 0, &x));
  TensorInfo* shape = nullptr;
  NEED(api.tensor_info(x, &shape));
  Status* failed = describe(api, shape, "x", report);
  size_t rank = 0;
  int64_t dims[2] = {0, 0};
  if (failed == nullptr) failed = api.get_rank(shape, &rank);
  if (failed == nullptr && rank == 2) failed = api.get_dims(shape, dims, 2);
  api.release_tensor_info(shape);
  NEED(failed);
  void* data = nullptr;
  NEED(api.tensor_data(const_cast<Value*>(x), &data));

  struct Work {
    std::atomic<int> visits[64];
  } work{};
  NEED(api.parallel_for(
      context, [](void* user, size_t index) { ++static_cast<Work*>(user)->visits[index]; }, 64, 0, &work));
  int once = 0;
  for (const auto& visits : work.visits) once += visits == 1 ? 1 : 0;
  report.say("parallel_for", once);

  Value* y = nullptr;
  NEED(api.output(context, 1, dims, 2, &y));
  void* doubled = nullptr;
  NEED(api.tensor_data(y, &doubled));
  for (int64_t k = 0; k < dims[0] * dims[1]; ++k) static_cast<float*>(doubled)[k] = 2 * static_cast<float*>(data)[k];

  std::string text = kernel.created + report.text();
  {
    const std::lock_guard<std::mutex> lock(guard);
    text += inferred;
  }
  const int64_t length = static_cast<int64_t>(text.size());
  NEED(api.output(context, 0, &length, 1, &y));
  NEED(api.tensor_data(y, &data));
  std::memcpy(data, text.data(), text.size());
  return nullptr;
}

Status* read(const Api& api, const ShapeContext* context, const char* name, AttributeKind kind, void* into, size_t bytes,
             size_t* needed) {
  const OpAttribute* attribute = nullptr;
  NEED(api.infer_attribute(context, name, &attribute));
  return api.read_attribute(attribute, kind, into, bytes, needed);
}

Status* infer_walk(const CustomOp* self, ShapeContext* context) {
  const Api& api = static_cast<const WalkOp*>(self)->api;
  Report report;
  size_t inputs = 0, needed = 0;
  NEED(api.infer_input_count(context, &inputs));
  report.say("infer_input_count", inputs);
  TensorInfo* x = nullptr;
  NEED(api.infer_input(context, 0, &x));
  NEED(describe(api, x, "infer_input", report));

  int64_t integer = 0, integers[8];
  float real = 0, reals[8];
  char text[64];
  NEED(read(api, context, "an_int", AttributeKind::integer, &integer, sizeof integer, &needed));
  report.say("read_attribute.integer", integer);
  NEED(read(api, context, "some_ints", AttributeKind::integers, integers, sizeof integers, &needed));
  report.list("read_attribute.integers", std::vector<int64_t>(integers, integers + needed / sizeof(int64_t)));
  NEED(read(api, context, "a_float", AttributeKind::real, &real, sizeof real, &needed));
  report.say("read_attribute.real", real);
  NEED(read(api, context, "some_floats", AttributeKind::reals, reals, sizeof reals, &needed));
  report.list("read_attribute.reals", std::vector<float>(reals, reals + needed / sizeof(float)));
  NEED(read(api, context, "a_string", AttributeKind::text, text, sizeof text, &needed));
  report.say("read_attribute.text", std::string(text, strnlen(text, needed)));
  Status* refused = read(api, context, "some_ints", AttributeKind::integers, integers, sizeof(int64_t), &needed);
  report.say("read_attribute.refused", refused != nullptr ? needed : 0);
  if (refused != nullptr) api.release_status(refused);

  const auto tell = [&](size_t index, Element element, std::vector<int64_t> dims, std::vector<const char*> symbols) {
    TensorInfo* info = nullptr;
    Status* failed = api.create_tensor_info(&info);
    if (failed != nullptr) return failed;
    failed = api.set_element(info, element);
    if (failed == nullptr) failed = api.set_dims(info, dims.data(), dims.size());
    if (failed == nullptr) failed = api.set_symbols(info, symbols.data(), symbols.size());
    if (failed == nullptr) failed = describe(api, info, index == 0 ? "made.0" : "made.1", report);
    if (failed == nullptr) failed = api.infer_output(context, index, info);
    api.release_tensor_info(info);
    return failed;
  };
  NEED(tell(0, Element::uint8, {-1}, {"length"}));
  NEED(tell(1, Element::float32, {-1, 3}, {"batch", ""}));
  const std::lock_guard<std::mutex> lock(guard);
  inferred = report.text();
  return nullptr;
}

// -- Probe ----------------------------------------------------------------------------------------------------------
struct ProbeOp : WalkOp {
  using WalkOp::WalkOp;
  std::string called = "Probe";
  int first = 1, last = INT_MAX;
};

Status* create_probe(const CustomOp* self, const void*, const KernelInfo*, void** out) {
  *out = new WalkKernel{static_cast<const WalkOp*>(self)->api, "", 0};
  return nullptr;
}

Status* compute_probe(void* state, KernelContext* context) {
  const Api& api = static_cast<WalkKernel*>(state)->api;
  const Value* x = nullptr;
  NEED(api.input(context, 0, &x));
  TensorInfo* shape = nullptr;
  NEED(api.tensor_info(x, &shape));
  int64_t count = 0;
  Status* failed = api.get_dims(shape, &count, 1);
  api.release_tensor_info(shape);
  NEED(failed);
  Value* y = nullptr;
  NEED(api.output(context, 0, &count, 1, &y));
  void *from = nullptr, *to = nullptr;
  NEED(api.tensor_data(const_cast<Value*>(x), &from));
  NEED(api.tensor_data(y, &to));
  for (int64_t k = 0; k < count; ++k) static_cast<float*>(to)[k] = static_cast<float*>(from)[k] + 100;
  return nullptr;
}

void fill_common(CustomOp& op, uint32_t version) {
  op.version = version;
  op.provider = [](const CustomOp*) -> const char* { return nullptr; };
  op.destroy = [](void* kernel) { delete static_cast<WalkKernel*>(kernel); };
  const auto zero = [](const CustomOp*, size_t) { return 0; };
  op.input_kind = op.output_kind = op.input_memory = zero;
  const auto one = [](const CustomOp*) { return 1; };
  op.variadic_inputs_least = op.variadic_inputs_alike = op.variadic_outputs_least = op.variadic_outputs_alike = one;
}

WalkOp* make_walk(const Api& api, uint32_t version) {
  auto* op = new WalkOp(api);
  fill_common(*op, version);
  op->name = [](const CustomOp*) { return "Walk"; };
  op->inputs = op->outputs = [](const CustomOp*) { return size_t{2}; };
  op->input_type = [](const CustomOp*, size_t index) { return index == 0 ? Element::float32 : Element::int64; };
  op->output_type = [](const CustomOp*, size_t index) { return index == 0 ? Element::uint8 : Element::float32; };
  op->create_kernel = create_walk;
  op->compute = compute_walk;
  op->infer = infer_walk;
  op->first_version = [](const CustomOp*) { return 1; };
  op->last_version = [](const CustomOp*) { return INT_MAX; };
  return op;
}

ProbeOp* make_probe(const Api& api, uint32_t version) {
  auto* op = new ProbeOp(api);
  fill_common(*op, version);
  if (const char* called = std::getenv("PROBE_NAME")) op->called = called;
  if (const char* served = std::getenv("PROBE_VERSIONS")) {
    op->first = std::atoi(served);
    op->last = std::atoi(std::strchr(served, ':') + 1);
  }
  op->name = [](const CustomOp* self) { return static_cast<const ProbeOp*>(self)->called.c_str(); };
  op->inputs = op->outputs = [](const CustomOp*) { return size_t{1}; };
  op->input_type = op->output_type = [](const CustomOp*, size_t) { return Element::float32; };
  op->create_kernel = create_probe;
  op->compute = compute_probe;
  op->first_version = [](const CustomOp* self) { return static_cast<const ProbeOp*>(self)->first; };
  op->last_version = [](const CustomOp* self) { return static_cast<const ProbeOp*>(self)->last; };
  return op;
}

}  // namespace

extern "C" __attribute__((visibility("default"))) Status* RegisterCustomOps(SessionOptions* options, const ApiBase* base) {
  uint32_t version = kNewestVersion;
  const void* const* table = base->table(version);
  if (table == nullptr) table = base->table(version = kOldestVersion);
  if (table == nullptr) return nullptr;
  const Api api(table);
  OpDomain* domain = nullptr;
  NEED(api.create_domain("graphrewrite.test", &domain));
  NEED(api.domain_add(domain, make_walk(api, version)));
  NEED(api.domain_add(domain, make_probe(api, version)));
  return api.add_domain(options, domain);
}
