#include <algorithm>

#include "glue/op.h"
#include "ops/pack_signs/kernel.h"

namespace gr::pack_signs {
namespace {

// Enough positions that a part is worth a trip to another thread.
constexpr size_t kPositionsPerPart = 512;

class PackSigns : public Kernel {
 public:
  explicit PackSigns(const Creation& creation) : table_(pick(creation.isa())) {}

  void compute(const Call& call) const override {
    const Tensor x = call.input(0);
    require(x.rank() >= 2, [&] { return "x has shape " + text(x.dims) + "; expected [N, C, ...]"; });
    const size_t batch = static_cast<size_t>(x.dims[0]), channels = static_cast<size_t>(x.dims[1]);
    Dims out{x.dims[0]};
    out.insert(out.end(), x.dims.begin() + 2, x.dims.end());
    const size_t positions = Tensor{nullptr, Dims(x.dims.begin() + 2, x.dims.end())}.count();
    const size_t words = (channels + 31) / 32;
    out.push_back(static_cast<int64_t>(words));
    uint32_t* bits = call.output<uint32_t>(0, out);
    const float* data = x.as<float>();
    const size_t parts = (positions + kPositionsPerPart - 1) / kPositionsPerPart;
    call.parallel(batch * parts, [&](size_t index) {
      const size_t picture = index / parts, from = index % parts * kPositionsPerPart;
      table_.pack(data + picture * channels * positions, bits + picture * positions * words, channels, positions, from,
                  std::min(positions, from + kPositionsPerPart));
    });
  }

 private:
  const Table& table_;
};

void infer(const Inference& node) {
  const Inference::Sizes x = node.input(0);
  if (x.size() < 2) return;
  Inference::Sizes bits{x[0]};
  bits.insert(bits.end(), x.begin() + 2, x.end());
  bits.push_back({x[1].value < 0 ? -1 : (x[1].value + 31) / 32, ""});
  node.output(0, bits);
}

std::unique_ptr<Kernel> create(const Creation& creation) { return std::make_unique<PackSigns>(creation); }

}  // namespace

extern const Definition definition = {create, infer};

}  // namespace gr::pack_signs
