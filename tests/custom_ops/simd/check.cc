// Every operation of the SIMD layer on the same numbers, one program per instruction set; test_simd.py compares what the
// programs print with what the one of scalar.h prints.
//
// Operations that work lane by lane print their lanes. Those that mix lanes mean something else in registers of another
// size, so each is checked here against plain loops, and prints whether it agreed.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <limits>

#include "simd/simd.h"

namespace {

using namespace gr::simd::GR_ISA;

constexpr size_t kCount = 240;  // a multiple of every number of lanes

struct Numbers {
  float a[kCount], b[kCount], c[kCount], small[kCount];
  int32_t i[kCount], j[kCount];
  uint32_t u[kCount], v[kCount], w[kCount];
};

uint32_t random_word() {
  static uint64_t state = 12345;
  state = state * 6364136223846793005U + 1442695040888963407U;
  return static_cast<uint32_t>(state >> 32);
}

Numbers draw() {
  Numbers n{};
  const float odd[] = {0.0F, -0.0F, 1.0F, -1.0F, std::numeric_limits<float>::infinity(),
                       -std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN(),
                       std::numeric_limits<float>::denorm_min(), -std::numeric_limits<float>::denorm_min(),
                       std::numeric_limits<float>::max(), 0.5F, 1.5F, 2.5F, -2.5F};
  const size_t kinds = sizeof odd / sizeof *odd;
  for (size_t k = 0; k < kCount; ++k) {
    const auto real = [] { return (static_cast<float>(random_word() >> 8) / 8388608.0F - 1.0F) * 100.0F; };
    n.a[k] = k < kinds * kinds ? odd[k / kinds] : real();  // every pair of odd numbers meets
    n.b[k] = k < kinds * kinds ? odd[k % kinds] : real();
    n.c[k] = real();
    n.small[k] = k % 3 == 0 ? static_cast<float>(k) - 120.5F : real();  // halves, which round to even
    n.i[k] = static_cast<int32_t>(random_word() % 1001) - 500;
    n.j[k] = k % 5 == 0 ? n.i[k] : static_cast<int32_t>(random_word() % 1001) - 500;
    n.u[k] = k == 0 ? 0 : k == 1 ? ~0U : random_word();
    n.v[k] = k % 7 == 0 ? n.u[k] : random_word();
    n.w[k] = random_word();
  }
  return n;
}

void print(const char* name, const float* values, size_t count) {
  std::printf("%s", name);
  for (size_t k = 0; k < count; ++k) {
    uint32_t bits;
    std::memcpy(&bits, &values[k], 4);
    // Which of many NaNs comes out is nobody's business.
    if (std::isnan(values[k])) std::printf(" nan");
    else std::printf(" %08x", bits);
  }
  std::printf("\n");
}

template <class T>
void print(const char* name, const T* values, size_t count) {
  std::printf("%s", name);
  for (size_t k = 0; k < count; ++k) std::printf(" %lld", static_cast<long long>(values[k]));
  std::printf("\n");
}

template <class T, class Work>
void lanes(const char* name, const Work& work) {
  T out[kCount];
  for (size_t k = 0; k < kCount; k += kLanes) store(out + k, work(k));
  print(name, out, kCount);
}

void agree(const char* name, bool same) { std::printf("%s %s\n", name, same ? "agrees" : "DIFFERS"); }

void floats(const Numbers& n) {
  lanes<float>("zero_f32", [&](size_t) { return zero_f32(); });
  lanes<float>("set_f32", [&](size_t) { return set_f32(1.25F); });
  lanes<float>("load", [&](size_t k) { return load(n.a + k); });
  lanes<float>("add", [&](size_t k) { return add(load(n.a + k), load(n.b + k)); });
  lanes<float>("sub", [&](size_t k) { return sub(load(n.a + k), load(n.b + k)); });
  lanes<float>("mul", [&](size_t k) { return mul(load(n.a + k), load(n.b + k)); });
  lanes<float>("div", [&](size_t k) { return div(load(n.a + k), load(n.b + k)); });
  lanes<float>("fma", [&](size_t k) { return fma(load(n.small + k), load(n.c + k), load(n.b + k)); });
  lanes<float>("max", [&](size_t k) { return max(load(n.a + k), load(n.b + k)); });
  lanes<float>("min", [&](size_t k) { return min(load(n.a + k), load(n.b + k)); });
  lanes<float>("abs", [&](size_t k) { return abs(load(n.a + k)); });
  lanes<int32_t>("round_i32", [&](size_t k) { return round_i32(load(n.small + k)); });
  lanes<float>("to_f32", [&](size_t k) { return to_f32(load(n.i + k)); });
  lanes<float>("pow2", [&](size_t k) { return pow2(max(min(load(n.i + k), set_i32(127)), set_i32(-126))); });
  lanes<uint32_t>("not_negative", [&](size_t k) { return not_negative(load(n.a + k)); });
  lanes<int32_t>("count_above", [&](size_t k) { return count_above(load(n.i + k), load(n.a + k), load(n.b + k)); });
  lanes<uint32_t>("or_at_least", [&](size_t k) {
    return or_at_least(load(n.u + k), load(n.a + k), load(n.b + k), load(n.v + k));
  });
}

void words(const Numbers& n) {
  lanes<int32_t>("zero_i32", [&](size_t) { return zero_i32(); });
  lanes<int32_t>("set_i32", [&](size_t) { return set_i32(-7); });
  lanes<int32_t>("add_i32", [&](size_t k) { return add(load(n.i + k), load(n.j + k)); });
  lanes<int32_t>("sub_i32", [&](size_t k) { return sub(load(n.i + k), load(n.j + k)); });
  lanes<int32_t>("max_i32", [&](size_t k) { return max(load(n.i + k), load(n.j + k)); });
  lanes<int32_t>("min_i32", [&](size_t k) { return min(load(n.i + k), load(n.j + k)); });
  lanes<int32_t>("settled", [&](size_t k) { return settled(load(n.i + k)); });
  lanes<uint32_t>("zero_u32", [&](size_t) { return zero_u32(); });
  lanes<uint32_t>("set_u32", [&](size_t) { return set_u32(0x80000001U); });
  lanes<uint32_t>("bit_and", [&](size_t k) { return bit_and(load(n.u + k), load(n.v + k)); });
  lanes<uint32_t>("bit_or", [&](size_t k) { return bit_or(load(n.u + k), load(n.v + k)); });
  lanes<uint32_t>("bit_xor", [&](size_t k) { return bit_xor(load(n.u + k), load(n.v + k)); });
  lanes<int32_t>("popcount", [&](size_t k) { return popcount(load(n.u + k)); });
  lanes<int32_t>("total", [&](size_t k) {
    BitCounter counter;
    clear(counter);
    const size_t burst = BitCounter::kBurst < 31 ? BitCounter::kBurst : 31;
    for (size_t t = 0; t < burst && t < 7; ++t) {
      const uint32_t turned = static_cast<uint32_t>(t) * 0x11111111U;
      add_differing(counter, bit_xor(load(n.u + k), set_u32(turned)), load(n.v + k));
    }
    return total(counter);
  });
}

void bytes(const Numbers& n) {
  lanes<int32_t>("dot", [&](size_t k) { return dot(load(n.i + k), load_bytes(n.u + k), load_bytes(n.v + k)); });
  lanes<int32_t>("set_bytes", [&](size_t k) { return dot(load(n.i + k), set_bytes(0xFF0180FEU), load_bytes(n.v + k)); });
  // The first and the last two bytes of each lane have absolute values of at most 128 together.
  uint32_t tame[kCount];
  for (size_t k = 0; k < kCount; ++k) {
    const int pairs[][2] = {{-128, 0}, {64, -64}, {127, 1}, {-100, 28}, {0, 127}, {-1, -127}};
    uint8_t four[4];
    for (int half = 0; half < 2; ++half) {
      const int* pair = pairs[random_word() % 6];
      for (int side = 0; side < 2; ++side) four[2 * half + side] = static_cast<uint8_t>(pair[side]);
    }
    std::memcpy(&tame[k], four, 4);
  }
  uint32_t loud[kCount];
  for (size_t k = 0; k < kCount; ++k) loud[k] = k % 2 == 0 ? ~0U : n.u[k];
  lanes<int32_t>("dot_small", [&](size_t k) { return dot_small(load(n.i + k), load_bytes(loud + k), load_bytes(tame + k)); });

  uint8_t narrowed[kCount], four[4 * kCount];
  for (size_t k = 0; k < kCount; k += kLanes) narrow(narrowed + k, load(n.i + k));
  print("narrow", narrowed, kCount);
  for (size_t k = 0; k < kCount; k += kLanes) {
    narrow4(four + 4 * k, load(n.i + k), load(n.j + k), sub(load(n.i + k), load(n.j + k)), add(load(n.i + k), set_i32(255)),
            int16_t{97});
  }
  print("narrow4", four, 4 * kCount);
  const auto* raw = reinterpret_cast<const uint8_t*>(n.u);
  uint8_t zipped[64];
  zip4(zipped, raw + 1, raw + 100, raw + 203, raw + 307);
  print("zip4", zipped, 64);
  uint32_t turned[4 * 7] = {};
  turn4(turned, 28, n.w, 5);
  print("turn4", turned, 28);
}

void across(const Numbers& n) {
  bool parts = true, sums = true, highs = true, masks = true, order = true, table = true, squares = true, walsh = true;
  for (size_t k = 0; k + 2 * kLanes <= kCount; k += kLanes) {
    for (size_t live = 0; live <= kLanes; ++live) {
      float out[kLanes + 1], kept[kLanes + 1];
      for (float& x : kept) x = -3;
      std::memcpy(out, kept, sizeof out);
      store_part(out, load_part(n.c + k, live), live);
      for (size_t lane = 0; lane <= kLanes; ++lane) parts = parts && out[lane] == (lane < live ? n.c[k + lane] : -3);
      store(out, load_part(n.c + k, live));
      for (size_t lane = 0; lane < kLanes; ++lane) parts = parts && out[lane] == (lane < live ? n.c[k + lane] : 0);
    }
    // Whole numbers add up exactly in every order.
    float whole[kLanes], signs[kLanes];
    int32_t total_i = 0;
    float total_f = 0, highest_f = -1e30F;
    uint32_t at_least = 0, at_most = 0;
    for (size_t lane = 0; lane < kLanes; ++lane) {
      whole[lane] = static_cast<float>(n.i[k + lane]);
      total_i += n.i[k + lane];
      total_f += whole[lane];
      highest_f = whole[lane] > highest_f ? whole[lane] : highest_f;
      at_least |= static_cast<uint32_t>(n.a[k + lane] >= n.b[k + lane]) << lane;
      at_most |= static_cast<uint32_t>(n.i[k + lane] <= n.j[k + lane]) << lane;
    }
    sums = sums && sum(load(whole)) == total_f && sum(load(n.i + k)) == total_i;
    highs = highs && highest(load(whole)) == highest_f;
    masks = masks && bits_at_least(load(n.a + k), load(n.b + k)) == at_least &&
            bits_at_most(load(n.i + k), load(n.j + k)) == at_most;

    F32 even, odd, back_a, back_b;
    deinterleave(load(n.c + k), load(n.c + k + kLanes), even, odd);
    interleave(even, odd, back_a, back_b);
    float e[kLanes], o[kLanes], a[kLanes], b[kLanes];
    store(e, even), store(o, odd), store(a, back_a), store(b, back_b);
    for (size_t lane = 0; lane < kLanes; ++lane) {
      order = order && e[lane] == n.c[k + 2 * lane] && o[lane] == n.c[k + 2 * lane + 1];
      order = order && a[lane] == n.c[k + lane] && b[lane] == n.c[k + kLanes + lane];
    }

    float none[kLanes], one_on[kLanes], one_short[kLanes], all[kLanes];
    const F32 here = load(n.c + k), next = load(n.c + k + kLanes);
    store(none, slid<0>(here, next)), store(one_on, slid<1>(here, next));
    store(one_short, slid<kLanes - 1>(here, next)), store(all, slid<kLanes>(here, next));
    for (size_t lane = 0; lane < kLanes; ++lane) {
      order = order && none[lane] == n.c[k + lane] && one_on[lane] == n.c[k + 1 + lane];
      order = order && one_short[lane] == n.c[k + kLanes - 1 + lane] && all[lane] == n.c[k + kLanes + lane];
    }

    uint16_t narrow_index[kLanes];
    uint32_t wide_index[kLanes];
    for (size_t lane = 0; lane < kLanes; ++lane) wide_index[lane] = narrow_index[lane] = uint16_t(n.u[k + lane] % kCount);
    float got[kLanes], got_wide[kLanes];
    store(got, gather(n.c, narrow_index)), store(got_wide, gather(n.c, wide_index));
    for (size_t lane = 0; lane < kLanes; ++lane) {
      table = table && got[lane] == n.c[wide_index[lane]] && got_wide[lane] == got[lane];
    }

    store(signs, hadamard(load(whole)));
    for (size_t lane = 0; lane < kLanes; ++lane) {
      float expected = 0;
      for (size_t j = 0; j < kLanes; ++j) {
        size_t common = lane & j, parity = 0;
        for (; common != 0; common >>= 1) parity ^= common & 1;
        expected += parity != 0 ? -whole[j] : whole[j];
      }
      walsh = walsh && signs[lane] == expected;
    }
  }
  F32 rows[kLanes];
  float square[kLanes * kLanes], out[kLanes];
  for (size_t k = 0; k < kLanes * kLanes; ++k) square[k] = static_cast<float>(k);
  for (size_t row = 0; row < kLanes; ++row) rows[row] = load(square + row * kLanes);
  transpose(rows);
  for (size_t row = 0; row < kLanes; ++row) {
    store(out, rows[row]);
    for (size_t column = 0; column < kLanes; ++column) squares = squares && out[column] == square[column * kLanes + row];
  }
  // As many words as a counter takes, all of them different in every bit: the fullest it can get.
  int32_t full[kLanes];
  const size_t burst = BitCounter::kBurst < 1000 ? BitCounter::kBurst : 1000;
  BitCounter counter;
  clear(counter);
  for (size_t t = 0; t < burst; ++t) add_differing(counter, zero_u32(), set_u32(~0U));
  store(full, total(counter));
  bool filled = true;
  for (size_t lane = 0; lane < kLanes; ++lane) filled = filled && full[lane] == static_cast<int32_t>(32 * burst);
  prefetch(n.a);

  agree("load_part store_part", parts);
  agree("sum", sums);
  agree("highest", highs);
  agree("bits_at_least bits_at_most", masks);
  agree("deinterleave interleave slid", order);
  agree("gather", table);
  agree("hadamard", walsh);
  agree("transpose", squares);
  agree("add_differing", filled);
}

}  // namespace

int main() {
  static const Numbers numbers = draw();
  floats(numbers);
  words(numbers);
  bytes(numbers);
  across(numbers);
}
