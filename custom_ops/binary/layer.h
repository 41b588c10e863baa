// A binary layer, ready to run: its weights in the kernel's order, its scales or thresholds, and what taps that hang
// over the edge of a picture would have contributed. Convolutions and matrix products share it.
#pragma once

#include <vector>

#include "binary/aligned.h"
#include "binary/kernel.h"
#include "glue/op.h"

namespace gr::binary {

// Whether activations come, and results leave, as bits (uint32 words, channels last) or as floats.
struct Form {
  bool bits_in;
  bool bits_out;
};

// Words for so many signs.
constexpr int64_t words_for(int64_t signs) { return signs / 32 + (signs % 32 != 0 ? 1 : 0); }

// Sizes of the weights: [outputs][height][width][words of a group].
struct Sizes {
  size_t channels = 0;  // of the input, all groups together
  size_t groups = 1;
  size_t outputs = 0;
  size_t height = 1, width = 1;  // of the window, in taps
};

// Where the windows of a picture lie. A matrix product is a picture of one row with a window of one tap.
struct Placement {
  size_t images = 1;
  size_t height = 1, width = 1;
  size_t out_height = 1, out_width = 1;
  size_t stride_y = 1, stride_x = 1;
  size_t pad_top = 0, pad_left = 0;
  size_t dilation_y = 1, dilation_x = 1;
  bool padded = false;  // on any side
  bool rows = false;    // floats are [positions][channels] instead of [channels][positions]
};

class Layer {
 public:
  // Reads the inputs that are initializers; `weight` is [outputs][...][words of a group]. Throws Error.
  Layer(const Creation& creation, Form form, const Sizes& sizes, const uint32_t* weight);

  static constexpr size_t weight_index(Form form) { return form.bits_in ? 1 : 2; }
  size_t words() const { return words_; }
  size_t words_out() const { return (sizes_.outputs + 31) / 32; }

  // x: floats or words of all images; y: likewise.
  void run(const Call& call, const Placement& placement, const void* x, void* y) const;

 private:
  struct Slot {  // of a block of outputs
    size_t group;
    size_t first_output, outputs;
    size_t first_lane, lanes;
    size_t weights;
  };
  struct Plan;

  void pack_weights(const uint32_t* weight);
  void sum_taps(const uint32_t* weight);
  void read_numbers(const Creation& creation);
  int32_t term(size_t lane, int32_t total) const;

  Plan plan(const Call& call, const Placement& placement) const;
  void plan_edges(const Call& call, const Placement& placement, Plan& plan) const;
  void write_terms(const Plan& plan, size_t y_from, size_t y_to, size_t x_from, size_t x_to, int32_t* terms) const;
  void run_image(const Call& call, const Placement& placement, const Plan& plan, const void* x, void* y,
                 bool in_parts) const;
  void pack(const Plan& plan, const Placement& placement, const float* x, uint32_t* words, size_t from,
            size_t to) const;
  void fill_map(const Placement& placement, const Plan& plan, const uint32_t* words, uint32_t* map, size_t from,
                size_t to) const;
  void run_slot(const Plan& plan, const Placement& placement, const Slot& slot, const uint32_t* map, size_t from,
                size_t to, void* y) const;
  void run_merged(const Call& call, const Plan& plan, const uint32_t* map, size_t from, size_t to,
                  uint32_t* y) const;
  Map map_of(const Plan& plan, const Slot& slot, const uint32_t* map) const;

  const Table& table_;
  Form form_;
  Sizes sizes_;
  size_t group_channels_, group_outputs_;
  size_t words_, group_words_, window_words_;
  size_t lanes_ = 0;  // of all slots
  std::vector<Slot> slots_;
  Aligned<uint32_t> weights_;    // by slot: [window words][lanes]
  Aligned<int32_t> tap_sums_;    // [height + 1][width + 1][lanes]: sums of +1 and -1 over all taps above and left
  Aligned<int32_t> inside_;      // [lanes]: terms of a window that hangs over nowhere
  Aligned<int32_t> thresholds_;  // [lanes], bits out
  Aligned<float> scale_, bias_;  // [lanes], floats out
  std::vector<float> x_threshold_;  // [channels], floats in
};

}  // namespace gr::binary
