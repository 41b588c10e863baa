// What the nodes of linear layers with a fast transform between diagonals share.
#pragma once

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "glue/rows.h"

namespace gr::diagonals {

inline size_t up(size_t length, size_t multiple) { return (length + multiple - 1) / multiple * multiple; }

inline Tensor vector(const Creation& creation, size_t index, const char* name) {
  Tensor tensor = creation.needed(index, name);
  require(tensor.rank() == 1,
          [&] { return std::string(name) + " has shape " + text(tensor.dims) + "; expected one axis"; });
  return tensor;
}

inline Tensor finite(Tensor tensor, const char* name) {
  const float* values = tensor.as<float>();
  for (size_t i = 0; i < tensor.count(); ++i) {
    require(std::isfinite(values[i]), [&] {
      return std::string(name) + "[" + std::to_string(i) + "] is not finite; expected finite numbers";
    });
  }
  return tensor;
}

// The numbers with `factor` in them, and as many zeros behind them as a vector of `lanes` may touch.
inline std::vector<float> padded(const Tensor& tensor, size_t lanes, float factor = 1.0f) {
  const float* values = tensor.as<float>();
  std::vector<float> copy(up(tensor.count(), lanes) + lanes);
  std::transform(values, values + tensor.count(), copy.begin(), [&](float value) { return value * factor; });
  return copy;
}

// Position `i` of a permutation of `count` that comes from a file.
inline size_t checked_position(const int64_t* permutation, size_t i, size_t count) {
  require(permutation[i] >= 0 && permutation[i] < static_cast<int64_t>(count), [&] {
    return "permutation[" + std::to_string(i) + "] is " + text(permutation[i]) + "; expected 0 to " +
           std::to_string(count - 1);
  });
  return static_cast<size_t>(permutation[i]);
}

// Positions, in half the bytes where those can hold them.
class Permutation {
 public:
  void resize(size_t count) {
    if (count <= size_t{1} << 16) {
      narrow_.resize(count);
    } else {
      wide_.resize(count);
    }
  }
  void set(size_t at, size_t from) {
    if (!narrow_.empty()) {
      narrow_[at] = static_cast<uint16_t>(from);
    } else {
      wide_[at] = static_cast<uint32_t>(from);
    }
  }

  // Puts all rows through the table's function for this width, in parts of `per_part` rows with `room` floats of working
  // memory; layer(positions) describes the layer to it.
  template <class Table, class MakeLayer>
  void run(const Call& call, const Table& table, const MakeLayer& layer, const FloatRows& rows, size_t per_part,
           size_t room) const {
    call.parallel((rows.count + per_part - 1) / per_part, [&](size_t part) {
      const size_t from = part * per_part, count = std::min(per_part, rows.count - from);
      const float* x = rows.x + from * rows.in;
      float *y = rows.y + from * rows.out, *work = call.scratch<float>(room);
      if (!narrow_.empty()) {
        table.narrow(layer(narrow_.data()), x, y, count, work);
      } else {
        table.wide(layer(wide_.data()), x, y, count, work);
      }
    });
  }

 private:
  std::vector<uint16_t> narrow_;
  std::vector<uint32_t> wide_;
};

}  // namespace gr::diagonals
