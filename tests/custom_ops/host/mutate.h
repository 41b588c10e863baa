// Turns a valid case into one that may be anything: sizes, attributes, bytes. The same seed gives the same case.
#pragma once

#include <cstdint>
#include <vector>

#include "kernel.h"

namespace host {

class Random {  // splitmix64: small, the same everywhere
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t next();
  size_t below(size_t bound) { return bound == 0 ? 0 : static_cast<size_t>(next() % bound); }
  bool chance(size_t one_in) { return below(one_in) == 0; }

 private:
  uint64_t state_;
};

// Tensors keep the length their shape asks for, since onnxruntime guarantees that much; nothing else is kept.
// Tensors stay below `most_elements`. `others` lends attribute texts and values of the same op's other cases.
void mutate(Case& one, const std::vector<const Case*>& others, Random& random, size_t most_elements);

}  // namespace host
