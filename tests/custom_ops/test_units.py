"""What the compiler made of the kernels: what leaves each unit, which registers it uses, what its inner loops touch.

A unit for a newer instruction set must not hold a copy of a function that others share: the linker keeps one, and an
older processor would meet it. And a kernel whose sums live on the stack is right but slow, which no other test sees.
"""

import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from tests.custom_ops.host.builds import built
from tests.custom_ops.runtimes.compiled import compiler, succeed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

# What a kernel unit may call: copies of memory, and arithmetic of the C library.
ALLOWED = re.compile(r"^(mem(cpy|move|set|cmp)|[a-z0-9]+f?|_GLOBAL_OFFSET_TABLE_|__stack_chk_fail)$")
FORBIDDEN = {"malloc", "calloc", "realloc", "free", "abort", "exit", "printf", "fprintf"}
ARITHMETIC = re.compile(
    r"\b(vfn?m(add|sub)\d+ps|vpdpbusd\w*|vpmaddubsw|vpopcnt[bdq]|vpshufb|fmla|cnt|sdot)\b"
)
# Fewer than these in a loop: not one of the loops that a layer spends its time in.
HOT = 8
# A register or two too many costs little; sums that live on the stack are stored after every product.
MOST_STORED = 0.25


@cache
def objects() -> dict[str, Path]:
    """Return the object files of a plain build by the name of their unit, such as `pack_signs_avx2`."""
    for tool in ("nm", "objdump"):
        if shutil.which(tool) is None:
            pytest.skip(f"needs {tool}")
    folder = built("plain").library.parent
    found = {}
    for path in folder.rglob("*.o"):
        unit = next(part for part in path.parts if part.endswith(".dir")).removesuffix(".dir")
        kind = path.name.removesuffix(".cc.o")
        found[unit if kind == "kernel" else f"{path.parent.name}.{kind}"] = path
    return found


def kernels() -> dict[str, Path]:
    """Return the units that are compiled once per instruction set."""
    return {
        unit: path
        for unit, path in objects().items()
        if unit.rpartition("_")[2] in ("scalar", "avx2", "avx512")
    }


def symbols(path: Path) -> Iterator[tuple[str, str]]:
    """Yield kind and readable name of every symbol of an object file."""
    for line in succeed(["nm", "-C", path]).splitlines():
        found = re.match(r"(?:[0-9a-f]+)?\s+(\w) (.+)", line)
        if found:
            yield found[1], found[2]


def strays(named: Sequence[tuple[str, str]]) -> list[str]:
    """Return the symbols that a kernel unit must not have: shared ones, and calls of anything but plain C."""
    found = [name for kind, name in named if kind in "WVuwv"]
    found += [name for kind, name in named if kind in "TDBRG" and not name.endswith("::table")]
    return found + [
        name for kind, name in named if kind == "U" and (name in FORBIDDEN or not ALLOWED.match(name))
    ]


def test_kernel_units_share_nothing_but_their_table() -> None:
    assert len(kernels()) > 3
    found = {unit: strays(list(symbols(path))) for unit, path in kernels().items()}
    assert {unit: names for unit, names in found.items() if names} == {}


def test_a_shared_function_would_be_seen(tmp_path: Path) -> None:
    source = tmp_path / "bad.cc"
    source.write_text(
        "#include <vector>\nvoid work(std::vector<int>& v) { v.push_back(1); }\n", encoding="utf-8"
    )
    succeed([compiler(), "-std=c++17", "-O1", "-c", source, "-o", tmp_path / "bad.o"])
    found = strays(list(symbols(tmp_path / "bad.o")))
    assert any("std::vector" in name for name in found)
    assert any("operator new" in name for name in found)


@dataclass(frozen=True)
class Instruction:
    """One line of a disassembly."""

    address: int
    text: str


def functions(path: Path) -> Iterator[list[Instruction]]:
    """Yield the instructions of every function of an object file."""
    listing = succeed(["objdump", "-d", "--no-show-raw-insn", path])
    for block in re.split(r"\n(?=[0-9a-f]+ <)", listing):
        lines = (re.match(r"\s+([0-9a-f]+):\s+(\S.*)", line) for line in block.splitlines())
        found = [Instruction(int(line[1], 16), line[2]) for line in lines if line]
        if found:
            yield found


def registers(path: Path) -> set[str]:
    """Return the kinds of vector registers that the code of an object file names."""
    return {
        kind for code in functions(path) for one in code for kind in re.findall(r"%([xyz]mm)\d", one.text)
    }


def test_units_use_the_registers_of_their_instruction_set_and_no_wider_ones() -> None:
    if not any(unit.endswith("_avx2") for unit in kernels()):
        pytest.skip("not an x86-64 processor")
    allowed = {"avx512": {"xmm", "ymm", "zmm"}, "avx2": {"xmm", "ymm"}}
    found = {
        unit: registers(path) - allowed.get(unit.rpartition("_")[2], {"xmm"})
        for unit, path in objects().items()
    }
    assert {unit: kinds for unit, kinds in found.items() if kinds} == {}
    # The check sees what it looks for.
    assert all("zmm" in registers(path) for unit, path in kernels().items() if unit.endswith("_avx512"))


def inner_loops(code: list[Instruction]) -> Iterator[list[str]]:
    """Yield the instructions of every loop that holds no other loop."""
    jumps = [
        (int(target[1], 16), one.address)
        for one in code
        if (target := re.match(r"j\w+\s+([0-9a-f]+)", one.text)) and int(target[1], 16) <= one.address
    ]
    for first, last in jumps:
        if not any((a, b) != (first, last) and first <= a and b <= last for a, b in jumps):
            yield [one.text for one in code if first <= one.address <= last]


def stack_traffic(loop: list[str]) -> list[str]:
    """Return the instructions that move vectors between registers and the stack."""
    return [text for text in loop if re.search(r"\(%r[sb]p", text) and re.search(r"%[xyz]mm", text)]


def spilling(path: Path) -> list[str]:
    """Describe the hot inner loops of a unit in which sums leave the registers."""
    found = []
    for code in functions(path):
        for loop in inner_loops(code):
            hot = sum(bool(ARITHMETIC.search(text)) for text in loop)
            stored = [text for text in stack_traffic(loop) if re.search(r"%[xyz]mm\d+,[^%]*\(%r[sb]p", text)]
            if hot >= HOT and len(stored) > MOST_STORED * hot:
                found.append(f"{len(stored)} stores to the stack beside {hot} products: {stored[0]}")
    return found


def test_sums_stay_in_registers_in_the_hot_loops() -> None:
    wide = {unit: path for unit, path in kernels().items() if unit.endswith("_avx512")}
    found = {unit: spilling(path) for unit, path in wide.items()}
    assert {unit: loops for unit, loops in found.items() if loops} == {}


def test_sums_on_the_stack_would_be_seen(tmp_path: Path) -> None:
    if "x86" not in succeed([compiler(), "-dumpmachine"]):
        pytest.skip("not an x86-64 processor")
    source = tmp_path / "spill.cc"
    source.write_text(
        "#include <immintrin.h>\n"
        "void work(const float* x, const float* w, float* y, long n) {\n"
        "  volatile __m256 sums[8] = {};\n"
        "  for (long k = 0; k < n; ++k)\n"
        "#pragma GCC unroll 8\n"
        "    for (int i = 0; i < 8; ++i)\n"
        "      sums[i] = _mm256_fmadd_ps(_mm256_set1_ps(x[k]), _mm256_loadu_ps(w + 8 * i), sums[i]);\n"
        "  for (int i = 0; i < 8; ++i) _mm256_storeu_ps(y + 8 * i, sums[i]);\n"
        "}\n",
        encoding="utf-8",
    )
    succeed([compiler(), "-O2", "-mavx2", "-mfma", "-c", source, "-o", tmp_path / "spill.o"])
    assert spilling(tmp_path / "spill.o")


def test_the_library_exports_one_function() -> None:
    exported = succeed(["nm", "-D", "--defined-only", built("plain").library]).split("\n")
    assert [line.split()[-1] for line in exported if line] == ["RegisterCustomOps"]


def test_the_library_needs_nothing_but_the_language_and_the_system() -> None:
    listing = succeed(["objdump", "-p", built("plain").library])
    needed = re.findall(r"NEEDED\s+(\S+)", listing)
    assert [
        name for name in needed if not re.match(r"lib(stdc\+\+|m|gcc_s|c|pthread)\.so|ld-linux", name)
    ] == []
