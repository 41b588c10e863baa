#include "mutate.h"

#include <climits>
#include <cmath>
#include <cstring>
#include <limits>

namespace host {

namespace {

constexpr size_t kHighestRank = 7;

template <class T>
T& any_of(std::vector<T>& all, Random& random) {
  return all[random.below(all.size())];
}

int64_t strange_int(int64_t old, Random& random) {
  static constexpr int64_t edges[] = {0, 1, -1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 255, 256,
                                      65535, 65536, INT32_MAX, INT32_MIN, int64_t{1} << 31, int64_t{1} << 32,
                                      int64_t{1} << 33, int64_t{1} << 61, int64_t{1} << 62, INT64_MAX, INT64_MIN,
                                      INT64_MAX - 1, -2, -16, -64};
  switch (random.below(8)) {
    case 0: return old == INT64_MAX ? 0 : old + 1;
    case 1: return old == INT64_MIN ? 0 : old - 1;
    case 2: return static_cast<int64_t>(2 * static_cast<uint64_t>(old));
    case 3: return old / 2;
    case 4: return static_cast<int64_t>(0 - static_cast<uint64_t>(old));
    case 5: return static_cast<int64_t>(random.below(300));
    default: return edges[random.below(sizeof edges / sizeof *edges)];
  }
}

float strange_float(float old, Random& random) {
  using Limits = std::numeric_limits<float>;
  switch (random.below(9)) {
    case 0: return Limits::quiet_NaN();
    case 1: return Limits::infinity();
    case 2: return -Limits::infinity();
    case 3: return 0.0F;
    case 4: return -0.0F;
    case 5: return Limits::max();
    case 6: return Limits::denorm_min();
    case 7: return -old;
    default: return old * 1e6F;
  }
}

void strange_text(std::string& text, Random& random) {
  switch (random.below(4)) {
    case 0: text.clear(); break;
    case 1: text.resize(text.size() / 2); break;
    case 2: text.append(random.below(5000), 'x'); break;
    default:
      for (char& c : text) c = static_cast<char>(random.next());
  }
}

void mutate_attribute(Case& one, const std::vector<const Case*>& others, Random& random) {
  if (one.attributes.empty()) return;
  auto at = one.attributes.begin();
  std::advance(at, random.below(one.attributes.size()));
  Attribute& found = at->second;
  if (random.chance(3)) {  // a value that is right elsewhere reaches deeper than a wrong one
    const auto& lent = others[random.below(others.size())]->attributes;
    const auto same = lent.find(at->first);
    if (same != lent.end()) found = same->second;
    return;
  }
  if (random.chance(25)) {
    one.attributes.erase(at);
    return;
  }
  switch (found.kind) {
    case Attribute::Int: found.i = strange_int(found.i, random); break;
    case Attribute::Float: found.f = strange_float(found.f, random); break;
    case Attribute::Text: strange_text(found.text, random); break;
    case Attribute::Ints:
      if (random.chance(6)) found.ints.resize(random.below(9));
      else if (random.chance(30)) found.ints.assign(2000, 1);
      else if (!found.ints.empty()) { int64_t& value = any_of(found.ints, random); value = strange_int(value, random); }
      break;
    case Attribute::Floats:
      if (random.chance(6)) found.floats.resize(random.below(9));
      else if (!found.floats.empty()) {
        float& value = any_of(found.floats, random);
        value = strange_float(value, random);
      }
      break;
  }
}

// Gives the tensor the length its shape asks for, repeating the old content; a shape too large is put back.
void refit(Tensor& tensor, const std::vector<int64_t>& before, size_t most_elements) {
  size_t elements = 0;
  if (!element_count(tensor.dims, most_elements, &elements)) {
    tensor.dims = before;
    return;
  }
  const size_t old = tensor.bytes.size();
  tensor.bytes.resize(elements * element_size(tensor.type));
  for (size_t k = old; k < tensor.bytes.size(); ++k) tensor.bytes[k] = old == 0 ? 0 : tensor.bytes[k % old];
}

void mutate_shape(Case& one, Random& random, size_t most_elements) {
  if (one.inputs.empty()) return;
  Tensor& tensor = any_of(one.inputs, random);
  const std::vector<int64_t> before = tensor.dims;
  auto& dims = tensor.dims;
  switch (random.below(6)) {
    case 0:
      if (dims.size() < kHighestRank) dims.insert(dims.begin() + static_cast<long>(random.below(dims.size() + 1)), 1);
      break;
    case 1:
      if (!dims.empty()) dims.erase(dims.begin() + static_cast<long>(random.below(dims.size())));
      break;
    case 2:
      if (dims.size() > 1) std::swap(any_of(dims, random), any_of(dims, random));
      break;
    case 3:
      if (!dims.empty()) any_of(dims, random) = 0;
      break;
    default:
      if (!dims.empty()) {
        int64_t& dim = any_of(dims, random);
        dim = random.chance(2) ? dim + 1 : static_cast<int64_t>(random.below(70));
      }
  }
  refit(tensor, before, most_elements);
}

// Replaces one size wherever it stands, in shapes and attributes: the case stays coherent and reaches the loops.
void mutate_size_everywhere(Case& one, Random& random, size_t most_elements) {
  std::vector<int64_t> sizes;
  for (const Tensor& tensor : one.inputs) sizes.insert(sizes.end(), tensor.dims.begin(), tensor.dims.end());
  if (sizes.empty()) return;
  const int64_t old = any_of(sizes, random);
  const int64_t fresh = random.chance(2) ? old + 1 : static_cast<int64_t>(random.below(70));
  for (Tensor& tensor : one.inputs) {
    const std::vector<int64_t> before = tensor.dims;
    for (int64_t& dim : tensor.dims) dim = dim == old ? fresh : dim;
    if (tensor.dims != before) refit(tensor, before, most_elements);
  }
  for (auto& entry : one.attributes) {
    if (entry.second.kind == Attribute::Int && entry.second.i == old) entry.second.i = fresh;
    for (int64_t& value : entry.second.ints) value = value == old ? fresh : value;
  }
}

template <class T>
void put(std::vector<uint8_t>& bytes, size_t element, T value) {
  std::memcpy(bytes.data() + element * sizeof(T), &value, sizeof(T));
}

void mutate_bytes(Case& one, Random& random) {
  if (one.inputs.empty()) return;
  Tensor& tensor = any_of(one.inputs, random);
  auto& bytes = tensor.bytes;
  if (bytes.empty()) return;
  const size_t width = element_size(tensor.type), count = bytes.size() / width;
  const size_t changes = 1 + random.below(random.chance(4) ? count : 4);
  switch (random.below(5)) {
    case 0:
      for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random.next());
      break;
    case 1: {
      static constexpr uint8_t fills[] = {0x00, 0xFF, 0x80, 0x7F, 0x01};
      std::memset(bytes.data(), fills[random.below(sizeof fills)], bytes.size());
      break;
    }
    case 2:
      for (size_t k = 0; k < changes; ++k) bytes[random.below(bytes.size())] ^= uint8_t(1U << random.below(8));
      break;
    default:
      for (size_t k = 0; k < changes; ++k) {
        const size_t at = random.below(count);
        if (tensor.type == 1) put(bytes, at, strange_float(1.0F, random));
        else if (width == 8) put(bytes, at, strange_int(static_cast<int64_t>(random.below(64)), random));
        else if (width == 4) put(bytes, at, static_cast<int32_t>(strange_int(int64_t(random.below(64)), random)));
        else if (width == 2) put(bytes, at, static_cast<uint16_t>(random.chance(3) ? 0x7C00 : random.next()));
        else put(bytes, at, static_cast<uint8_t>(random.next()));
      }
  }
}

void mutate_roles(Case& one, Random& random) {
  if (one.inputs.empty()) return;
  Tensor& tensor = any_of(one.inputs, random);
  if (random.chance(2)) {
    tensor.constant = !tensor.constant;
  } else {
    Tensor& other = any_of(one.inputs, random);
    if (other.type == tensor.type) std::swap(tensor, other);
  }
}

}  // namespace

uint64_t Random::next() {
  uint64_t z = (state_ += 0x9E3779B97F4A7C15U);
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
  return z ^ (z >> 31);
}

void mutate(Case& one, const std::vector<const Case*>& others, Random& random, size_t most_elements) {
  const size_t steps = 1 + random.below(3);
  for (size_t k = 0; k < steps; ++k) {
    switch (random.below(10)) {
      case 0: case 1: case 2: mutate_attribute(one, others, random); break;
      case 3: case 4: mutate_shape(one, random, most_elements); break;
      case 5: case 6: mutate_size_everywhere(one, random, most_elements); break;
      case 7: case 8: mutate_bytes(one, random); break;
      default: mutate_roles(one, random);
    }
  }
}

}  // namespace host
