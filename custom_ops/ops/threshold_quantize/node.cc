#include <algorithm>

#include "glue/op.h"
#include "ops/threshold_quantize/kernel.h"

namespace gr::threshold_quantize {
namespace {

constexpr size_t kMost = 255;  // thresholds: their count is a byte
// Comparisons that are worth a trip to another thread.
constexpr size_t kComparisonsPerPart = 1 << 18;

class ThresholdQuantize : public Kernel {
 public:
  explicit ThresholdQuantize(const Creation& creation) : table_(pick(creation.isa())) {}

  void compute(const Call& call) const override {
    const Tensor x = call.input(0), thresholds = call.input(1);
    require(x.rank() >= 1, [&] { return "x has shape " + text(x.dims) + "; expected [N, ...]"; });
    require(thresholds.rank() == 1 || thresholds.rank() == 2,
            [&] { return "thresholds have shape " + text(thresholds.dims) + "; expected [m] or [C, m]"; });
    const bool own = thresholds.rank() == 2;
    require(!own || (x.rank() >= 2 && thresholds.dims[0] == x.dims[1]), [&] {
      return "thresholds have shape " + text(thresholds.dims) + " beside x of " + text(x.dims) +
             "; expected a row for each channel of [N, C, ...]";
    });
    const size_t m = static_cast<size_t>(thresholds.dims.back());
    require(m <= kMost,
            [&] { return "there are " + std::to_string(m) + " thresholds; expected 255 at most, which a byte counts"; });
    uint8_t* codes = call.output<uint8_t>(0, x.dims);
    const float* data = x.as<float>();
    const float* rows = thresholds.as<float>();
    // Numbers that share their thresholds: all of them, or a channel of a picture.
    const size_t runs = own ? static_cast<size_t>(x.dims[0] * x.dims[1]) : 1;
    const size_t channels = own ? static_cast<size_t>(x.dims[1]) : 1;
    if (x.count() == 0) return;
    const size_t length = x.count() / runs;
    const size_t in_part = std::max<size_t>(1, kComparisonsPerPart / std::max<size_t>(1, m));
    if (length >= in_part) {
      const size_t parts = (length + in_part - 1) / in_part;
      call.parallel(runs * parts, [&](size_t index) {
        const size_t run = index / parts, from = index % parts * in_part;
        const size_t count = std::min(in_part, length - from), start = run * length + from;
        table_.count(data + start, codes + start, count, rows + run % channels * m, m);
      });
      return;
    }
    const size_t together = in_part / length, parts = (runs + together - 1) / together;
    call.parallel(parts, [&](size_t part) {
      for (size_t run = part * together; run < std::min(runs, (part + 1) * together); ++run)
        table_.count(data + run * length, codes + run * length, length, rows + run % channels * m, m);
    });
  }

 private:
  const Table& table_;
};

void infer(const Inference& node) {
  const Inference::Sizes x = node.input(0);
  if (!x.empty()) node.output(0, x);
}

std::unique_ptr<Kernel> create(const Creation& creation) { return std::make_unique<ThresholdQuantize>(creation); }

}  // namespace

extern const Definition definition = {create, infer};

}  // namespace gr::threshold_quantize
