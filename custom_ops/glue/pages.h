// Memory for weights that kernels read from one end to the other, once per call.
//
// In huge pages where Linux gives them: a stream that comes from memory is read 1.2 to 1.4 times as fast, for the
// translation of every fourth kilobyte is a miss too (measured on a virtual machine, where it costs most).
#pragma once

#include <cstddef>
#include <cstdint>

namespace gr {

class Pages {
 public:
  // Every pointer is aligned to a cache line, and this many bytes behind it may be read too.
  static constexpr size_t kSlack = 64;

  Pages() = default;
  explicit Pages(size_t bytes);
  ~Pages();
  Pages(Pages&& other) noexcept;
  Pages& operator=(Pages&& other) noexcept;
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;

  uint8_t* data() { return data_; }

 private:
  uint8_t* data_ = nullptr;
  void* start_ = nullptr;  // what was taken from the system, where it was
  size_t bytes_ = 0;
};

}  // namespace gr
