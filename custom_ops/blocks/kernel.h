// The kernels that the operators over blocks of N outputs share.
#pragma once

#include "blocks/layer.h"
#include "glue/tables.h"

namespace gr::blocks {

using Table = Kernels;

GR_TABLES(Table)

}  // namespace gr::blocks
