// The case file and the comparison with what it expects. The layout is told in casefile.py, which writes it.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>

#include "kernel.h"

namespace host {

namespace {

class Reader {
 public:
  explicit Reader(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    bytes_.assign(std::istreambuf_iterator<char>(file), {});
    const std::string mark = "GRCASES1";
    if (bytes_.compare(0, mark.size(), mark) != 0) fail();
    at_ = mark.size();
  }

  template <class T>
  T number() {
    T value;
    std::memcpy(&value, take(sizeof(T)), sizeof(T));
    return value;
  }
  std::string text() {
    const auto size = number<uint32_t>();
    return std::string(take(size), size);
  }
  std::vector<uint8_t> block() {
    const auto size = number<uint64_t>();
    const char* from = take(size);
    return std::vector<uint8_t>(from, from + size);
  }
  template <class T>
  std::vector<T> list() {
    std::vector<T> values(number<uint32_t>());
    for (T& value : values) value = number<T>();
    return values;
  }

 private:
  const char* take(size_t size) {
    if (size > bytes_.size() - at_) fail();
    const char* from = bytes_.data() + at_;
    at_ += size;
    return from;
  }
  [[noreturn]] static void fail() {
    std::fprintf(stderr, "host: not a case file\n");
    std::exit(2);
  }

  std::string bytes_;
  size_t at_ = 0;
};

Attribute attribute(Reader& file) {
  Attribute found;
  found.kind = static_cast<Attribute::Kind>(file.number<uint8_t>());
  switch (found.kind) {
    case Attribute::Int: found.i = file.number<int64_t>(); break;
    case Attribute::Float: found.f = file.number<float>(); break;
    case Attribute::Text: found.text = file.text(); break;
    case Attribute::Ints: found.ints = file.list<int64_t>(); break;
    case Attribute::Floats: found.floats = file.list<float>(); break;
  }
  return found;
}

std::vector<Tensor> tensors(Reader& file) {
  std::vector<Tensor> all(file.number<uint32_t>());
  for (Tensor& tensor : all) {
    tensor.type = file.number<int32_t>();
    tensor.constant = file.number<uint8_t>() != 0;
    tensor.dims = file.list<int64_t>();
    tensor.bytes = file.block();
  }
  return all;
}

std::string shape_text(const std::vector<int64_t>& dims) {
  std::string text = "[";
  for (const int64_t dim : dims) text += (text.size() > 1 ? ", " : "") + std::to_string(dim);
  return text + "]";
}

// Largest |got - want| over the largest |want|; infinite where exactly one of the two is not finite.
template <class T>
double relative_error(const uint8_t* got, const uint8_t* want, size_t count, double atol) {
  double largest = 0, difference = 0;
  for (size_t k = 0; k < count; ++k) {
    T a, b;
    std::memcpy(&a, got + k * sizeof(T), sizeof(T));
    std::memcpy(&b, want + k * sizeof(T), sizeof(T));
    const double x = static_cast<double>(a), y = static_cast<double>(b);
    if (std::isnan(x) && std::isnan(y)) continue;
    if (x == y) {
      if (std::isfinite(y)) largest = std::fmax(largest, std::fabs(y));
      continue;
    }
    if (!std::isfinite(x) || !std::isfinite(y)) return INFINITY;
    largest = std::fmax(largest, std::fabs(y));
    difference = std::fmax(difference, std::fabs(x - y));
  }
  return difference <= atol ? 0 : difference / std::fmax(largest, 1e-30);
}

// How to compare numbers of a type; null where every bit has to be the same.
double (*measure_for(int32_t type, double rtol))(const uint8_t*, const uint8_t*, size_t, double) {
  if (type == 1) return relative_error<float>;
  if (type == 11) return relative_error<double>;
  if (rtol == 0) return nullptr;
  switch (type) {
    case 2: return relative_error<uint8_t>;
    case 3: return relative_error<int8_t>;
    case 6: return relative_error<int32_t>;
    default: return nullptr;
  }
}

}  // namespace

std::vector<Case> read_cases(const std::string& path) {
  Reader file(path);
  std::vector<Case> all(file.number<uint32_t>());
  for (Case& one : all) {
    one.op = file.text();
    one.label = file.text();
    one.node = file.text();
    one.rtol = file.number<double>();
    one.atol = file.number<double>();
    const auto attributes = file.number<uint32_t>();
    for (uint32_t k = 0; k < attributes; ++k) {
      std::string name = file.text();
      one.attributes[name] = attribute(file);
    }
    one.inputs = tensors(file);
    one.expected = tensors(file);
  }
  return all;
}

std::string described(const Case& one) {
  std::string text;
  for (const auto& [name, value] : one.attributes) {
    text += "  " + name + " = ";
    switch (value.kind) {
      case Attribute::Int: text += std::to_string(value.i); break;
      case Attribute::Float: text += std::to_string(value.f); break;
      case Attribute::Text: text += '"' + value.text.substr(0, 100) + '"'; break;
      case Attribute::Ints: text += shape_text(value.ints); break;
      case Attribute::Floats: text += std::to_string(value.floats.size()) + " numbers"; break;
    }
    text += '\n';
  }
  for (size_t k = 0; k < one.inputs.size(); ++k) {
    const Tensor& input = one.inputs[k];
    text += "  input " + std::to_string(k) + (input.constant ? ", constant: " : ": ") + shape_text(input.dims) + '\n';
  }
  return text;
}

Refused differs(const Case& one, const Context& context, double* worst) {
  if (context.outputs.size() != one.expected.size()) return "the op has another number of outputs";
  for (size_t k = 0; k < one.expected.size(); ++k) {
    const Tensor& want = one.expected[k];
    const std::string which = "output " + std::to_string(k);
    if (context.outputs[k] == nullptr) return which + " was never asked for";
    const Value& got = *context.outputs[k];
    if (got.shape.type != want.type) return which + " has another element type";
    if (got.shape.dims != want.dims) {
      return which + " has shape " + shape_text(got.shape.dims) + ", expected " + shape_text(want.dims);
    }
    if (want.bytes.empty()) continue;
    const size_t width = element_size(want.type), count = want.bytes.size() / width;
    double error = 0;
    const auto measure = measure_for(want.type, one.rtol);
    if (measure != nullptr) {
      error = measure(got.block.data(), want.bytes.data(), count, one.atol);
    } else if (std::memcmp(got.block.data(), want.bytes.data(), want.bytes.size()) != 0) {
      return which + " differs in some bits";
    }
    *worst = std::fmax(*worst, error);
    if (!(error <= one.rtol)) {
      char text[96];
      std::snprintf(text, sizeof text, " is off by %.3g of its largest value, %.3g allowed", error, one.rtol);
      return which + text;
    }
  }
  return std::nullopt;
}

}  // namespace host
