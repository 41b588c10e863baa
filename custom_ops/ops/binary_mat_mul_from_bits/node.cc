#include "binary/nodes.h"

namespace gr::binary_mat_mul_from_bits {

extern const Definition definition = binary::MatMul<true, false>::definition;

}  // namespace gr::binary_mat_mul_from_bits
