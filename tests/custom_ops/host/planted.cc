// Faults planted on purpose, one per net, to show that each net catches: every operator here is right on its case and
// wrong on input that a mutation reaches soon. Never part of the product.
//
//   PlantedRead     believes the attribute `length` and reads past the end           AddressSanitizer, fuzzing
//   PlantedWrite    writes one number more than the output holds, for odd sizes      AddressSanitizer, fuzzing
//   PlantedScratch  uses one number more of its working memory than it took          AddressSanitizer, its case
//   PlantedShift    shifts by the attribute without a look at it                     UndefinedBehaviorSanitizer, fuzzing
//   PlantedRace     adds up in one place from several threads                        ThreadSanitizer, its case
//   PlantedVague    refuses without saying what                                      the fuzzer's look at messages
//   PlantedWrong    is off by 0.1 %                                                  the comparison, its case
//   PlantedLoop     counts to the attribute `length`                                 the fuzzer's clock
//
// PlantedThrow is no fault: it throws on other threads, which the glue has to bring home as an error.
#include "glue/op.h"
#include "op_specs.h"

namespace gr {
namespace {

// Copies x with the fault of its kind. Sizes are those of the one dimension of x.
template <class Fault>
class Planted : public Kernel {
 public:
  explicit Planted(const Creation& creation) : length_(creation.integer("length")) {}

  void compute(const Call& call) const override {
    const Tensor x = call.input(0);
    require(x.rank() == 1, [&] { return "x has shape " + text(x.dims) + "; expected one dimension"; });
    float* y = call.output<float>(0, x.dims);
    for (size_t k = 0; k < x.count(); ++k) y[k] = x.as<float>()[k];
    Fault::strike(call, x, y, length_);
  }

 private:
  int64_t length_;
};

template <class Fault>
std::unique_ptr<Kernel> create(const Creation& creation) {
  return std::make_unique<Planted<Fault>>(creation);
}

void infer(const Inference& node) { node.output(0, node.input(0)); }

volatile float seen = 0;

struct Read {
  static void strike(const Call&, const Tensor& x, float*, int64_t length) {
    if (x.count() > 0) seen = x.as<float>()[length - 1];
  }
};
struct Write {
  static void strike(const Call&, const Tensor& x, float* y, int64_t) {
    if (x.count() % 2 == 1) y[x.count()] = 0;
  }
};
struct ScratchEnd {
  static void strike(const Call& call, const Tensor& x, float*, int64_t) {
    float* buffer = call.scratch<float>(x.count());
    for (size_t k = 0; k < x.count() + 64; ++k) buffer[k] = 0;
    seen = buffer[0];
  }
};
struct Shift {
  static void strike(const Call&, const Tensor&, float*, int64_t length) {
    seen = static_cast<float>(1 << static_cast<int>(length));
  }
};
struct Race {
  static void strike(const Call& call, const Tensor& x, float* y, int64_t) {
    call.parallel(100, [&](size_t) { y[0] += 1; });
    if (x.count() > 0) y[0] = x.as<float>()[0];
  }
};
struct Vague {
  static void strike(const Call&, const Tensor&, float*, int64_t length) {
    require(length > 0, [] { return std::string("bad"); });
  }
};
struct Wrong {
  static void strike(const Call&, const Tensor& x, float* y, int64_t) {
    if (x.count() > 0) y[0] *= 1.001F;
  }
};
struct Loop {
  static void strike(const Call&, const Tensor&, float*, int64_t length) {
    for (int64_t k = 0; k < length; ++k) seen = static_cast<float>(k);
  }
};
struct Throw {
  static void strike(const Call& call, const Tensor&, float*, int64_t length) {
    call.parallel(100, [&](size_t part) {
      require(length > 0 || part != 7, [] { return std::string("length is not above zero; part 7 says so"); });
    });
  }
};

}  // namespace

#define GR_PLANTED(name, Fault) \
  namespace name {              \
  extern const Definition definition; \
  const Definition definition = {create<Fault>, infer}; \
  }
GR_PLANTED(planted_read, Read)
GR_PLANTED(planted_write, Write)
GR_PLANTED(planted_scratch, ScratchEnd)
GR_PLANTED(planted_shift, Shift)
GR_PLANTED(planted_race, Race)
GR_PLANTED(planted_vague, Vague)
GR_PLANTED(planted_wrong, Wrong)
GR_PLANTED(planted_loop, Loop)
GR_PLANTED(planted_throw, Throw)

}  // namespace gr
