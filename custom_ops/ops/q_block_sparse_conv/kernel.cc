// 3x3, 128 channels at 28 x 28, a quarter of the blocks: AVX-512 76x over scalar, AVX2 22x (with weights that fill int8
// evenly AVX2 does every block twice), on a Zen 4 whose 512-bit dot product runs at 469 G operations a second.
#include "ops/q_block_sparse_conv/kernel.h"

#include <cstring>

#include "quads/tile.h"

namespace gr::q_block_sparse_conv {
namespace {

using namespace quads;
using namespace quads::GR_ISA;

// --- inputs ---------------------------------------------------------------------------------------------------------

// The same input row of four channels.
struct Rows {
  const uint8_t* at[kInputs];
  size_t readable;  // bytes that may be read of each, the width or more
};

// Four rows of `width` bytes become one of 4-byte pixels. Up to 60 bytes more are written.
void zip(uint8_t* to, const Rows& rows, size_t width) {
  size_t i = 0;
  for (; i < width && i + 16 <= rows.readable; i += 16) {
    zip4(to + 4 * i, rows.at[0] + i, rows.at[1] + i, rows.at[2] + i, rows.at[3] + i);
  }
  for (; i < width; ++i) {
    for (size_t row = 0; row < 4; ++row) to[4 * i + row] = rows.at[row][i];
  }
}

void fill(uint8_t* to, size_t pixels, uint8_t value) { std::memset(to, value, pixels * kInputs); }

// One input row of a quad into a halo row of every column phase.
void spread_row(const Band& band, uint8_t* halo, const Rows& rows, bool is_inside) {
  const size_t phase_bytes = band.phase * kInputs;
  if (!is_inside) {
    for (size_t p = 0; p < band.phases_x; ++p) fill(halo + p * phase_bytes, band.pitch, band.zero_point);
    return;
  }
  if (band.stride_x == 1) {
    const size_t left = band.left < band.pitch ? band.left : band.pitch;
    const size_t seen = band.pitch - left < band.width ? band.pitch - left : band.width;
    fill(halo, left, band.zero_point);
    zip(halo + left * kInputs, rows, seen);
    fill(halo + (left + seen) * kInputs, band.pitch - left - seen, band.zero_point);
    return;
  }
  zip(band.line, rows, band.width);
  for (size_t p = 0; p < band.phases_x; ++p) {
    uint8_t* to = halo + p * phase_bytes;
    for (size_t i = 0; i < band.pitch; ++i) {
      const size_t column = i * band.stride_x + p;  // of the padded row
      if (column < band.left || column - band.left >= band.width) {
        fill(to + i * kInputs, 1, band.zero_point);
      } else {
        std::memcpy(to + i * kInputs, band.line + (column - band.left) * kInputs, kInputs);
      }
    }
  }
}

void spread(const Band& band) {
  const size_t area = band.height * band.width;
  std::memset(band.empty, band.zero_point, band.width + 16);
  for (size_t quad = 0; quad * kInputs < band.channels; ++quad) {
    for (size_t p = 0; p < band.phases_y; ++p) {
      uint8_t* rows_at = band.halo + quad * band.plane + p * band.phases_x * band.phase * kInputs;
      for (size_t row = 0; row < band.halo_rows; ++row) {
        const size_t y = (band.first_row + row) * band.stride_y + p;  // of the padded picture
        const bool is_inside = y >= band.top && y - band.top < band.height;
        Rows rows = {{band.empty, band.empty, band.empty, band.empty}, 0};
        for (size_t i = 0; is_inside && i < kInputs && quad * kInputs + i < band.channels; ++i) {
          rows.at[i] = band.x + (quad * kInputs + i) * area + (y - band.top) * band.width;
          rows.readable = static_cast<size_t>(band.x_end - rows.at[i]);
        }
        if (rows.readable > band.width + 16) rows.readable = band.width + 16;  // what `empty` has
        spread_row(band, rows_at + row * band.pitch * kInputs, rows, is_inside);
      }
      // Where the right border of a row is the left border of the next one, the last row needs one of its own.
      for (size_t q = 0; q < band.phases_x; ++q) {
        const size_t used = band.halo_rows * band.pitch;
        fill(rows_at + (q * band.phase + used) * kInputs, band.phase - used, band.zero_point);
      }
    }
  }
}

// --- outputs --------------------------------------------------------------------------------------------------------

// A tile of results: bytes of four pixels to a word, [pixels / 4][16 outputs], then turned to [16 outputs][pixels / 4].
struct Results {
  static constexpr size_t kWords = (kPixels + 15) / 16 * 4;
  alignas(64) uint32_t words[kWords][kOutputs];
  alignas(64) uint32_t turned[kOutputs][kWords];
};

template <size_t P, size_t Four, size_t Part>
GR_INLINE void narrow(const Sums<P>& sums, F32 scale, int16_t zero_point, Results& to) {
  // Pixels past the last are the last one once more: nobody reads them.
  constexpr auto at = [](size_t pixel) { return (pixel < P ? pixel : P - 1) * kParts + Part; };
  const auto step = [&](I32 sum) { return round_i32(mul(to_f32(sum), scale)); };
  uint8_t* bytes = reinterpret_cast<uint8_t*>(to.words[Four] + Part * kLanes);
  narrow4(bytes, step(sums.at[at(4 * Four)]), step(sums.at[at(4 * Four + 1)]), step(sums.at[at(4 * Four + 2)]),
          step(sums.at[at(4 * Four + 3)]), zero_point);
}

template <size_t P, size_t... I>
GR_INLINE void narrow_all(const Sums<P>& sums, const Group& group, Results& to, Numbers<I...>) {
  (narrow<P, I / kParts, I % kParts>(sums, load(group.scale + I % kParts * kLanes), group.zero_point, to), ...);
}

template <size_t P>
void tile(const Band& band, const Group& group, const uint8_t* x, Results& results) {
  const Sums<P> sums = summed<P>(group.strand, x, band.plane, band.taps, group.start);
  narrow_all<P>(sums, group, results, typename Upto<(P + 3) / 4 * kParts>::type{});
}

using Tile = void (*)(const Band&, const Group&, const uint8_t*, Results&);

template <size_t... I>
GR_INLINE Tile tile_of(size_t pixels, Numbers<I...>) {
  static constexpr Tile tiles[] = {tile<(I + 1) * kStep>...};
  return tiles[(pixels - 1) / kStep];
}

// Copies 1 to 32 bytes: two overlapping pieces of a fixed size are quicker than a call.
GR_INLINE void copy(uint8_t* to, const uint8_t* from, size_t n) {
  const auto twice = [&](auto size) {
    std::memcpy(to, from, size());
    std::memcpy(to + n - size(), from + n - size(), size());
  };
  if (n >= 16) {
    twice([] { return size_t{16}; });
  } else if (n >= 8) {
    twice([] { return size_t{8}; });
  } else if (n >= 4) {
    twice([] { return size_t{4}; });
  } else {
    for (size_t i = 0; i < n; ++i) to[i] = from[i];
  }
}

// Sixteen pixels of all 16 outputs, from word `word` of the results on.
GR_INLINE void put16(const Results& results, size_t word, uint8_t* y, size_t plane) {
  for (size_t output = 0; output < kOutputs; output += 4) {
    turn4(y + output * plane, plane, results.words[word] + output, kOutputs);
  }
}

// Puts a tile whose first pixel is `pixel` of the band where it belongs; what lies between rows is dropped.
void put(const Band& band, Results& results, size_t pixel, size_t pixels, size_t first, size_t outputs) {
  size_t row = pixel / band.pitch, column = pixel % band.pitch;
  uint8_t* plane = band.y + first * band.out_plane;
  if (outputs == kOutputs && pixels >= 16 && pixels % 4 == 0 && pixels <= 32 && column + pixels <= band.out_width) {
    uint8_t* y = plane + row * band.out_width + column;
    put16(results, 0, y, band.out_plane);
    if (pixels > 16) put16(results, pixels / 4 - 4, y + pixels - 16, band.out_plane);
    return;
  }
  for (size_t word = 0; word * 4 < pixels; word += 4) {
    put16(results, word, reinterpret_cast<uint8_t*>(results.turned[0] + word), sizeof results.turned[0]);
  }
  for (size_t done = 0; done < pixels; ++row, column = 0) {
    const size_t rest = pixels - done;
    if (column < band.out_width) {
      const size_t run = band.out_width - column < rest ? band.out_width - column : rest;
      uint8_t* y = plane + row * band.out_width + column;
      for (size_t output = 0; output < outputs; ++output) {
        copy(y + output * band.out_plane, reinterpret_cast<const uint8_t*>(results.turned[output]) + done, run);
      }
    }
    done += band.pitch - column < rest ? band.pitch - column : rest;
  }
}

// A run of pixels of the band, cut into tiles.
void convolve_run(const Band& band, const Group* groups, size_t first, size_t count, size_t from, size_t pixels) {
  Results results;
  for (size_t begin = 0; begin < pixels;) {
    const size_t rest = pixels - begin;
    const size_t length = rest < kPixels ? rest : kPixels;
    const Tile tile_function = tile_of(length, typename Upto<kPixels / kStep>::type{});
    for (size_t group = first; group < first + count; ++group) {
      tile_function(band, groups[group], band.halo + (from + begin) * kInputs, results);
      const size_t left = band.out_channels - group * kOutputs;
      put(band, results, from + begin, length, group * kOutputs, left < kOutputs ? left : kOutputs);
    }
    begin += length;
  }
}

void convolve(const Band& band, const Group* groups, size_t first, size_t count) {
  if (band.is_flat) {
    convolve_run(band, groups, first, count, 0, (band.rows - 1) * band.pitch + band.out_width);
    return;
  }
  for (size_t row = 0; row < band.rows; ++row) {
    convolve_run(band, groups, first, count, row * band.pitch, band.out_width);
  }
}

}  // namespace

const Table GR_ISA::table = {kPixels, spread, convolve};

}  // namespace gr::q_block_sparse_conv
