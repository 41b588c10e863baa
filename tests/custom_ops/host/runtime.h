// A runtime small enough to be built with every sanitizer and run under an emulator: it offers a custom-op library the
// slots of onnxruntime's function table that the library calls, with onnxruntime's behaviour, and nothing else.
//
// Declared here independently of custom_ops/abi: two descriptions of one interface that disagree fail on the first call.
// What differs from onnxruntime differs to catch more: tensors lie in blocks of exactly their size, outputs and scratch
// start as garbage, sizes beyond any sense are refused, and a slot nobody filled ends the process with its number.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace host {

struct Attribute {
  enum Kind : uint8_t { Int = 1, Float = 2, Text = 3, Ints = 4, Floats = 5 };
  Kind kind = Int;
  int64_t i = 0;
  float f = 0;
  std::string text;
  std::vector<int64_t> ints;
  std::vector<float> floats;
};

// Bytes in a block of exactly the asked size. `shift` moves the start off the allocator's alignment, as an initializer
// mapped from a file or a slice of a user's array does.
class Block {
 public:
  Block() = default;
  Block(size_t size, size_t shift, size_t alignment = 64);
  uint8_t* data() const { return start_; }
  size_t size() const { return size_; }

 private:
  struct Free {
    void operator()(uint8_t* p) const;
  };
  std::unique_ptr<uint8_t, Free> memory_;
  uint8_t* start_ = nullptr;
  size_t size_ = 0;
};

struct Tensor {
  int32_t type = 1;  // ONNX's element type number
  bool constant = false;
  std::vector<int64_t> dims;
  std::vector<uint8_t> bytes;
};

size_t element_size(int32_t type);              // 0 for a type the host does not carry
bool element_count(const std::vector<int64_t>& dims, size_t limit, size_t* count);  // false: negative or over `limit`

struct TypeShape {  // OrtTensorTypeAndShapeInfo
  int32_t type = 0;
  std::vector<int64_t> dims;
  std::vector<std::string> symbols;  // one a dimension; empty text where the size is a number
};

struct Value {  // OrtValue
  TypeShape shape;
  Block block;
};

struct Status {
  int code = 0;
  std::string text;
};

struct Inputs {
  std::vector<Value> values;
  std::vector<bool> constant;
};

struct KernelInfo {
  std::string node;
  std::map<std::string, Attribute> attributes;
  const Inputs* inputs = nullptr;
  size_t outputs = 0;
};

struct Context {  // OrtKernelContext: one call of one kernel
  const Inputs* inputs = nullptr;
  std::vector<std::unique_ptr<Value>> outputs;
  std::vector<int32_t> output_types;
  std::vector<Block> scratch;
  size_t threads = 1;
  size_t most_bytes = size_t{1} << 30;
};

struct ShapeContext {  // OrtShapeInferContext
  std::map<std::string, Attribute> attributes;
  std::vector<TypeShape> inputs;
  std::vector<std::unique_ptr<TypeShape>> outputs;
};

// The members of OrtCustomOp in their order.
struct Op {
  uint32_t version;
  void* (*create)(const Op*, const void* api, const KernelInfo*);
  const char* (*name)(const Op*);
  const char* (*provider)(const Op*);
  int32_t (*input_type)(const Op*, size_t);
  size_t (*input_count)(const Op*);
  int32_t (*output_type)(const Op*, size_t);
  size_t (*output_count)(const Op*);
  void (*compute)(void*, Context*);
  void (*destroy)(void*);
  int (*input_characteristic)(const Op*, size_t);
  int (*output_characteristic)(const Op*, size_t);
  int (*input_memory)(const Op*, size_t);
  int (*least_inputs)(const Op*);
  int (*homogeneous_inputs)(const Op*);
  int (*least_outputs)(const Op*);
  int (*homogeneous_outputs)(const Op*);
  Status* (*create_v2)(const Op*, const void* api, const KernelInfo*, void**);
  Status* (*compute_v2)(void*, Context*);
  Status* (*infer)(const Op*, ShapeContext*);
  int (*start_version)(const Op*);
  int (*end_version)(const Op*);
  void* later[4];
};

struct Domain {
  std::string name;
  std::vector<const Op*> ops;
};

struct ApiBase {
  const void* (*get_api)(uint32_t version);
  const char* (*version_text)();
};

struct SessionOptions {
  std::vector<Domain*> domains;
};

// How many loops were split over several threads so far.
size_t split_loops();

// The table as an onnxruntime of that API version would give it; tables of all versions are one, as there.
const ApiBase* api_base(uint32_t version);
const void* api(uint32_t version);

}  // namespace host
