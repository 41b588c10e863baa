#include <algorithm>

#include "blocks/kernel.h"
#include "blocks/prepared.h"
#include "blocks/window.h"
#include "glue/op.h"

namespace gr::block_sparse_conv {
namespace {

// Operations that make a part worth a trip to another thread: some twenty microseconds.
constexpr size_t kLeastWork = 2000000;
constexpr size_t kMostParts = 16;
// From so many bands on, every thread makes planes of its own; with fewer, all threads share out the outputs of a band.
constexpr size_t kManyBands = 4;
// Weights that are read anew for every tile should stay in the second-level cache.
constexpr size_t kStayingWeights = 512 * 1024;

// Tiles over the rows of a band, `wide` positions of each `pitch` being outputs.
struct Tiling {
  std::vector<blocks::Tile> tiles;
  std::vector<blocks::Run> runs;

  // Rows without padding between them are one long row.
  Tiling(size_t count, size_t lanes, size_t most, bool inside) {
    blocks::cover(count, lanes, most, inside, tiles, runs);
  }

  Tiling(size_t rows, size_t wide, size_t pitch, size_t lanes, size_t most) {
    blocks::cover((rows - 1) * pitch + wide, lanes, most, false, tiles, runs);
    std::vector<blocks::Run> cut;
    for (blocks::Tile& tile : tiles) {
      const blocks::Run whole = runs[tile.first_run];
      tile.first_run = static_cast<uint32_t>(cut.size());
      for (size_t place = whole.to; place < whole.to + whole.length;) {
        const size_t row = place / pitch, column = place % pitch, row_end = row * pitch + pitch;
        const size_t end = std::min<size_t>(whole.to + whole.length, row * pitch + wide);
        if (column < wide) {
          cut.push_back({static_cast<uint32_t>(place - tile.from), static_cast<uint32_t>(row * wide + column),
                         static_cast<uint32_t>(end - place)});
        }
        place = row_end;
      }
      tile.last_run = static_cast<uint32_t>(cut.size());
    }
    runs = std::move(cut);
  }
};

class BlockSparseConv : public Kernel {
 public:
  explicit BlockSparseConv(const Creation& node)
      : kernels_(blocks::pick(node.isa())),
        window_(node),
        channels_(checked_size(node.integer("in_channels"), "in_channels")),
        outputs_(checked_size(node.integer("out_channels"), "out_channels")),
        prepared_(node, outputs_, channels_, checked_mul(window_.rows.kernel, window_.columns.kernel, "the kernel")) {}

  void compute(const Call& call) const override {
    const Tensor x = call.input(0);
    require(x.rank() == 4 && static_cast<size_t>(x.dims[1]) == channels_, [&] {
      return "x has shape " + text(x.dims) + "; expected [N, " + std::to_string(channels_) + ", H, W]";
    });
    const size_t pictures = static_cast<size_t>(x.dims[0]), height = static_cast<size_t>(x.dims[2]),
                 width = static_cast<size_t>(x.dims[3]);
    const size_t rows = window_.rows.outputs(height, "rows"), columns = window_.columns.outputs(width, "columns");
    float* y = call.output<float>(0, {x.dims[0], static_cast<int64_t>(outputs_), static_cast<int64_t>(rows),
                                      static_cast<int64_t>(columns)});
    if (pictures == 0) return;
    const size_t positions = checked_mul(rows, columns, "the output's positions");
    if (window_.is_plain() && positions >= kernels_.lanes && checked_mul(channels_, positions, "x") <= UINT32_MAX) {
      in_place(call, x.as<float>(), pictures, positions, y);
    } else {
      const blocks::Planes planes(window_, channels_, height, width);
      if (pictures * planes.bands() >= kManyBands) {
        by_bands(call, planes, x.as<float>(), pictures, height * width, y);
      } else {
        by_outputs(call, planes, x.as<float>(), pictures, height * width, y);
      }
    }
  }

 private:
  size_t most() const { return kernels_.most_vectors(prepared_.layer().width); }

  // Where the blocks of the layer read, for planes so far from each other.
  const uint32_t* places(const Call& call, const std::vector<uint32_t>& taps, size_t plane) const {
    uint32_t* places = call.scratch<uint32_t>(prepared_.blocks() + blocks::kAhead);
    kernels_.place(prepared_.layer(), taps.data(), plane, 0, prepared_.groups(), places);
    return places;
  }

  blocks::Work work(const Tiling& tiling, const uint32_t* places, size_t positions) const {
    blocks::Work work{};
    work.places = places;
    work.tiles = tiling.tiles.data();
    work.tile_count = tiling.tiles.size();
    work.runs = tiling.runs.data();
    work.y_plane = positions;
    work.last_group = prepared_.groups();
    work.groups_outer = prepared_.blocks() * prepared_.layer().width * sizeof(float) > kStayingWeights;
    return work;
  }

  // Pictures whose planes are already what the kernel reads.
  void in_place(const Call& call, const float* x, size_t pictures, size_t positions, float* y) const {
    const Tiling tiling(positions, kernels_.lanes, most(), true);
    const blocks::Work all = work(tiling, places(call, {0}, positions), positions);
    const size_t operations = checked_mul(prepared_.work_per_position(), positions, "the work");
    const size_t parts = std::max<size_t>(1, std::min({operations / kLeastWork, all.tile_count, kMostParts}));
    call.parallel(checked_mul(pictures, parts, "the parts"), [&](size_t index) {
      const size_t picture = index / parts, part = index % parts;
      blocks::Work mine = all;
      mine.planes = x + picture * channels_ * positions;
      mine.y = y + picture * outputs_ * positions;
      mine.tiles = all.tiles + all.tile_count * part / parts;
      mine.tile_count = all.tile_count * (part + 1) / parts - all.tile_count * part / parts;
      kernels_.spread(prepared_.layer(), mine);
    });
  }

  // Every band of every picture is a part.
  void by_bands(const Call& call, const blocks::Planes& planes, const float* x, size_t pictures, size_t picture,
                float* y) const {
    const uint32_t* const read = places(call, planes.taps(), planes.plane());
    const size_t bands = planes.bands(), positions = planes.out_height() * planes.out_width();
    const Tiling whole = tiled(planes, 0), last = tiled(planes, bands - 1);
    call.parallel(checked_mul(pictures, bands, "the bands"), [&](size_t index) {
      const size_t which = index / bands, band = index % bands;
      float* filled = static_cast<float*>(Scratch::of_this_thread().take(bytes(planes)));
      planes.fill(x + which * channels_ * picture, band, kernels_, filled);
      blocks::Work mine = work(band + 1 == bands ? last : whole, read, positions);
      mine.planes = filled;
      mine.y = y + which * outputs_ * positions + planes.first_row(band) * planes.out_width();
      kernels_.spread(prepared_.layer(), mine);
    });
  }

  // One band after the other; parts are ranges of outputs.
  void by_outputs(const Call& call, const blocks::Planes& planes, const float* x, size_t pictures, size_t picture,
                  float* y) const {
    const uint32_t* const read = places(call, planes.taps(), planes.plane());
    const size_t positions = planes.out_height() * planes.out_width();
    float* filled = call.scratch<float>(bytes(planes) / sizeof(float));
    for (size_t which = 0; which < pictures; ++which) {
      for (size_t band = 0; band < planes.bands(); ++band) {
        planes.fill(x + which * channels_ * picture, band, kernels_, filled);
        const Tiling tiling = tiled(planes, band);
        blocks::Work all = work(tiling, read, positions);
        all.planes = filled;
        const std::vector<size_t> borders =
            prepared_.ranges(planes.rows(band) * planes.out_width(), kMostParts, kLeastWork);
        call.parallel(borders.size() - 1, [&](size_t part) {
          blocks::Work mine = all;
          mine.first_group = borders[part];
          mine.last_group = borders[part + 1];
          mine.y = y + (which * outputs_ + borders[part] * prepared_.layer().width) * positions +
                   planes.first_row(band) * planes.out_width();
          kernels_.spread(prepared_.layer(), mine);
        });
      }
    }
  }

  Tiling tiled(const blocks::Planes& planes, size_t band) const {
    return Tiling(planes.rows(band), planes.out_width(), planes.pitch(), kernels_.lanes, most());
  }

  // A tile reads up to its own length past the last position.
  size_t bytes(const blocks::Planes& planes) const {
    return checked_mul(planes.floats((most() + 1) * kernels_.lanes), sizeof(float), "a band");
  }

  const blocks::Kernels& kernels_;
  blocks::Window window_;
  size_t channels_, outputs_;
  blocks::Prepared prepared_;
};

void infer(const Inference& node) {
  const Inference::Sizes x = node.input(0);
  const std::vector<int64_t> kernel = node.integers("kernel_shape"), strides = node.integers("strides"),
                             pads = node.integers("pads"), dilations = node.integers("dilations");
  if (x.size() != 4 || kernel.size() != 2 || strides.size() != 2 || pads.size() != 4 || dilations.size() != 2) return;
  Inference::Sizes y{x[0], {node.integer("out_channels"), ""}};
  for (size_t axis = 0; axis < 2; ++axis) {
    // What the kernel would refuse has no shape either.
    const auto sane = [](int64_t value, int64_t least) { return value >= least && value <= blocks::Window::kMost; };
    const int64_t size = x[2 + axis].value;
    if (!sane(kernel[axis], 1) || !sane(strides[axis], 1) || !sane(pads[axis], 0) || !sane(pads[axis + 2], 0) ||
        !sane(dilations[axis], 1)) {
      return;
    }
    const int64_t reach = dilations[axis] * (kernel[axis] - 1) + 1;
    const int64_t padding = pads[axis] + pads[axis + 2];
    const bool known = size >= 0 && size <= INT64_MAX - padding && size + padding >= reach;
    y.push_back({known ? (size + padding - reach) / strides[axis] + 1 : -1, ""});
  }
  node.output(0, y);
}

std::unique_ptr<Kernel> create(const Creation& node) { return std::make_unique<BlockSparseConv>(node); }

}  // namespace

extern const Definition definition = {create, infer};

}  // namespace gr::block_sparse_conv
