// The part of onnxruntime's C interface that we call, declared in our own words.
//
// onnxruntime hands out one table of function pointers that only ever grows: a function keeps its slot for good. So a
// slot number and a signature are all that is needed to call it, and no header of theirs has to be installed. The slot
// walk test calls every slot named here on the oldest and on the newest supported release.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(_WIN32) && !defined(_WIN64)
#define GR_ORT_CALL __stdcall
#else
#define GR_ORT_CALL
#endif

namespace gr::ort {

// Things of theirs that we only hold pointers to.
struct Status;
struct SessionOptions;
struct OpDomain;
struct KernelInfo;
struct KernelContext;
struct Value;
struct TypeInfo;
struct TensorInfo;
struct ShapeContext;
struct OpAttribute;

// Versions of the table that this library can talk to. 17 is onnxruntime 1.17, the first with shape inference and the
// thread pool; nothing that we call came after 18.
inline constexpr uint32_t kOldestVersion = 17;
inline constexpr uint32_t kNewestVersion = 18;

enum class Code : int { ok = 0, fail = 1, invalid_argument = 2, not_implemented = 9 };

enum class Element : int {
  undefined = 0,
  float32 = 1,
  uint8 = 2,
  int8 = 3,
  uint16 = 4,
  int16 = 5,
  int32 = 6,
  int64 = 7,
  string = 8,
  boolean = 9,
  float16 = 10,
  float64 = 11,
  uint32 = 12,
  uint64 = 13,
};

enum class AttributeKind : int { integer = 1, integers = 2, real = 3, reals = 4, text = 5 };

// Numbers of the functions in the table.
enum class Slot : size_t {
  create_status = 0,
  create_domain = 26,
  domain_add = 27,
  add_domain = 28,
  tensor_data = 51,
  create_tensor_info = 57,
  set_element = 58,
  set_dims = 59,
  get_element = 60,
  get_rank = 61,
  get_dims = 62,
  get_symbols = 63,
  tensor_info = 65,
  attribute_float = 85,
  attribute_int = 86,
  attribute_string = 87,
  input_count = 88,
  input = 90,
  output = 91,
  release_status = 93,
  release_tensor_info = 99,
  attribute_floats = 162,
  attribute_ints = 163,
  info_input_count = 230,
  node_name = 244,
  constant_input = 249,
  infer_input_count = 267,
  infer_input = 268,
  infer_attribute = 269,
  infer_output = 270,
  set_symbols = 271,
  read_attribute = 272,
  parallel_for = 274,
};

// What the library's entry point is given.
struct ApiBase {
  const void* const*(GR_ORT_CALL* table)(uint32_t version);
  const char*(GR_ORT_CALL* version_text)();
};

// The description of one operator that onnxruntime reads. It looks at members only as far as `version` allows.
struct CustomOp {
  uint32_t version;
  void*(GR_ORT_CALL* create_kernel_old)(const CustomOp*, const void*, const KernelInfo*);
  const char*(GR_ORT_CALL* name)(const CustomOp*);
  const char*(GR_ORT_CALL* provider)(const CustomOp*);
  Element(GR_ORT_CALL* input_type)(const CustomOp*, size_t);
  size_t(GR_ORT_CALL* inputs)(const CustomOp*);
  Element(GR_ORT_CALL* output_type)(const CustomOp*, size_t);
  size_t(GR_ORT_CALL* outputs)(const CustomOp*);
  void(GR_ORT_CALL* compute_old)(void*, KernelContext*);
  void(GR_ORT_CALL* destroy)(void*);
  int(GR_ORT_CALL* input_kind)(const CustomOp*, size_t);
  int(GR_ORT_CALL* output_kind)(const CustomOp*, size_t);
  int(GR_ORT_CALL* input_memory)(const CustomOp*, size_t);
  int(GR_ORT_CALL* variadic_inputs_least)(const CustomOp*);
  int(GR_ORT_CALL* variadic_inputs_alike)(const CustomOp*);
  int(GR_ORT_CALL* variadic_outputs_least)(const CustomOp*);
  int(GR_ORT_CALL* variadic_outputs_alike)(const CustomOp*);
  // From version 16.
  Status*(GR_ORT_CALL* create_kernel)(const CustomOp*, const void*, const KernelInfo*, void**);
  Status*(GR_ORT_CALL* compute)(void*, KernelContext*);
  // From version 17.
  Status*(GR_ORT_CALL* infer)(const CustomOp*, ShapeContext*);
  int(GR_ORT_CALL* first_version)(const CustomOp*);
  int(GR_ORT_CALL* last_version)(const CustomOp*);
  // From version 18.
  size_t(GR_ORT_CALL* may_inplace)(int**, int**);
  void(GR_ORT_CALL* release_may_inplace)(int*, int*);
  size_t(GR_ORT_CALL* aliases)(int**, int**);
  void(GR_ORT_CALL* release_aliases)(int*, int*);
};

// The table, with one function per slot in use. Those that can fail return a status; null is success.
class Api {
 public:
  explicit Api(const void* const* table) : table_(table) {}

  const void* table() const { return table_; }

  Status* create_status(Code code, const char* text) const {
    return at<Status*(int, const char*)>(Slot::create_status)(static_cast<int>(code), text);
  }
  void release_status(Status* status) const { at<void(Status*)>(Slot::release_status)(status); }

  Status* create_domain(const char* name, OpDomain** out) const {
    return at<Status*(const char*, OpDomain**)>(Slot::create_domain)(name, out);
  }
  Status* domain_add(OpDomain* domain, const CustomOp* op) const {
    return at<Status*(OpDomain*, const CustomOp*)>(Slot::domain_add)(domain, op);
  }
  Status* add_domain(SessionOptions* options, OpDomain* domain) const {
    return at<Status*(SessionOptions*, OpDomain*)>(Slot::add_domain)(options, domain);
  }

  Status* tensor_data(Value* value, void** out) const {
    return at<Status*(Value*, void**)>(Slot::tensor_data)(value, out);
  }
  Status* tensor_info(const Value* value, TensorInfo** out) const {
    return at<Status*(const Value*, TensorInfo**)>(Slot::tensor_info)(value, out);
  }
  void release_tensor_info(TensorInfo* info) const { at<void(TensorInfo*)>(Slot::release_tensor_info)(info); }
  Status* create_tensor_info(TensorInfo** out) const {
    return at<Status*(TensorInfo**)>(Slot::create_tensor_info)(out);
  }
  Status* set_element(TensorInfo* info, Element element) const {
    return at<Status*(TensorInfo*, int)>(Slot::set_element)(info, static_cast<int>(element));
  }
  Status* set_dims(TensorInfo* info, const int64_t* dims, size_t rank) const {
    return at<Status*(TensorInfo*, const int64_t*, size_t)>(Slot::set_dims)(info, dims, rank);
  }
  Status* set_symbols(TensorInfo* info, const char** symbols, size_t rank) const {
    return at<Status*(TensorInfo*, const char**, size_t)>(Slot::set_symbols)(info, symbols, rank);
  }
  Status* get_element(const TensorInfo* info, Element* out) const {
    return at<Status*(const TensorInfo*, Element*)>(Slot::get_element)(info, out);
  }
  Status* get_rank(const TensorInfo* info, size_t* out) const {
    return at<Status*(const TensorInfo*, size_t*)>(Slot::get_rank)(info, out);
  }
  Status* get_dims(const TensorInfo* info, int64_t* out, size_t rank) const {
    return at<Status*(const TensorInfo*, int64_t*, size_t)>(Slot::get_dims)(info, out, rank);
  }
  Status* get_symbols(const TensorInfo* info, const char** out, size_t rank) const {
    return at<Status*(const TensorInfo*, const char**, size_t)>(Slot::get_symbols)(info, out, rank);
  }

  Status* attribute_float(const KernelInfo* info, const char* name, float* out) const {
    return at<Status*(const KernelInfo*, const char*, float*)>(Slot::attribute_float)(info, name, out);
  }
  Status* attribute_int(const KernelInfo* info, const char* name, int64_t* out) const {
    return at<Status*(const KernelInfo*, const char*, int64_t*)>(Slot::attribute_int)(info, name, out);
  }
  // Asked with a null `out`, the three below only tell the size.
  Status* attribute_string(const KernelInfo* info, const char* name, char* out, size_t* size) const {
    return at<Status*(const KernelInfo*, const char*, char*, size_t*)>(Slot::attribute_string)(info, name, out, size);
  }
  Status* attribute_floats(const KernelInfo* info, const char* name, float* out, size_t* size) const {
    return at<Status*(const KernelInfo*, const char*, float*, size_t*)>(Slot::attribute_floats)(info, name, out, size);
  }
  Status* attribute_ints(const KernelInfo* info, const char* name, int64_t* out, size_t* size) const {
    return at<Status*(const KernelInfo*, const char*, int64_t*, size_t*)>(Slot::attribute_ints)(info, name, out, size);
  }
  Status* info_input_count(const KernelInfo* info, size_t* out) const {
    return at<Status*(const KernelInfo*, size_t*)>(Slot::info_input_count)(info, out);
  }
  Status* node_name(const KernelInfo* info, char* out, size_t* size) const {
    return at<Status*(const KernelInfo*, char*, size_t*)>(Slot::node_name)(info, out, size);
  }
  Status* constant_input(const KernelInfo* info, size_t index, int* is_constant, const Value** out) const {
    return at<Status*(const KernelInfo*, size_t, int*, const Value**)>(Slot::constant_input)(info, index, is_constant,
                                                                                            out);
  }

  Status* input_count(const KernelContext* context, size_t* out) const {
    return at<Status*(const KernelContext*, size_t*)>(Slot::input_count)(context, out);
  }
  Status* input(const KernelContext* context, size_t index, const Value** out) const {
    return at<Status*(const KernelContext*, size_t, const Value**)>(Slot::input)(context, index, out);
  }
  Status* output(KernelContext* context, size_t index, const int64_t* dims, size_t rank, Value** out) const {
    return at<Status*(KernelContext*, size_t, const int64_t*, size_t, Value**)>(Slot::output)(context, index, dims, rank,
                                                                                             out);
  }
  // `batches` 0 lets onnxruntime split the work.
  Status* parallel_for(const KernelContext* context, void(GR_ORT_CALL* part)(void*, size_t), size_t total,
                       size_t batches, void* user) const {
    return at<Status*(const KernelContext*, void(GR_ORT_CALL*)(void*, size_t), size_t, size_t, void*)>(
        Slot::parallel_for)(context, part, total, batches, user);
  }

  Status* infer_input_count(const ShapeContext* context, size_t* out) const {
    return at<Status*(const ShapeContext*, size_t*)>(Slot::infer_input_count)(context, out);
  }
  // The info belongs to the context.
  Status* infer_input(const ShapeContext* context, size_t index, TensorInfo** out) const {
    return at<Status*(const ShapeContext*, size_t, TensorInfo**)>(Slot::infer_input)(context, index, out);
  }
  Status* infer_attribute(const ShapeContext* context, const char* name, const OpAttribute** out) const {
    return at<Status*(const ShapeContext*, const char*, const OpAttribute**)>(Slot::infer_attribute)(context, name,
                                                                                                    out);
  }
  Status* infer_output(const ShapeContext* context, size_t index, const TensorInfo* info) const {
    return at<Status*(const ShapeContext*, size_t, const TensorInfo*)>(Slot::infer_output)(context, index, info);
  }
  Status* read_attribute(const OpAttribute* attribute, AttributeKind kind, void* data, size_t bytes,
                         size_t* needed) const {
    return at<Status*(const OpAttribute*, int, void*, size_t, size_t*)>(Slot::read_attribute)(
        attribute, static_cast<int>(kind), data, bytes, needed);
  }

 private:
  template <class Signature>
  struct Pointer;
  template <class Result, class... Arguments>
  struct Pointer<Result(Arguments...)> {
    using type = Result(GR_ORT_CALL*)(Arguments...);
  };

  template <class Signature>
  typename Pointer<Signature>::type at(Slot slot) const {
    return reinterpret_cast<typename Pointer<Signature>::type>(const_cast<void*>(table_[static_cast<size_t>(slot)]));
  }

  const void* const* table_;
};

}  // namespace gr::ort
