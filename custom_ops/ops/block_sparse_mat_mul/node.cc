#include <algorithm>

#include "blocks/kernel.h"
#include "blocks/prepared.h"
#include "glue/rows.h"

namespace gr::block_sparse_mat_mul {
namespace {

// Operations that make a part worth a trip to another thread: some twenty microseconds.
constexpr size_t kLeastWork = 1000000;
constexpr size_t kMostParts = 16;

class BlockSparseMatMul : public Kernel {
 public:
  explicit BlockSparseMatMul(const Creation& node)
      : kernels_(blocks::pick(node.isa())),
        inputs_(checked_size(node.integer("in_features"), "in_features")),
        outputs_(checked_size(node.integer("out_features"), "out_features")),
        prepared_(node, outputs_, inputs_, 1) {}

  void compute(const Call& call) const override {
    const FloatRows whole = float_rows(call, inputs_, outputs_);
    const size_t rows = whole.count;
    if (rows == 0) return;
    if (rows == 1) {
      row(call, whole.x, whole.y);
    } else {
      spread(call, whole.x, rows, whole.y);
    }
  }

 private:
  void row(const Call& call, const float* x, float* y) const {
    const std::vector<size_t> borders = prepared_.ranges(1, kMostParts, kLeastWork / 4);
    call.parallel(borders.size() - 1,
                  [&](size_t part) { kernels_.row(prepared_.layer(), x, y, borders[part], borders[part + 1]); });
  }

  // Many rows: lanes are rows, so inputs and outputs are turned on their sides.
  void spread(const Call& call, const float* x, size_t rows, float* y) const {
    const size_t pitch = odd_lines(rows), width = prepared_.layer().width;
    const size_t turned_floats = checked_mul(inputs_, pitch, "the turned input");
    require(turned_floats <= UINT32_MAX, [&] {
      return "x has " + std::to_string(rows) + " rows of " + std::to_string(inputs_) + " numbers; expected at most " +
             std::to_string(UINT32_MAX) + " in all";
    });
    float* planes = call.scratch<float>(turned_floats);
    uint32_t* places = call.scratch<uint32_t>(prepared_.blocks() + blocks::kAhead * kMostParts);
    const size_t strip = rows < kLargeTurn / inputs_ ? inputs_ : kStrip;
    call.parallel((inputs_ + strip - 1) / strip, [&](size_t part) {
      const size_t from = part * strip, to = std::min(inputs_, from + strip);
      kernels_.turn(x + from, inputs_, rows, to - from, planes + from * pitch, pitch);
    });

    std::vector<blocks::Tile> tiles;
    std::vector<blocks::Run> runs;
    blocks::cover(rows, kernels_.lanes, kernels_.most_vectors(width), false, tiles, runs);
    const uint32_t tap = 0;
    // At least so many parts that an output's share of working memory stays in the cache.
    const std::vector<size_t> borders = prepared_.ranges(rows, kMostParts, kLeastWork);
    call.parallel(borders.size() - 1, [&](size_t part) {
      const size_t first = borders[part], last = borders[part + 1];
      const size_t floats = checked_mul((last - first) * width, pitch, "the turned output");
      float* turned = static_cast<float*>(
          Scratch::of_this_thread().take(checked_mul(floats, sizeof(float), "the turned output")));
      blocks::Work work{};
      work.planes = planes;
      // Each part's places lie kAhead further than the last part's end, so that none looks past its own.
      uint32_t* mine = places + part * blocks::kAhead;
      kernels_.place(prepared_.layer(), &tap, pitch, first, last, mine);
      work.places = mine;
      work.tiles = tiles.data();
      work.tile_count = tiles.size();
      work.runs = runs.data();
      work.y = turned;
      work.y_plane = pitch;
      work.first_group = first;
      work.last_group = last;
      kernels_.spread(prepared_.layer(), work);
      const size_t from = first * width, to = std::min(outputs_, last * width);
      kernels_.turn(turned, pitch, to - from, rows, y + from, outputs_);
    });
  }

  // Floats of so many whole cache lines, an odd number: columns of planes then spread over all sets of a cache.
  static size_t odd_lines(size_t floats) { return ((floats + 15) / 16 | 1) * 16; }

  // Inputs that one part turns, where there are so many numbers that one thread should not turn them all.
  static constexpr size_t kStrip = 256, kLargeTurn = size_t{1} << 20;

  const blocks::Kernels& kernels_;
  size_t inputs_, outputs_;
  blocks::Prepared prepared_;
};

void infer(const Inference& node) {
  infer_last(node, {node.integer("out_features"), ""});
}

std::unique_ptr<Kernel> create(const Creation& node) { return std::make_unique<BlockSparseMatMul>(node); }

}  // namespace

extern const Definition definition = {create, infer};

}  // namespace gr::block_sparse_mat_mul
