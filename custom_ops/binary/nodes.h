// The nodes that are made of binary layers: convolutions and matrix products, each in four forms.
#pragma once

#include <memory>

#include "binary/layer.h"
#include "glue/op.h"

namespace gr::binary {

std::unique_ptr<Kernel> make_conv(const Creation& creation, Form form);
void infer_conv(const Inference& node, Form form);
std::unique_ptr<Kernel> make_mat_mul(const Creation& creation, Form form);
void infer_mat_mul(const Inference& node, Form form);

template <bool bits_in, bool bits_out>
struct Conv {
  static std::unique_ptr<Kernel> create(const Creation& creation) { return make_conv(creation, {bits_in, bits_out}); }
  static void infer(const Inference& node) { infer_conv(node, {bits_in, bits_out}); }
  static constexpr Definition definition = {create, infer};
};

template <bool bits_in, bool bits_out>
struct MatMul {
  static std::unique_ptr<Kernel> create(const Creation& creation) {
    return make_mat_mul(creation, {bits_in, bits_out});
  }
  static void infer(const Inference& node) { infer_mat_mul(node, {bits_in, bits_out}); }
  static constexpr Definition definition = {create, infer};
};

}  // namespace gr::binary
