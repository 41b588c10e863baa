#include "binary/nodes.h"

namespace gr::binary_conv_from_bits {

extern const Definition definition = binary::Conv<true, false>::definition;

}  // namespace gr::binary_conv_from_bits
