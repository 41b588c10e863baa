// What operator code sees of onnxruntime: a node being created, a call being run, shapes being inferred.
//
// node.cc of an operator defines `extern const Definition definition = {create, infer}`. It throws Error on bad input; everything here may
// throw too. Kernels are immutable after creation: onnxruntime runs one kernel from several threads at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "abi/ort.h"
#include "glue/cpu.h"
#include "glue/error.h"
#include "glue/scratch.h"

namespace gr {

using ort::Element;
using Dims = std::vector<int64_t>;

// "[2, 3, 4]"
std::string text(const Dims& dims);

// How an operator is declared in its op.toml; the build writes these.
struct PortSpec {
  const char* name;
  Element element;
};

struct OpSpec {
  const char* name;
  int since;
  const PortSpec* inputs;
  size_t input_count;
  const PortSpec* outputs;
  size_t output_count;
};

// A tensor that somebody else owns. Its element type is the one op.toml declares: onnxruntime has seen to that.
struct Tensor {
  const void* data = nullptr;
  Dims dims;

  size_t rank() const { return dims.size(); }
  size_t count() const;
  template <class T>
  const T* as() const {
    return static_cast<const T*>(data);
  }
};

// A node of which a kernel is made.
class Creation {
 public:
  Creation(const ort::Api& api, const ort::KernelInfo* info, Isa isa) : api_(api), info_(info), isa_(isa) {}

  Isa isa() const { return isa_; }
  int64_t integer(const char* name) const;
  float real(const char* name) const;
  std::string string(const char* name) const;
  std::vector<int64_t> integers(const char* name) const;
  std::vector<float> reals(const char* name) const;
  // The value of an input that is an initializer, null where it is computed at run time. It lives as long as the session.
  std::unique_ptr<Tensor> constant(size_t index) const;
  // The same for an input that must be one; `name` is for the message.
  Tensor needed(size_t index, const char* name) const;

 private:
  const ort::Api& api_;
  const ort::KernelInfo* info_;
  Isa isa_;
};

// A call of a kernel.
class Call {
 public:
  Call(const ort::Api& api, ort::KernelContext* context) : api_(api), context_(context) {}

  Tensor input(size_t index) const;
  template <class T>
  T* output(size_t index, const Dims& dims) const {
    return static_cast<T*>(output_data(index, dims));
  }
  // Memory until the call returns, aligned to a cache line; 64 bytes behind it may be read.
  template <class T>
  T* scratch(size_t count) const {
    return static_cast<T*>(Scratch::of_this_thread().take(checked_mul(count, sizeof(T), "a working buffer")));
  }
  // Runs part(0) ... part(count - 1) on the session's threads, in any order. A part may take memory from
  // Scratch::of_this_thread(). What the first of them throws is thrown here, once all have ended. Parts should be 20
  // microseconds or more.
  template <class Part>
  void parallel(size_t count, const Part& part) const {
    if (count == 1) {
      part(size_t{0});
    } else if (count > 1) {
      Shared<Part> shared{part, {}, nullptr};
      run_parts(count, &Shared<Part>::run, &shared);
      if (shared.thrown != nullptr) std::rethrow_exception(shared.thrown);
    }
  }

 private:
  // What the parts of one loop have in common. No exception may cross onnxruntime's thread pool.
  template <class Part>
  struct Shared {
    const Part& part;
    std::mutex guard;
    std::exception_ptr thrown;

    static void GR_ORT_CALL run(void* user, size_t index) noexcept {
      Shared& shared = *static_cast<Shared*>(user);
      try {
        const Scratch::Scope scope(Scratch::of_this_thread());
        shared.part(index);
      } catch (...) {
        const std::lock_guard<std::mutex> lock(shared.guard);
        if (shared.thrown == nullptr) shared.thrown = std::current_exception();
      }
    }
  };

  void* output_data(size_t index, const Dims& dims) const;
  void run_parts(size_t count, void(GR_ORT_CALL* part)(void*, size_t), void* user) const;

  const ort::Api& api_;
  ort::KernelContext* context_;
};

// A node whose output shapes are asked for. Where nothing is set, onnxruntime goes without.
class Inference {
 public:
  // A size that may be unknown (-1), and the name of such a size.
  struct Size {
    int64_t value = -1;
    std::string symbol;
  };
  using Sizes = std::vector<Size>;

  Inference(const ort::Api& api, ort::ShapeContext* context, const OpSpec& spec)
      : api_(api), context_(context), spec_(spec) {}

  // Empty where the rank is unknown.
  Sizes input(size_t index) const;
  int64_t integer(const char* name) const;
  std::vector<int64_t> integers(const char* name) const;
  // Says nothing where a size is neither known nor named.
  void output(size_t index, const Sizes& sizes) const;

 private:
  const ort::OpAttribute* attribute(const char* name) const;

  const ort::Api& api_;
  ort::ShapeContext* context_;
  const OpSpec& spec_;
};

class Kernel {
 public:
  virtual ~Kernel() = default;
  virtual void compute(const Call& call) const = 0;
};

struct Definition {
  std::unique_ptr<Kernel> (*create)(const Creation&);
  void (*infer)(const Inference&);
};

}  // namespace gr
