// Which instruction set a kernel uses.
#pragma once

#include <string>
#include <vector>

namespace gr {

// In the order of preference within one architecture. `amx` is avx512 plus matrix tiles.
enum class Isa : int { scalar = 0, avx2 = 1, avx512 = 2, amx = 3, neon = 4 };

const char* name_of(Isa isa);

// What this machine can run, worst first; the operating system must have agreed to keep the registers.
const std::vector<Isa>& available_isas();

// The best one, or the one that the environment variable GRAPHREWRITE_ISA asks for. Read at every call, so that a
// process can load one session per instruction set. Throws Error where it asks for one that is unknown or not there.
Isa chosen_isa();

}  // namespace gr
