// A library of custom ops, and one kernel of it taken through creation, shape inference and calls, as a session would.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "runtime.h"

namespace host {

struct Case {
  std::string op, label, node;
  std::map<std::string, Attribute> attributes;
  std::vector<Tensor> inputs;
  std::vector<Tensor> expected;
  double rtol = 0, atol = 0;  // relative to the largest expected value
};

// Reads what tests/custom_ops/casefile.py wrote. Ends the process where the file is not one.
std::vector<Case> read_cases(const std::string& path);

// Attributes, and the shapes and roles of the inputs, one a line.
std::string described(const Case& one);

// Loads the library and lets it register its ops for a runtime of this API version. Ends the process where it cannot.
class Library {
 public:
  Library(const std::string& path, uint32_t api_version);
  const Op* find(const std::string& name) const;  // null: the library has no such op
  std::vector<std::string> names() const;
  uint32_t api_version() const { return api_version_; }

 private:
  SessionOptions options_;
  uint32_t api_version_;
};

// What one step ended with: nothing, or the text of the error status.
using Refused = std::optional<std::string>;

// The inputs of a case as a runtime hands them out. `shift` bytes off alignment, a multiple of each element's size.
Inputs place(const std::vector<Tensor>& tensors, size_t shift);

class Kernel {
 public:
  Kernel(const Library& library, const Op& op, const std::string& node,
         const std::map<std::string, Attribute>& attributes, const Inputs& inputs);
  ~Kernel();
  Kernel(const Kernel&) = delete;
  Kernel& operator=(const Kernel&) = delete;

  const Refused& refused() const { return refused_; }  // why there is no kernel
  Refused run(Context& context) const;                 // fills context.outputs

 private:
  const Op& op_;
  void* kernel_ = nullptr;
  Refused refused_;
};

Context call(const Op& op, const Inputs& inputs, size_t threads);

// Asks the op for its outputs' shapes; sizes below zero are unknown ones.
Refused infer(const Op& op, const std::map<std::string, Attribute>& attributes, const std::vector<Tensor>& inputs,
              std::vector<std::unique_ptr<TypeShape>>& outputs);

// Says what is wrong with the outputs of a call, or nothing. `worst` is raised to the largest error met.
Refused differs(const Case& expected, const Context& context, double* worst);

}  // namespace host
