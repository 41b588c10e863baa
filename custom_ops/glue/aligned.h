// Memory that a kernel keeps for its life, aligned to a cache line and with one line behind it that may be read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "glue/error.h"

namespace gr {

template <class T>
class Aligned {
 public:
  Aligned() = default;
  explicit Aligned(size_t count) {
    constexpr size_t kLine = 64;
    owner_ = std::make_unique<unsigned char[]>(
        checked_add(checked_mul(count, sizeof(T), "a layer's memory"), 2 * kLine, "a layer's memory"));
    const auto address = reinterpret_cast<uintptr_t>(owner_.get());
    data_ = reinterpret_cast<T*>((address + kLine - 1) / kLine * kLine);
  }

  // Zero at first.
  T* data() { return data_; }
  const T* data() const { return data_; }
  T& operator[](size_t index) { return data_[index]; }
  const T& operator[](size_t index) const { return data_[index]; }

 private:
  std::unique_ptr<unsigned char[]> owner_;
  T* data_ = nullptr;
};

}  // namespace gr
