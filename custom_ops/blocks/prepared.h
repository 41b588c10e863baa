// A layer of blocks as a node brings it: checked, and laid out as the kernels read it. For node.cc only.
#pragma once

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "blocks/layer.h"
#include "blocks/read_finish.h"
#include "glue/op.h"
#include "glue/pages.h"

namespace gr::blocks {

class Prepared {
 public:
  // Reads the inputs 1 to 3 (`blocks`, `positions`, `bias`) and the activation of a node whose dense weight would be
  // [outputs, inputs, taps].
  Prepared(const Creation& node, size_t outputs, size_t inputs, size_t taps) {
    const Tensor blocks = node.needed(1, "blocks"), positions = node.needed(2, "positions"),
                 bias = node.needed(3, "bias");
    require(outputs > 0 && inputs > 0 && taps > 0, [&] {
      return "the weight would be [" + std::to_string(outputs) + ", " + std::to_string(inputs) + ", " +
             std::to_string(taps) + "]; expected sizes above 0";
    });
    require(blocks.rank() == 2 && is_width(blocks.dims[1]), [&] {
      return "blocks has shape " + text(blocks.dims) + "; expected [blocks, N] with N one of 1, 4, 8, 16, 32";
    });
    const size_t count = static_cast<size_t>(blocks.dims[0]), width = static_cast<size_t>(blocks.dims[1]);
    require(positions.rank() == 1 && positions.dims[0] == blocks.dims[0], [&] {
      return "positions has shape " + text(positions.dims) + " beside blocks of shape " + text(blocks.dims) +
             "; expected one position for each block";
    });
    require(bias.rank() == 1 && static_cast<size_t>(bias.dims[0]) == outputs, [&] {
      return "bias has shape " + text(bias.dims) + "; expected [" + std::to_string(outputs) + "]";
    });
    const size_t columns = checked_mul(inputs, taps, "a row of the weight");
    const size_t groups = (outputs + width - 1) / width;
    const size_t places = checked_mul(groups, columns, "the number of block positions");
    require(places <= INT32_MAX, [&] {
      return "the weight has " + std::to_string(places) + " block positions; expected at most " +
             std::to_string(INT32_MAX);
    });

    while ((size_t{1} << tap_bits_) < taps) ++tap_bits_;
    values_ = Pages(checked_mul(checked_mul(count, width, "the blocks"), sizeof(float), "the blocks"));
    auto* values = reinterpret_cast<float*>(values_.data());
    std::copy_n(blocks.as<float>(), count * width, values);
    bias_.assign(checked_add(groups * width, kSlack, "the biases"), 0.0f);
    std::copy_n(bias.as<float>(), outputs, bias_.data());
    where_ = Pages(checked_mul(count, sizeof(uint32_t), "the positions"));
    auto* where = reinterpret_cast<uint32_t*>(where_.data());
    starts_.assign(groups + 1, 0);
    int64_t before = -1;
    for (size_t j = 0; j < count; ++j) {
      const int64_t position = positions.as<int32_t>()[j];
      require(position > before && position < static_cast<int64_t>(places), [&] {
        return "positions[" + std::to_string(j) + "] is " + std::to_string(position) +
               "; expected rising numbers from 0 to " + std::to_string(places - 1);
      });
      before = position;
      const size_t place = static_cast<size_t>(position);
      ++starts_[place / columns + 1];
      // Fits: input * 2^tap_bits is below 2 * inputs * taps, and that is below 2^32.
      where[j] = static_cast<uint32_t>((place % columns / taps) << tap_bits_ | place % taps);
    }
    for (size_t group = 0; group < groups; ++group) starts_[group + 1] += starts_[group];

    layer_ = {width, outputs, values, where, starts_.data(), tap_bits_, bias_.data(), read_finish(node)};
  }
  Prepared(const Prepared&) = delete;
  Prepared& operator=(const Prepared&) = delete;

  const Layer& layer() const { return layer_; }
  size_t groups() const { return starts_.size() - 1; }
  size_t blocks() const { return starts_.back(); }
  // Multiplications and additions for one position of every output.
  size_t work_per_position() const { return 2 * blocks() * layer_.width; }

  // Cuts the groups into at most `most` ranges of about equally many blocks, for parts of at least `least` operations
  // of `positions` positions; returns their borders.
  std::vector<size_t> ranges(size_t positions, size_t most, size_t least) const {
    const double operations = static_cast<double>(work_per_position()) * static_cast<double>(positions);
    const size_t wanted = std::min(static_cast<size_t>(operations / static_cast<double>(least)) + 1, most);
    const size_t parts = std::max<size_t>(1, std::min(wanted, groups()));
    std::vector<size_t> borders{0};
    for (size_t part = 1; part < parts; ++part) {
      const auto from = starts_.begin() + static_cast<std::ptrdiff_t>(borders.back());
      const auto border = std::lower_bound(from, starts_.end(), blocks() * part / parts);
      const size_t group = std::min(static_cast<size_t>(border - starts_.begin()), groups());
      if (group > borders.back() && group < groups()) borders.push_back(group);
    }
    borders.push_back(groups());
    return borders;
  }

 private:
  static bool is_width(int64_t width) {
    return width == 1 || width == 4 || width == 8 || width == 16 || width == 32;
  }

  // Floats behind the biases that a vector may read.
  static constexpr size_t kSlack = 16;

  unsigned tap_bits_ = 0;
  Pages values_, where_;
  std::vector<float> bias_;
  std::vector<uint32_t> starts_;
  Layer layer_{};
};

// Tiles over `count` positions that lie one behind the other, all of which are kept: position `from` of the planes is
// `from` of the output. Where `inside`, no tile reads past the last position, for which count must be at least `lanes`.
inline void cover(size_t count, size_t lanes, size_t most, bool inside, std::vector<Tile>& tiles,
                  std::vector<Run>& runs) {
  const size_t vectors = (count + lanes - 1) / lanes;
  // One piece that is longer than all there is would have nowhere to read from.
  const size_t least = inside && vectors * lanes > count ? 2 : 1;
  const size_t pieces = std::max((vectors + most - 1) / most, least);
  size_t done = 0;
  for (size_t piece = 0; piece < pieces; ++piece) {
    // Pieces of nearly the same size: one of a single register would wait for its own multiply-adds.
    const size_t high = vectors * (piece + 1) / pieces - vectors * piece / pieces;
    const size_t end = std::min(count, done + high * lanes);
    const size_t from = inside && done + high * lanes > count ? count - high * lanes : done;
    const auto run = static_cast<uint32_t>(runs.size());
    tiles.push_back({static_cast<uint32_t>(from), static_cast<uint32_t>(high), run, run + 1});
    runs.push_back(
        {static_cast<uint32_t>(done - from), static_cast<uint32_t>(done), static_cast<uint32_t>(end - done)});
    done = end;
  }
}

}  // namespace gr::blocks
