"""Every operation of the SIMD layer means the same for every instruction set: scalar.h says what."""

import re
import shutil
from pathlib import Path

import pytest

from tests.custom_ops.runtimes.compiled import ROOT, compiler, succeed

LAYER = ROOT / "custom_ops" / "simd"
CHECK = Path(__file__).with_name("check.cc")
CMAKE = (ROOT / "custom_ops" / "CMakeLists.txt").read_text(encoding="utf-8")
HEADERS = ("scalar", "avx2", "avx512", "neon")


def operations(isa: str) -> set[str]:
    """Return the names of the operations that a header has."""
    text = (LAYER / f"{isa}.h").read_text(encoding="utf-8")
    return set(re.findall(r"^GR_INLINE (?:const )?[\w:]+&? (\w+)\(", text, re.M))


def flags(isa: str) -> list[str]:
    """Return the flags that the build gives the units of an instruction set, those of avx512 with avx2's."""
    wanted = {"avx2": ("avx2",), "avx512": ("avx2", "avx512")}.get(isa, ())
    found: list[str] = []
    for name in wanted:
        block = re.findall(rf"set\(candidates_{name} ([^)]*)\)", CMAKE)[-1]
        found += [word for word in block.split() if word.startswith("-m")]
    return found


def printed(isa: str, folder: Path, build: str, *run: str, include: Path = LAYER.parent) -> list[str]:
    """Compile the program for an instruction set and return its lines."""
    program = folder / f"check_{isa}"
    words = [build, "-std=c++17", "-O2", "-ffp-contract=off", f"-I{include}", f"-DGR_ISA={isa}"]
    succeed([*words, f"-DGR_ISA_{isa.upper()}", *flags(isa), CHECK, "-o", program])
    return succeed([*run, program]).splitlines()


def has(isa: str) -> bool:
    """Tell whether this machine runs code of an instruction set."""
    if isa == "scalar":
        return True
    info = Path("/proc/cpuinfo")
    text = info.read_text(encoding="utf-8") if info.exists() else ""
    words = {
        "avx2": ("avx2", "fma", "bmi2"),
        "avx512": ("avx512f", "avx512_vbmi2", "avx512_vpopcntdq", "avx512_vnni"),
    }
    return isa in words and all(re.search(rf"\b{word}\b", text) for word in words[isa])


def assert_same(found: list[str], expected: list[str]) -> None:
    """Compare what two programs printed, naming the operation that differs."""
    wrong = [a.split()[0] for a, b in zip(found, expected, strict=True) if a != b or "DIFFERS" in a]
    assert wrong == []


@pytest.mark.parametrize("isa", ["avx2", "avx512"])
def test_an_instruction_set_computes_what_the_scalar_code_does(isa: str, tmp_path: Path) -> None:
    if not has(isa):
        pytest.skip(f"this processor has no {isa}")
    assert_same(printed(isa, tmp_path, compiler()), printed("scalar", tmp_path, compiler()))


@pytest.mark.slow
def test_neon_computes_what_the_scalar_code_does(tmp_path: Path) -> None:
    cross, emulator = (
        "aarch64-linux-gnu-g++",
        shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64"),
    )
    if shutil.which(cross) is None or emulator is None:
        pytest.skip(f"needs {cross} and qemu-aarch64 (Debian: g++-aarch64-linux-gnu, qemu-user-static)")
    neon = printed("neon", tmp_path, cross, emulator, "-L", "/usr/aarch64-linux-gnu")
    assert_same(neon, printed("scalar", tmp_path, compiler()))


@pytest.mark.parametrize("isa", HEADERS[1:])
def test_every_header_has_every_operation(isa: str) -> None:
    assert sorted(operations("scalar") - operations(isa)) == []


def test_every_operation_is_checked() -> None:
    called = set(re.findall(r"\b(\w+)(?:<[^<>()]*>)?\(", CHECK.read_text(encoding="utf-8")))
    assert len(operations("scalar")) > 40
    assert sorted(operations("scalar") - called) == []


def test_a_wrong_operation_would_be_seen(tmp_path: Path) -> None:
    shutil.copytree(LAYER, tmp_path / "simd")
    header = tmp_path / "simd" / "scalar.h"
    text = header.read_text(encoding="utf-8")
    assert "a.v > b.v ? a.v : b.v" in text
    header.write_text(text.replace("a.v > b.v ? a.v : b.v", "b.v > a.v ? b.v : a.v"), encoding="utf-8")
    broken = printed("scalar", tmp_path, compiler(), include=tmp_path)
    with pytest.raises(AssertionError, match="max"):
        assert_same(broken, printed("scalar", tmp_path, compiler()))
