#include "glue/cpu.h"

#include <cstdint>
#include <cstdlib>

#include "glue/error.h"

#if defined(__x86_64__) || defined(_M_X64)
#define GR_X86 1
#if defined(_MSC_VER)
#include <immintrin.h>
#include <intrin.h>
#else
#include <cpuid.h>
#endif
#endif

#if defined(__linux__) && defined(GR_X86)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace gr {
namespace {



#if defined(GR_X86)

struct Registers {
  uint32_t a, b, c, d;
};

Registers cpuid(uint32_t leaf, uint32_t subleaf) {
  Registers r{};
#if defined(_MSC_VER)
  int out[4];
  __cpuidex(out, static_cast<int>(leaf), static_cast<int>(subleaf));
  r = {static_cast<uint32_t>(out[0]), static_cast<uint32_t>(out[1]), static_cast<uint32_t>(out[2]),
       static_cast<uint32_t>(out[3])};
#else
  if (__get_cpuid_count(leaf, subleaf, &r.a, &r.b, &r.c, &r.d) == 0) r = {};
#endif
  return r;
}

// The register sets that the operating system saves at a task switch.
uint64_t saved_registers() {
#if defined(_MSC_VER)
  return _xgetbv(0);
#else
  uint32_t low = 0, high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (static_cast<uint64_t>(high) << 32) | low;
#endif
}

bool has(uint32_t word, std::initializer_list<int> bits) {
  for (const int bit : bits) {
    if ((word >> bit & 1) == 0) return false;
  }
  return true;
}

// Linux hands out the matrix tiles only to processes that ask.
bool tiles_granted() {
#if defined(__linux__)
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return true;
#endif
}

std::vector<Isa> detect() {
  std::vector<Isa> found{Isa::scalar};
  const Registers one = cpuid(1, 0);
  if (!has(one.c, {12, 20, 23, 27, 28, 29})) return found;  // fma, sse4.2, popcnt, osxsave, avx, f16c
  const uint64_t saved = saved_registers();
  if ((saved & 0x6) != 0x6) return found;
  const Registers seven = cpuid(7, 0);
  if (!has(seven.b, {3, 5, 8})) return found;  // bmi1, avx2, bmi2
  found.push_back(Isa::avx2);
  const bool wide = has(seven.b, {16, 17, 28, 30, 31})   // f, dq, cd, bw, vl
                    && has(seven.c, {1, 6, 11, 12, 14})  // vbmi, vbmi2, vnni, bitalg, vpopcntdq
                    && (saved & 0xe6) == 0xe6;
  if (!wide) return found;
  found.push_back(Isa::avx512);
  if (has(seven.d, {24, 25}) && (saved & 0x60000) == 0x60000 && tiles_granted()) found.push_back(Isa::amx);
  return found;
}

#elif defined(__aarch64__) || defined(_M_ARM64)

// Every 64-bit Arm has the vector unit; our units ask for nothing beyond the base architecture.
std::vector<Isa> detect() { return {Isa::scalar, Isa::neon}; }

#else

std::vector<Isa> detect() { return {Isa::scalar}; }

#endif

std::string list_of(const std::vector<Isa>& isas) {
  std::string text;
  for (const Isa isa : isas) text += (text.empty() ? "" : ", ") + std::string(name_of(isa));
  return text;
}

}  // namespace

const char* name_of(Isa isa) {
  switch (isa) {
    case Isa::avx2:
      return "avx2";
    case Isa::avx512:
      return "avx512";
    case Isa::amx:
      return "amx";
    case Isa::neon:
      return "neon";
    case Isa::scalar:
      break;
  }
  return "scalar";
}

const std::vector<Isa>& available_isas() {
  static const std::vector<Isa> found = detect();
  return found;
}

Isa chosen_isa() {
  const std::vector<Isa>& found = available_isas();
  const char* asked = std::getenv("GRAPHREWRITE_ISA");
  if (asked == nullptr || *asked == '\0') return found.back();
  for (const Isa isa : found) {
    if (std::string(asked) == name_of(isa)) return isa;
  }
  throw Error("GRAPHREWRITE_ISA is '" + std::string(asked) + "'; expected one that this machine has: " + list_of(found) +
              "; change or unset it");
}

}  // namespace gr
