#include <algorithm>
#include <cstring>

#include "binary/layer.h"
#include "glue/scratch.h"

namespace gr::binary {
namespace {

// A part should be worth a trip to another thread: about 20 microseconds of this many operations of a vector.
constexpr size_t kOperationsPerPart = 40000;
constexpr size_t kWordsPerPart = 32768;
constexpr size_t kFloatsPerPart = 131072;
// From so many pictures on, each is worked on by one thread.
constexpr size_t kManyImages = 4;

size_t parts_of(size_t count, size_t part) { return (count + part - 1) / part; }

// `count` <= 32 bits from bit `start` on.
uint32_t bits_from(const uint32_t* words, size_t start, size_t count) {
  const size_t word = start / 32, shift = start % 32;
  uint32_t bits = words[word] >> shift;
  if (shift + count > 32) bits |= words[word + 1] << (32 - shift);
  return count == 32 ? bits : bits & ((uint32_t{1} << count) - 1);
}

struct Taps {
  size_t first, last;  // [first, last) lie inside the picture
};

Taps taps_inside(size_t position, size_t stride, size_t pad, size_t dilation, size_t size, size_t taps) {
  const auto start = static_cast<int64_t>(position * stride) - static_cast<int64_t>(pad);
  const auto step = static_cast<int64_t>(dilation), end = static_cast<int64_t>(size);
  const int64_t first = start >= 0 ? 0 : (-start + step - 1) / step;
  const int64_t last = start >= end ? 0 : (end - 1 - start) / step + 1;
  const auto all = static_cast<int64_t>(taps);
  const int64_t from = std::min(first, all);
  return {static_cast<size_t>(from), static_cast<size_t>(std::max(from, std::min(last, all)))};
}

}  // namespace

struct Layer::Plan {
  bool mapped = false;  // windows are read from a copy with a border, not from the words as they come
  size_t map_rows = 0, map_columns = 0;
  size_t pixel_words = 0, group_step = 0;
  size_t row_step = 0, column_step = 0, columns = 0, pixels = 0;
  Run* runs = nullptr;
  size_t run_count = 0;
  size_t* row_terms = nullptr;
  size_t* column_terms = nullptr;
  const int32_t* terms = nullptr;
};

void Layer::run(const Call& call, const Placement& placement, const void* x, void* y) const {
  const size_t pixels = placement.out_height * placement.out_width;
  if (placement.images == 0 || pixels == 0) return;
  const Scratch::Scope scope(Scratch::of_this_thread());
  const Plan made = plan(call, placement);
  const size_t positions = placement.height * placement.width;
  const size_t x_step = positions * (form_.bits_in ? words_ : sizes_.channels) * 4;
  const size_t y_step = pixels * (form_.bits_out ? words_out() : sizes_.outputs) * 4;
  const auto image = [&](size_t index, bool in_parts) {
    const Scratch::Scope inner(Scratch::of_this_thread());
    run_image(call, placement, made, static_cast<const char*>(x) + index * x_step,
              static_cast<char*>(y) + index * y_step, in_parts);
  };
  if (placement.images >= kManyImages) {
    call.parallel(placement.images, [&](size_t index) { image(index, false); });
  } else {
    for (size_t index = 0; index < placement.images; ++index) image(index, true);
  }
}

Layer::Plan Layer::plan(const Call& call, const Placement& placement) const {
  Plan made;
  // Bits behind the last channel belong to nobody: where they come from outside, or where the next group's stand
  // there, windows need a copy.
  const bool shared_words = group_channels_ % 32 != 0 && (form_.bits_in || sizes_.groups > 1);
  made.mapped = placement.padded || shared_words;
  if (made.mapped) {
    made.map_rows = (placement.out_height - 1) * placement.stride_y + (sizes_.height - 1) * placement.dilation_y + 1;
    made.map_columns = (placement.out_width - 1) * placement.stride_x + (sizes_.width - 1) * placement.dilation_x + 1;
    made.pixel_words = group_words_;
    made.group_step = checked_mul(checked_mul(made.map_rows, made.map_columns, "a padded picture"), group_words_,
                                  "a padded picture");
  } else {
    made.map_columns = placement.width;
    made.pixel_words = words_;
    made.group_step = group_words_;
  }
  const size_t line = made.map_columns * made.pixel_words;
  made.row_step = placement.stride_y * line;
  made.column_step = placement.stride_x * made.pixel_words;
  made.columns = placement.out_width;
  made.pixels = placement.out_height * placement.out_width;

  made.runs = call.scratch<Run>(sizes_.height * sizes_.width);
  for (size_t y = 0; y < sizes_.height; ++y) {
    for (size_t x = 0; x < sizes_.width; ++x) {
      const size_t offset = y * placement.dilation_y * line + x * placement.dilation_x * made.pixel_words;
      Run* last = made.runs + made.run_count - 1;
      if (made.run_count > 0 && last->offset + last->words == offset) {
        last->words += group_words_;
      } else {
        made.runs[made.run_count++] = {offset, group_words_};
      }
    }
  }
  made.terms = inside_.data();
  if (placement.padded) {
    plan_edges(call, placement, made);
  } else if (made.row_step == made.columns * made.column_step) {
    made.columns = made.pixels;  // one long row
  }
  return made;
}

// Rows whose windows hang over in the same way share their terms, and so do columns.
void Layer::plan_edges(const Call& call, const Placement& placement, Plan& made) const {
  struct Axis {
    size_t* terms;
    Taps* kinds;
    size_t count = 0;
  };
  const auto kinds_of = [&](size_t positions, size_t stride, size_t pad, size_t dilation, size_t size, size_t taps) {
    Axis axis{call.scratch<size_t>(positions), call.scratch<Taps>(positions)};
    size_t* known = call.scratch<size_t>((taps + 1) * (taps + 1));
    std::fill(known, known + (taps + 1) * (taps + 1), positions);
    for (size_t position = 0; position < positions; ++position) {
      const Taps inside = taps_inside(position, stride, pad, dilation, size, taps);
      size_t& kind = known[inside.first * (taps + 1) + inside.last];
      if (kind == positions) {
        kind = axis.count;
        axis.kinds[axis.count++] = inside;
      }
      axis.terms[position] = kind;
    }
    return axis;
  };
  const Axis rows = kinds_of(placement.out_height, placement.stride_y, placement.pad_top, placement.dilation_y,
                             placement.height, sizes_.height);
  const Axis columns = kinds_of(placement.out_width, placement.stride_x, placement.pad_left, placement.dilation_x,
                                placement.width, sizes_.width);
  int32_t* terms = call.scratch<int32_t>(checked_mul(rows.count * columns.count, lanes_, "terms of edges"));
  for (size_t row = 0; row < rows.count; ++row) {
    for (size_t column = 0; column < columns.count; ++column) {
      write_terms(made, rows.kinds[row].first, rows.kinds[row].last, columns.kinds[column].first,
                  columns.kinds[column].last, terms + (row * columns.count + column) * lanes_);
    }
  }
  for (size_t row = 0; row < placement.out_height; ++row) rows.terms[row] *= columns.count * lanes_;
  for (size_t column = 0; column < placement.out_width; ++column) columns.terms[column] *= lanes_;
  made.row_terms = rows.terms;
  made.column_terms = columns.terms;
  made.terms = terms;
}

// The border of the copy holds no set bits, which stand for -1: what they add is taken back here, weight by weight.
void Layer::write_terms(const Plan&, size_t y_from, size_t y_to, size_t x_from, size_t x_to, int32_t* terms) const {
  const size_t columns = sizes_.width + 1;
  const auto sums = [&](size_t y, size_t x) { return tap_sums_.data() + (y * columns + x) * lanes_; };
  const int32_t *all = sums(sizes_.height, sizes_.width), *a = sums(y_from, x_from), *b = sums(y_from, x_to),
                *c = sums(y_to, x_from), *d = sums(y_to, x_to);
  const auto signs = static_cast<int32_t>(sizes_.height * sizes_.width * group_channels_);
  for (size_t lane = 0; lane < lanes_; ++lane) {
    terms[lane] = signs + all[lane] - (d[lane] - c[lane] - b[lane] + a[lane]);
  }
  if (form_.bits_out) {
    for (size_t lane = 0; lane < lanes_; ++lane) terms[lane] = (terms[lane] - thresholds_[lane]) >> 1;
  }
}

void Layer::run_image(const Call& call, const Placement& placement, const Plan& made, const void* x, void* y,
                      bool in_parts) const {
  const auto each = [&](size_t count, const auto& part) {
    if (in_parts) return call.parallel(count, part);
    for (size_t index = 0; index < count; ++index) part(index);
  };
  const size_t positions = placement.height * placement.width;
  const auto* words = static_cast<const uint32_t*>(x);
  if (!form_.bits_in) {
    uint32_t* packed = call.scratch<uint32_t>(checked_mul(positions, words_, "packed signs"));
    const size_t part = std::max<size_t>(64, kFloatsPerPart / sizes_.channels / 64 * 64);
    each(parts_of(positions, part), [&](size_t index) {
      pack(made, placement, static_cast<const float*>(x), packed, index * part,
           std::min(positions, (index + 1) * part));
    });
    words = packed;
  }
  if (made.mapped) {
    uint32_t* map = call.scratch<uint32_t>(checked_mul(sizes_.groups, made.group_step, "a padded picture"));
    const size_t rows = sizes_.groups * made.map_rows, row_words = made.map_columns * group_words_;
    const size_t part = std::max<size_t>(1, kWordsPerPart / std::max<size_t>(1, row_words));
    each(parts_of(rows, part), [&](size_t index) {
      fill_map(placement, made, words, map, index * part, std::min(rows, (index + 1) * part));
    });
    words = map;
  }
  const bool merged = form_.bits_out && sizes_.groups > 1 && group_outputs_ % 32 != 0;
  const size_t lanes = merged ? lanes_ : slots_[0].lanes;
  const size_t work = window_words_ * (lanes / kLaneStep);
  const size_t part = std::max<size_t>(64, kOperationsPerPart / std::max<size_t>(1, work) / 64 * 64);
  const size_t parts = parts_of(made.pixels, part);
  if (merged) {
    return each(parts, [&](size_t index) {
      run_merged(call, made, words, index * part, std::min(made.pixels, (index + 1) * part),
                 static_cast<uint32_t*>(y));
    });
  }
  each(slots_.size() * parts, [&](size_t index) {
    const size_t from = index % parts * part;
    run_slot(made, placement, slots_[index / parts], words, from, std::min(made.pixels, from + part), y);
  });
}

void Layer::pack(const Plan&, const Placement& placement, const float* x, uint32_t* words, size_t from,
                 size_t to) const {
  if (placement.rows) {
    table_.pack_rows(x, x_threshold_.data(), words, sizes_.channels, from, to);
  } else {
    table_.pack_planes(x, x_threshold_.data(), words, sizes_.channels, placement.height * placement.width, from, to);
  }
}

// Rows [from, to) of the copies of all groups.
void Layer::fill_map(const Placement& placement, const Plan& made, const uint32_t* words, uint32_t* map, size_t from,
                     size_t to) const {
  const size_t left = std::min(placement.pad_left, made.map_columns);
  const size_t live = std::min(placement.width, made.map_columns - left);
  const bool whole = sizes_.groups == 1 && group_channels_ % 32 == 0;
  for (size_t index = from; index < to; ++index) {
    const size_t group = index / made.map_rows, row = index % made.map_rows;
    uint32_t* out = map + index * made.map_columns * group_words_;
    if (row < placement.pad_top || row - placement.pad_top >= placement.height) {
      std::memset(out, 0, made.map_columns * group_words_ * sizeof(uint32_t));
      continue;
    }
    const uint32_t* in = words + (row - placement.pad_top) * placement.width * words_;
    std::memset(out, 0, left * group_words_ * sizeof(uint32_t));
    out += left * group_words_;
    if (whole) {
      std::memcpy(out, in, live * group_words_ * sizeof(uint32_t));
      out += live * group_words_;
    } else {
      for (size_t column = 0; column < live; ++column, in += words_) {
        size_t start = group * group_channels_;
        for (size_t rest = group_channels_; rest > 0;) {
          const size_t count = std::min<size_t>(rest, 32);
          *out++ = bits_from(in, start, count);
          start += count;
          rest -= count;
        }
      }
    }
    std::memset(out, 0, (made.map_columns - left - live) * group_words_ * sizeof(uint32_t));
  }
}

Map Layer::map_of(const Plan& made, const Slot& slot, const uint32_t* map) const {
  return {map + slot.group * made.group_step, made.row_step,  made.column_step,  made.columns,
          made.runs,                          made.run_count, made.row_terms,    made.column_terms};
}

void Layer::run_slot(const Plan& made, const Placement& placement, const Slot& slot, const uint32_t* words,
                     size_t from, size_t to, void* y) const {
  const Map map = map_of(made, slot, words);
  const Block block{weights_.data() + slot.weights, slot.lanes, made.terms + slot.first_lane};
  if (form_.bits_out) {
    uint32_t* out = static_cast<uint32_t*>(y) + from * words_out() + slot.first_output / 32;
    return table_.bits(map, block, from, to, out, words_out());
  }
  const float *scale = scale_.data() + slot.first_lane, *bias = bias_.data() + slot.first_lane;
  auto* out = static_cast<float*>(y);
  if (placement.rows) {
    out += from * sizes_.outputs + slot.first_output;
    table_.rows(map, block, from, to, scale, bias, out, sizes_.outputs, slot.outputs);
  } else {
    out += slot.first_output * made.pixels + from;
    table_.planes(map, block, from, to, scale, bias, out, made.pixels, slot.outputs);
  }
}

// Groups that do not end with a word: each block's bits are shifted to their place. One thread has all of a pixel.
void Layer::run_merged(const Call& call, const Plan& made, const uint32_t* words, size_t from, size_t to,
                       uint32_t* y) const {
  constexpr size_t kWords = kBlock / 32;
  const size_t step = words_out();
  uint32_t* bits = call.scratch<uint32_t>((to - from) * kWords);
  uint32_t* out = y + from * step;
  std::memset(out, 0, (to - from) * step * sizeof(uint32_t));
  for (const Slot& slot : slots_) {
    const Block block{weights_.data() + slot.weights, slot.lanes, made.terms + slot.first_lane};
    table_.bits(map_of(made, slot, words), block, from, to, bits, kWords);
    for (size_t pixel = 0; pixel < to - from; ++pixel) {
      for (size_t done = 0; done < slot.outputs; done += 32) {
        const uint32_t set = bits[pixel * kWords + done / 32];
        const size_t start = slot.first_output + done, shift = start % 32;
        uint32_t* word = out + pixel * step + start / 32;
        word[0] |= set << shift;
        if (shift != 0 && (set >> (32 - shift)) != 0) word[1] |= set >> (32 - shift);
      }
    }
  }
}

}  // namespace gr::binary
