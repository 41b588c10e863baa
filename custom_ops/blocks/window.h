// How a convolution's window walks over a picture, and the planes that make every step of it a plain shift.
//
// The picture is copied with its padding, one plane per input and *phase*: with a stride of 2, even and odd columns
// (and rows) lie in planes of their own. Reading kernel position (r, c) for output (i, k) is then reading place
// (i + r', k + c') of one plane, for r' and c' that do not depend on i and k. Rows of a plane follow each other at a
// pitch as short as can be: the padding on the right of a row is the padding on the left of the next one.
// For node.cc only.
#pragma once

#include <algorithm>
#include <cstring>
#include <vector>

#include "blocks/layer.h"
#include "glue/op.h"

namespace gr::blocks {

// One direction of the window: attributes, and what a size of the picture makes of them.
struct Axis {
  size_t kernel, stride, before, after, dilation;

  size_t reach() const { return dilation * (kernel - 1) + 1; }
  size_t outputs(size_t size, const char* name) const {
    const size_t padded = size + before + after;
    require(size > 0 && padded >= reach(), [&] {
      return "x has " + std::to_string(size) + " " + name + ", with padding " + std::to_string(padded) +
             "; expected at least 1, and with padding the kernel's " + std::to_string(reach());
    });
    return (padded - reach()) / stride + 1;
  }
  size_t phase(size_t tap) const { return dilation * tap % stride; }
  size_t step(size_t tap) const { return dilation * tap / stride; }
  // Places of a plane of this phase that hold something of the picture are from first() to end().
  size_t first(size_t phase) const { return before > phase ? (before - phase + stride - 1) / stride : 0; }
  size_t end(size_t phase, size_t size) const {
    return before + size > phase ? (before + size - phase + stride - 1) / stride : 0;
  }
  // The phases that any tap reads.
  std::vector<size_t> phases() const {
    std::vector<size_t> found;
    for (size_t tap = 0; tap < kernel; ++tap) found.push_back(phase(tap));
    std::sort(found.begin(), found.end());
    found.erase(std::unique(found.begin(), found.end()), found.end());
    return found;
  }
};

struct Window {
  Axis rows, columns;

  explicit Window(const Creation& node) {
    const auto list = [&](const char* name, size_t length, int64_t least) {
      std::vector<int64_t> values = node.integers(name);
      bool holds = values.size() == length;
      for (const int64_t value : values) holds = holds && value >= least && value <= kMost;
      require(holds, [&] {
        return std::string(name) + " is " + text(values) + "; expected " + std::to_string(length) + " numbers from " +
               std::to_string(least) + " to " + std::to_string(kMost);
      });
      return values;
    };
    const auto kernel = list("kernel_shape", 2, 1), strides = list("strides", 2, 1), pads = list("pads", 4, 0),
               dilations = list("dilations", 2, 1);
    const auto axis = [&](size_t i) {
      const auto size = [](int64_t value) { return static_cast<size_t>(value); };
      return Axis{size(kernel[i]), size(strides[i]), size(pads[i]), size(pads[i + 2]), size(dilations[i])};
    };
    rows = axis(0);
    columns = axis(1);
  }

  size_t taps() const { return rows.kernel * columns.kernel; }
  // Where a picture may be read as it is: output positions are input positions.
  bool is_plain() const {
    const auto plain = [](const Axis& axis) {
      return axis.kernel == 1 && axis.stride == 1 && axis.before == 0 && axis.after == 0;
    };
    return plain(rows) && plain(columns);
  }

  // Sizes and steps that any sane layer stays below, so that sums of their products cannot wrap around.
  static constexpr int64_t kMost = 1 << 20;
};

// The planes of a band of output rows.
class Planes {
 public:
  Planes(const Window& window, size_t channels, size_t height, size_t width)
      : window_(window),
        channels_(channels),
        height_(height),
        width_(width),
        out_height_(window.rows.outputs(height, "rows")),
        out_width_(window.columns.outputs(width, "columns")),
        row_phases_(window.rows.phases()),
        column_phases_(window.columns.phases()) {
    // A row must hold what the picture has of it, and what is read past its end must be padding of the next.
    pitch_ = out_width_;
    std::vector<size_t> read(column_phases_.size(), 0);  // places of each phase
    for (size_t tap = 0; tap < window.columns.kernel; ++tap) {
      read[index(column_phases_, window.columns.phase(tap))] = out_width_ + window.columns.step(tap);
    }
    for (size_t i = 0; i < read.size(); ++i) {
      const size_t phase = column_phases_[i];
      const size_t end = std::min(window.columns.end(phase, width), read[i]);
      pitch_ = std::max({pitch_, end, read[i] - std::min(window.columns.first(phase), read[i])});
    }
    for (const size_t places : read) overhang_ = std::max(overhang_, places > pitch_ ? places - pitch_ : 0);
    deepest_ = window.rows.step(window.rows.kernel - 1);
    // Bands so high that their planes stay in the cache beside weights and outputs, but no lower than a tile is long.
    const size_t row_bytes =
        checked_mul(channels * row_phases_.size() * column_phases_.size(), pitch_ * sizeof(float), "a row");
    const size_t fitting = kBandBytes / std::max<size_t>(row_bytes, 1);
    const size_t least = (kLeastPositions + pitch_ - 1) / pitch_;
    const size_t wanted = std::max(fitting > deepest_ ? fitting - deepest_ : 0, least);
    bands_ = (out_height_ + wanted - 1) / std::max<size_t>(wanted, 1);
    band_ = (out_height_ + bands_ - 1) / bands_;
    bands_ = (out_height_ + band_ - 1) / band_;
    phase_plane_ = checked_add(checked_mul(band_ + deepest_, pitch_, "a plane"), overhang_, "a plane");
    // An odd number of cache lines, so that the planes spread over all sets of a cache.
    const size_t floats = checked_mul(phase_plane_, row_phases_.size() * column_phases_.size(), "a plane");
    plane_ = ((floats + 15) / 16 | 1) * 16;
    require(checked_mul(plane_, channels, "a band") < kMostFloats, [&] {
      return "x has shape [..., " + std::to_string(channels) + ", " + std::to_string(height) + ", " +
             std::to_string(width) + "], of which the kernel's " + std::to_string(window.rows.reach()) + " rows take " +
             std::to_string(plane_ * channels) + " numbers; expected fewer than " + std::to_string(kMostFloats);
    });
  }

  size_t out_height() const { return out_height_; }
  size_t out_width() const { return out_width_; }
  size_t pitch() const { return pitch_; }
  size_t bands() const { return bands_; }
  size_t first_row(size_t band) const { return band * band_; }
  size_t rows(size_t band) const { return std::min(band_, out_height_ - band * band_); }
  size_t plane() const { return plane_; }
  // Floats of a band; tiles may read `slack` more.
  size_t floats(size_t slack) const {
    return checked_add(checked_mul(channels_, plane_, "a band"), slack + pitch_, "a band");
  }

  std::vector<uint32_t> taps() const {
    std::vector<uint32_t> found;
    for (size_t row = 0; row < window_.rows.kernel; ++row) {
      for (size_t column = 0; column < window_.columns.kernel; ++column) {
        const size_t phase = index(row_phases_, window_.rows.phase(row)) * column_phases_.size() +
                             index(column_phases_, window_.columns.phase(column));
        found.push_back(static_cast<uint32_t>(phase * phase_plane_ + window_.rows.step(row) * pitch_ +
                                              window_.columns.step(column)));
      }
    }
    return found;
  }

  // Copies what the band needs of a picture [channels, height, width].
  void fill(const float* picture, size_t band, const Kernels& kernels, float* planes) const {
    const size_t first = first_row(band), depth = rows(band) + deepest_;
    for (size_t channel = 0; channel < channels_; ++channel, picture += height_ * width_) {
      float* to = planes + channel * plane_;
      for (const size_t row_phase : row_phases_) {
        for (const size_t column_phase : column_phases_) {
          fill_phase(picture, first, depth, row_phase, column_phase, kernels, to);
          to += phase_plane_;
        }
      }
    }
  }

 private:
  void fill_phase(const float* picture, size_t first, size_t depth, size_t row_phase, size_t column_phase,
                  const Kernels& kernels, float* to) const {
    const Axis& across = window_.columns;
    const size_t from = std::min(across.first(column_phase), pitch_);
    const size_t end = std::max(from, std::min(across.end(column_phase, width_), pitch_));
    const size_t column = from * across.stride + column_phase - across.before;
    for (size_t row = 0; row < depth; ++row, to += pitch_) {
      const size_t padded = (first + row) * window_.rows.stride + row_phase;
      if (padded < window_.rows.before || padded - window_.rows.before >= height_ || from == end) {
        std::fill_n(to, pitch_, 0.0f);
        continue;
      }
      const float* source = picture + (padded - window_.rows.before) * width_ + column;
      std::fill_n(to, from, 0.0f);
      if (across.stride == 1) {
        std::memcpy(to + from, source, (end - from) * sizeof(float));
      } else {
        kernels.every(source, across.stride, end - from, to + from);
      }
      std::fill_n(to + end, pitch_ - end, 0.0f);
    }
    std::fill_n(to, overhang_, 0.0f);
  }

  // Of a value that is there.
  static size_t index(const std::vector<size_t>& values, size_t value) {
    return static_cast<size_t>(std::lower_bound(values.begin(), values.end(), value) - values.begin());
  }

  static constexpr size_t kBandBytes = 256 * 1024;
  static constexpr size_t kLeastPositions = 96;
  static constexpr size_t kMostFloats = size_t{1} << 29;  // 2 GiB

  const Window& window_;
  size_t channels_, height_, width_, out_height_, out_width_;
  std::vector<size_t> row_phases_, column_phases_;
  size_t pitch_ = 0, overhang_ = 0, deepest_ = 0, band_ = 0, bands_ = 0, phase_plane_ = 0, plane_ = 0;
};

}  // namespace gr::blocks
