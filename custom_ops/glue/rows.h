// Operators that work on rows: x is [..., in], y is [..., out].
#pragma once

#include <string>

#include "glue/op.h"

namespace gr {

struct FloatRows {
  const float* x;
  float* y;
  size_t count, in, out;
};

inline void require_last(const Tensor& x, size_t in) {
  require(x.rank() >= 1 && x.dims.back() == static_cast<int64_t>(in), [&] {
    return "x has shape " + text(x.dims) + "; expected [..., " + std::to_string(in) + "]";
  });
}

// The first input, whose last axis must be `in` long, and the first output; `in` is not 0.
inline FloatRows float_rows(const Call& call, size_t in, size_t out) {
  const Tensor x = call.input(0);
  require_last(x, in);
  Dims dims = x.dims;
  dims.back() = static_cast<int64_t>(out);
  return {x.as<float>(), call.output<float>(0, dims), x.count() / in, in, out};
}

// The first output is the first input with another last axis.
inline void infer_last(const Inference& node, const Inference::Size& last) {
  Inference::Sizes sizes = node.input(0);
  if (sizes.empty()) return;
  sizes.back() = last;
  node.output(0, sizes);
}

// The same where input `like` has one axis, as long as the last one of the output.
inline void infer_last_of(const Inference& node, size_t like) {
  const Inference::Sizes sizes = node.input(like);
  if (sizes.size() == 1) infer_last(node, sizes[0]);
}

}  // namespace gr
