// What op code throws when something it was given is wrong, and arithmetic on sizes that cannot wrap around.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>

namespace gr {

// Thrown by op code, caught at the border: onnxruntime gets a status that names the node and holds the text.
// The text says what is wrong with figures, and what was expected.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Throws unless `holds`. The message is only put together when it is needed: pass a function that returns it.
template <class Message>
void require(bool holds, const Message& message) {
  if (!holds) throw Error(message());
}

inline std::string text(int64_t number) { return std::to_string(number); }

// The product of sizes that come from a file. Throws where it would not fit; `what` names it in the message.
inline size_t checked_mul(size_t a, size_t b, const char* what) {
  if (b != 0 && a > static_cast<size_t>(std::numeric_limits<int64_t>::max()) / b) {
    throw Error(std::string(what) + " would be " + std::to_string(a) + " x " + std::to_string(b) +
                ", more than memory can hold; expected sizes whose product is below 2^63");
  }
  return a * b;
}

inline size_t checked_add(size_t a, size_t b, const char* what) {
  if (a > static_cast<size_t>(std::numeric_limits<int64_t>::max()) - b) {
    throw Error(std::string(what) + " would be " + std::to_string(a) + " + " + std::to_string(b) +
                ", more than memory can hold; expected sizes whose sum is below 2^63");
  }
  return a + b;
}

// A size out of an attribute or a shape: not negative, at most `most`.
inline size_t checked_size(int64_t value, const char* what, int64_t most = std::numeric_limits<int32_t>::max()) {
  if (value < 0 || value > most) {
    throw Error(std::string(what) + " is " + std::to_string(value) + "; expected 0 to " + std::to_string(most));
  }
  return static_cast<size_t>(value);
}

}  // namespace gr
