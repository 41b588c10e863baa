// A thin layer over vector registers: the same few operations for every instruction set, each in a namespace of its own.
//
// Included by kernel.cc only, which is compiled once per instruction set with GR_ISA set. A kernel says
// `using namespace simd::GR_ISA` and works with
//   kLanes          32-bit lanes of a register
//   F32, I32, U32   registers of floats, signed and unsigned integers
//   I8              a register of bytes, four to a lane
// Every operation exists in all headers and means exactly the same in all of them; scalar.h is the specification and
// tests/custom_ops/test_simd.py compares the others with it. Nothing here may include a standard-library template.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(_MSC_VER)
#define GR_INLINE static __forceinline
#define GR_RESTRICT __restrict
#else
#define GR_INLINE static inline __attribute__((always_inline))
#define GR_RESTRICT __restrict__
#endif
// In front of a loop whose rounds are few and known, to keep what it works on in registers.
#if defined(__GNUC__)
#define GR_UNROLL _Pragma("GCC unroll 32")
#else
#define GR_UNROLL
#endif

#if defined(GR_ISA_AVX512)
#include "simd/avx512.h"
#elif defined(GR_ISA_AVX2)
#include "simd/avx2.h"
#elif defined(GR_ISA_NEON)
#include "simd/neon.h"
#else
#include "simd/scalar.h"
#endif
