#include "binary/nodes.h"

namespace gr::binary_conv {

extern const Definition definition = binary::Conv<false, false>::definition;

}  // namespace gr::binary_conv
