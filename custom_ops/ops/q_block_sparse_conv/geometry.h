// Which inputs a convolution's outputs see: the window every node has, and the layout of the copy for a picture's size.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "glue/op.h"
#include "ops/q_block_sparse_conv/kernel.h"

namespace gr::q_block_sparse_conv {

// Kernel, steps and borders, rows first. Made of a node's attributes; throws where they are impossible.
struct Window {
  size_t kernel[2], strides[2], dilations[2], begin[2], end[2];

  template <class Node>
  explicit Window(const Node& node) {
    read(node.integers("kernel_shape"), "kernel_shape", 1, kernel);
    read(node.integers("strides"), "strides", 1, strides);
    read(node.integers("dilations"), "dilations", 1, dilations);
    const std::vector<int64_t> pads = node.integers("pads");
    require(pads.size() == 4, [&] { return "pads is " + text(pads) + "; expected top, left, bottom, right"; });
    read({pads[0], pads[1]}, "pads", 0, begin);
    read({pads[2], pads[3]}, "pads", 0, end);
    checked_mul(checked_mul(kernel[0], kernel[1], "the kernel"), quads::kBlock, "the kernel");
  }

  size_t taps() const { return kernel[0] * kernel[1]; }
  // How far apart the first and the last position of the kernel are.
  size_t reach(size_t axis) const { return dilations[axis] * (kernel[axis] - 1); }
  // Outputs along an axis of `size` inputs.
  size_t outputs(size_t axis, size_t size) const {
    const size_t padded = size + begin[axis] + end[axis];
    require(padded > reach(axis), [&] {
      return "x has " + std::to_string(size) + (axis == 0 ? " rows" : " columns") + " and " +
             std::to_string(begin[axis] + end[axis]) + " of border; expected at least the kernel's " +
             std::to_string(reach(axis) + 1);
    });
    return (padded - reach(axis) - 1) / strides[axis] + 1;
  }

 private:
  static void read(const std::vector<int64_t>& from, const char* name, int64_t least, size_t (&to)[2]) {
    for (size_t i = 0; i < 2; ++i) {
      // Products of two of these stay far below what a size can hold.
      require(from.size() == 2 && from[i] >= least && from[i] <= int64_t{1} << 30, [&] {
        return std::string(name) + " is " + text(from) + "; expected numbers from " + std::to_string(least) +
               " to 2^30, for rows and columns";
      });
      to[i] = static_cast<size_t>(from[i]);
    }
  }
};

// The layout for one size of picture; see Band.
class Geometry {
 public:
  size_t height, width;                // of the input
  size_t out_height, out_width;        // as the kernel sees them
  size_t shown_height, shown_width;    // as the caller sees them

  Geometry(const Window& window, size_t rows, size_t columns, size_t quads, size_t most_pixels)
      : height(rows),
        width(columns),
        out_height(window.outputs(0, rows)),
        out_width(window.outputs(1, columns)),
        shown_height(out_height),
        shown_width(out_width),
        window_(window) {
    const bool is_pointwise = window.taps() == 1 && window.strides[0] == 1 && window.strides[1] == 1 &&
                              window.begin[0] + window.begin[1] + window.end[0] + window.end[1] == 0;
    if (is_pointwise) {  // where no output sees more than its own pixel, a picture is one long row
      width = out_width = checked_mul(rows, columns, "a picture");
      height = out_height = rows == 0 ? 0 : 1;
    }
    const size_t last[2] = {window.reach(0) / window.strides[0], window.reach(1) / window.strides[1]};
    phases_y_ = phases(0);
    phases_x_ = phases(1);
    const size_t whole = checked_add(out_width, last[1], "a row");
    // Without steps the right border of a row may be the left border of the next one: as much of it as lies behind the
    // outputs, whose places must not overlap.
    shared_ = window.strides[1] == 1 ? std::min({window.begin[1], window.end[1], last[1]}) : 0;
    pitch_ = whole - shared_;
    const size_t row_bytes = checked_mul(checked_mul(pitch_, phases_x_ * phases_y_, "a row"), quads * 4, "a row");
    const size_t bytes = checked_mul(row_bytes, checked_add(out_height, last[0], "a column"), "the working copy");
    band_rows_ = std::max<size_t>(1, out_height / std::max<size_t>(1, std::min(out_height, bytes / kBandBytes)));
    halo_rows_ = band_rows_ + last[0];
    phase_ = checked_add(checked_mul(halo_rows_, pitch_, "a band"), shared_, "a band");
    plane_ = checked_mul(checked_mul(phase_, phases_x_ * phases_y_, "a band"), quads::kInputs, "a band");
    halo_bytes_ = checked_add(checked_mul(plane_, quads, "a band"), quads::kBlock, "a band");
    for (size_t row = 0; row < window.kernel[0]; ++row) {
      for (size_t column = 0; column < window.kernel[1]; ++column) {
        const size_t down = row * window.dilations[0], across = column * window.dilations[1];
        const size_t phase = down % window.strides[0] * phases_x_ + across % window.strides[1];
        const size_t pixel = down / window.strides[0] * pitch_ + across / window.strides[1];
        taps_.push_back((phase * phase_ + pixel) * quads::kInputs);
      }
    }
    is_flat_ = cost((band_rows_ - 1) * pitch_ + out_width, most_pixels) < band_rows_ * cost(out_width, most_pixels);
  }

  size_t bands() const { return (out_height + band_rows_ - 1) / band_rows_; }
  size_t first_row(size_t band) const { return band * band_rows_; }
  size_t halo_bytes() const { return halo_bytes_; }
  size_t line_bytes() const { return checked_mul(checked_add(width, 16, "a row"), quads::kInputs, "a row"); }

  // The band without what depends on the picture.
  Band band(size_t index) const {
    Band band{};
    band.height = height;
    band.width = width;
    band.stride_y = window_.strides[0];
    band.stride_x = window_.strides[1];
    band.phases_y = phases_y_;
    band.phases_x = phases_x_;
    band.top = window_.begin[0];
    band.left = window_.begin[1];
    band.first_row = first_row(index);
    band.halo_rows = halo_rows_;
    band.pitch = pitch_;
    band.phase = phase_;
    band.taps = taps_.data();
    band.plane = plane_;
    band.rows = std::min(band_rows_, out_height - first_row(index));
    band.out_width = out_width;
    band.out_plane = out_height * out_width;
    band.is_flat = is_flat_;
    return band;
  }

 private:
  // A band's copy should stay in the second-level cache.
  static constexpr size_t kBandBytes = size_t{192} << 10;

  size_t phases(size_t axis) const {
    size_t most = 0;
    for (size_t i = 0; i < std::min(window_.kernel[axis], window_.strides[axis]); ++i) {
      most = std::max(most, i * window_.dilations[axis] % window_.strides[axis]);
    }
    return most + 1;
  }

  // What a run of pixels takes, in pixels: a tile costs its length and a bit.
  static size_t cost(size_t pixels, size_t most_pixels) {
    return pixels + (pixels + most_pixels - 1) / most_pixels * 4;
  }

  const Window& window_;
  size_t phases_y_, phases_x_, pitch_, shared_, band_rows_, halo_rows_, phase_, plane_, halo_bytes_;
  std::vector<size_t> taps_;
  bool is_flat_;
};

}  // namespace gr::q_block_sparse_conv
