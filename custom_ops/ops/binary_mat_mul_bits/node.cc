#include "binary/nodes.h"

namespace gr::binary_mat_mul_bits {

extern const Definition definition = binary::MatMul<true, true>::definition;

}  // namespace gr::binary_mat_mul_bits
