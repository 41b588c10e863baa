#include "binary/nodes.h"

namespace gr::binary_mat_mul_to_bits {

extern const Definition definition = binary::MatMul<false, true>::definition;

}  // namespace gr::binary_mat_mul_to_bits
