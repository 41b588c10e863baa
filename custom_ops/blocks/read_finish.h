// The activation of a node, as kernels are told it. For node.cc only.
#pragma once

#include <cmath>
#include <string>

#include "blocks/layer.h"
#include "glue/op.h"

namespace gr::blocks {

// Reads the attributes `activation`, `low` and `high`; throws where they mean nothing.
inline Finish read_finish(const Creation& node) {
  const int64_t activation = node.integer("activation");
  require(activation >= 0 && activation <= static_cast<int64_t>(Activation::hardswish),
          [&] { return "activation is " + std::to_string(activation) + "; expected 0 to 4"; });
  const Finish finish{static_cast<Activation>(activation), node.real("low"), node.real("high")};
  require(!std::isnan(finish.low) && !std::isnan(finish.high), [] { return "a limit of clip is no number"; });
  return finish.activation == Activation::relu ? Finish{Activation::relu, 0.0f, INFINITY} : finish;
}

}  // namespace gr::blocks
