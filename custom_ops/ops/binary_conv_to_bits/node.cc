#include "binary/nodes.h"

namespace gr::binary_conv_to_bits {

extern const Definition definition = binary::Conv<false, true>::definition;

}  // namespace gr::binary_conv_to_bits
