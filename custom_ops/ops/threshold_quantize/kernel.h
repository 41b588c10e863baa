// Counting of thresholds: one byte for each number.
#pragma once

#include <cstddef>
#include <cstdint>

#include "glue/tables.h"

namespace gr::threshold_quantize {

struct Table {
  // codes[i] is how many of the m thresholds x[i] exceeds, for i below count; m is 255 at most.
  void (*count)(const float* x, uint8_t* codes, size_t count, const float* thresholds, size_t m);
};

GR_TABLES(Table)

}  // namespace gr::threshold_quantize
