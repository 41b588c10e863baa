// How an operator finds the kernels of one instruction set.
//
// kernel.h says GR_TABLES(Table) after declaring a struct of function pointers; kernel.cc, compiled once per
// instruction set with GR_ISA set to its name, defines `const Table GR_ISA::table`; node.cc asks pick(isa).
#pragma once

#include "glue/cpu.h"

#define GR_DECLARE_TABLE(isa, Table) \
  namespace isa {                    \
  extern const Table table;          \
  }

#if defined(GR_WITH_AVX2)
#define GR_AVX2(declare, Table) declare(avx2, Table)
#else
#define GR_AVX2(declare, Table)
#endif
#if defined(GR_WITH_AVX512)
#define GR_AVX512(declare, Table) declare(avx512, Table)
#else
#define GR_AVX512(declare, Table)
#endif
#if defined(GR_WITH_NEON)
#define GR_NEON(declare, Table) declare(neon, Table)
#else
#define GR_NEON(declare, Table)
#endif

#define GR_CHECK_TABLE(name, Table) \
  if (isa >= ::gr::Isa::name && best == nullptr) best = &name::table;

// Only the units that are compiled for every machine get `pick`: no code of an instruction-set unit may be shared.
#if defined(GR_ISA)
#define GR_TABLES(Table)                                                       \
  GR_DECLARE_TABLE(scalar, Table)                                              \
  GR_AVX2(GR_DECLARE_TABLE, Table) GR_AVX512(GR_DECLARE_TABLE, Table) GR_NEON(GR_DECLARE_TABLE, Table)
#else
#define GR_TABLES(Table)                                                                                       \
  GR_DECLARE_TABLE(scalar, Table)                                                                              \
  GR_AVX2(GR_DECLARE_TABLE, Table) GR_AVX512(GR_DECLARE_TABLE, Table) GR_NEON(GR_DECLARE_TABLE, Table)         \
  inline const Table& pick(::gr::Isa isa) {                                                                    \
    const Table* best = nullptr;                                                                               \
    GR_NEON(GR_CHECK_TABLE, Table) GR_AVX512(GR_CHECK_TABLE, Table) GR_AVX2(GR_CHECK_TABLE, Table)             \
    return best == nullptr ? scalar::table : *best;                                                            \
  }
#endif
