// gr_host: runs the kernels of a custom-op library without onnxruntime.
//
//   gr_host list LIBRARY                                   names of the library's ops
//   gr_host run  LIBRARY CASES [--threads N] [--at-once M] every case, compared with what it expects
//   gr_host fuzz LIBRARY CASES --op NAME [--count N] [--seed S] [--only K] [--seconds T]
//                                                          mutated cases; anything but a clear error or a run of less
//                                                          than T seconds ends it
// --api V serves the library as an onnxruntime of that API version (18).
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <thread>

#include <unistd.h>

#include "kernel.h"
#include "mutate.h"

extern "C" void __sanitizer_set_death_callback(void (*)()) __attribute__((weak));

namespace {

using namespace host;

constexpr size_t kFuzzElements = size_t{1} << 15;
constexpr size_t kFuzzBytes = size_t{1} << 23;

struct Options {
  std::string verb, library, cases;
  std::map<std::string, std::string> named;
  uint64_t number(const std::string& name, uint64_t otherwise) const {
    const auto at = named.find(name);
    return at == named.end() ? otherwise : std::strtoull(at->second.c_str(), nullptr, 10);
  }
};

char where[256] = "";  // what is running, for the report of a fault

void tell_where() {
  const ssize_t ignored = write(STDERR_FILENO, where, std::strlen(where));
  (void)ignored;
}

void on_signal(int number) {
  tell_where();
  const char* text = number == SIGALRM ? "host: this took too long\n" : "host: the process was aborted\n";
  const ssize_t ignored = write(STDERR_FILENO, text, std::strlen(text));
  (void)ignored;
  _exit(3);
}

void report_faults() {
  if (__sanitizer_set_death_callback != nullptr) __sanitizer_set_death_callback(tell_where);
  std::signal(SIGABRT, on_signal);
  std::signal(SIGALRM, on_signal);
}

// A shape the op inferred must be the one it produced wherever it is a number.
Refused inferred_wrong(const Op& op, const Case& one) {
  std::vector<std::unique_ptr<TypeShape>> shapes;
  if (op.version < 17 || op.infer == nullptr) return std::nullopt;
  if (Refused refused = infer(op, one.attributes, one.inputs, shapes)) return "shape inference: " + *refused;
  for (size_t k = 0; k < one.expected.size(); ++k) {
    const auto& dims = one.expected[k].dims;
    if (shapes[k] == nullptr) return "shape inference left out output " + std::to_string(k);
    if (shapes[k]->dims.size() != dims.size()) return "shape inference found another rank";
    for (size_t d = 0; d < dims.size(); ++d) {
      if (shapes[k]->dims[d] >= 0 && shapes[k]->dims[d] != dims[d]) return "shape inference found another size";
    }
  }
  return std::nullopt;
}

Refused check(const Library& library, const Op& op, const Case& one, size_t threads, size_t at_once, size_t shift,
              double* worst) {
  if (Refused wrong = inferred_wrong(op, one)) return wrong;
  const Inputs inputs = place(one.inputs, shift);
  const Kernel kernel(library, op, one.node, one.attributes, inputs);
  if (kernel.refused()) return "creation: " + *kernel.refused();
  std::vector<Refused> wrong(at_once);
  std::vector<double> errors(at_once, 0);
  const auto work = [&](size_t k) {
    Context context = call(op, inputs, threads);
    wrong[k] = kernel.run(context);
    if (!wrong[k]) wrong[k] = differs(one, context, &errors[k]);
  };
  std::vector<std::thread> others;
  for (size_t k = 1; k < at_once; ++k) others.emplace_back(work, k);
  work(0);
  for (auto& other : others) other.join();
  for (size_t k = 0; k < at_once; ++k) {
    *worst = errors[k] > *worst ? errors[k] : *worst;
    if (wrong[k]) return wrong[k];
  }
  return std::nullopt;
}

int run(const Options& options) {
  const Library library(options.library, static_cast<uint32_t>(options.number("api", 18)));
  size_t failures = 0, checked = 0;
  double worst = 0;
  for (const Case& one : read_cases(options.cases)) {
    const Op* op = library.find(one.op);
    if (op == nullptr) {
      std::printf("%s: the library has no such op\n", one.op.c_str());
      return 1;
    }
    std::snprintf(where, sizeof where, "host: in %.80s, case %.100s\n", one.op.c_str(), one.label.c_str());
    for (const size_t shift : {size_t{0}, size_t{4}}) {
      const Refused wrong = check(library, *op, one, options.number("threads", 1), options.number("at-once", 1), shift,
                                  &worst);
      if (wrong) std::printf("%s, case %s: %s\n", one.op.c_str(), one.label.c_str(), wrong->c_str());
      failures += wrong.has_value();
      ++checked;
    }
  }
  std::printf("%zu runs, %zu wrong, largest relative error %.3g, %zu loops split\n", checked, failures, worst,
              split_loops());
  return failures == 0 && checked != 0 ? 0 : 1;
}

// An error must be of use to who reads it: the node, and what is wrong with it.
bool is_clear(const std::string& text, const std::string& node) {
  constexpr size_t kShortestReason = 24;
  const size_t at = text.find(node);
  return at != std::string::npos && text.size() - at - node.size() >= kShortestReason;
}

int fuzz(const Options& options) {
  const Library library(options.library, static_cast<uint32_t>(options.number("api", 18)));
  const std::string name = options.named.count("op") != 0 ? options.named.at("op") : "";
  const Op* op = library.find(name);
  const std::vector<Case> all = read_cases(options.cases);
  std::vector<const Case*> valid;
  for (const Case& one : all) {
    size_t largest = 0;
    for (const Tensor& tensor : one.inputs) largest = std::max(largest, tensor.bytes.size());
    if (one.op == name && largest <= 4 * kFuzzElements) valid.push_back(&one);
  }
  if (op == nullptr || valid.empty()) {
    std::printf("%s: no such op, or no case of it that is small enough\n", name.c_str());
    return 1;
  }
  const uint64_t seed = options.number("seed", 1), count = options.number("count", 100000);
  const uint64_t first = options.number("only", 0), last = options.named.count("only") != 0 ? first + 1 : count;
  size_t refused = 0, refused_running = 0, ran = 0;
  for (uint64_t k = first; k < last; ++k) {
    std::snprintf(where, sizeof where, "host: in %.80s, seed %llu, to repeat: --only %llu\n", name.c_str(),
                  static_cast<unsigned long long>(seed), static_cast<unsigned long long>(k));
    Random random(seed * 0x100000001B3U + k);
    Case one = *valid[random.below(valid.size())];
    mutate(one, valid, random, kFuzzElements);
    if (options.named.count("only") != 0) std::printf("%s", described(one).c_str()), std::fflush(stdout);
    alarm(static_cast<unsigned>(options.number("seconds", 20)));
    std::vector<std::unique_ptr<TypeShape>> shapes;
    std::vector<Tensor> partly = one.inputs;
    for (Tensor& tensor : partly) {
      for (int64_t& dim : tensor.dims) dim = random.chance(4) ? -1 : dim;
    }
    infer(*op, one.attributes, partly, shapes);
    const Inputs inputs = place(one.inputs, random.chance(2) ? 0 : 4);
    const Kernel kernel(library, *op, one.node, one.attributes, inputs);
    Refused why = kernel.refused();
    if (why) {
      ++refused;
    } else {
      Context context = call(*op, inputs, 1 + random.below(2));
      context.most_bytes = kFuzzBytes;
      why = kernel.run(context);
      ++(why ? refused_running : ran);
    }
    if (why && !is_clear(*why, one.node)) {
      std::printf("%san unclear error: %s\n", where, why->c_str());
      return 1;
    }
  }
  alarm(0);
  std::printf("%s: %llu cases, %zu refused at creation, %zu refused when run, %zu ran\n", name.c_str(),
              static_cast<unsigned long long>(last - first), refused, refused_running, ran);
  return 0;
}

int list(const Options& options) {
  for (const std::string& name : Library(options.library, 18).names()) std::printf("%s\n", name.c_str());
  return 0;
}

}  // namespace

int main(int count, char** words) {
  Options options;
  std::vector<std::string> plain;
  for (int k = 1; k < count; ++k) {
    if (std::strncmp(words[k], "--", 2) == 0 && k + 1 < count) {
      options.named[words[k] + 2] = words[k + 1];
      ++k;
    } else {
      plain.emplace_back(words[k]);
    }
  }
  plain.resize(3);
  options.verb = plain[0], options.library = plain[1], options.cases = plain[2];
  report_faults();
  if (options.verb == "run") return run(options);
  if (options.verb == "fuzz") return fuzz(options);
  if (options.verb == "list") return list(options);
  std::fprintf(stderr, "gr_host list|run|fuzz LIBRARY [CASES] [--name value ...]\n");
  return 2;
}
