#include "binary/nodes.h"

namespace gr::binary_mat_mul {

extern const Definition definition = binary::MatMul<false, false>::definition;

}  // namespace gr::binary_mat_mul
