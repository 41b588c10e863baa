#include "binary/nodes.h"

namespace gr::binary_conv_bits {

extern const Definition definition = binary::Conv<true, true>::definition;

}  // namespace gr::binary_conv_bits
