// Packing of signs: 32 channels of a position become one word.
#pragma once

#include <cstddef>
#include <cstdint>

#include "glue/tables.h"

namespace gr::pack_signs {

struct Table {
  // Packs positions [from, to) of one picture. x is [channels][positions], bits is [positions][ceil(channels / 32)].
  void (*pack)(const float* x, uint32_t* bits, size_t channels, size_t positions, size_t from, size_t to);
};

GR_TABLES(Table)

}  // namespace gr::pack_signs
