"""All operators without onnxruntime: under sanitizers, fuzzed, served as an older runtime, and on another processor.

Operators are found by their folders, so a new one is covered as soon as it is there.
"""

import os
import re
from pathlib import Path

import pytest

from graphrewrite import custom_ops
from tests.custom_ops.host.builds import Built, built, built_for_aarch64
from tests.custom_ops.host.casefile import cases_of, write

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
EACH = pytest.mark.parametrize("op", custom_ops.ops())
FUZZED = os.environ.get("GRAPHREWRITE_FUZZ_CASES", "100000")
SEED = os.environ.get("GRAPHREWRITE_FUZZ_SEED", "1")


def file_of(op: str, folder: Path) -> Path:
    """Write the operator's own cases."""
    path = folder / f"{op}.cases"
    write(path, cases_of(custom_ops.find(op)))
    return path


def assert_right(tools: Built, op: str, folder: Path, *more: str) -> list[str]:
    """Run all cases with every instruction set of the machine and return what each run said last."""
    cases = file_of(op, folder)
    isas = tools.isas(cases)
    assert "scalar" in isas
    said = []
    for isa in isas:
        code, text = tools.run("run", cases, *more, GRAPHREWRITE_ISA=isa)
        assert code == 0, f"{op} on {isa}:\n{text[-6000:]}"
        said.append(text.strip().splitlines()[-1])
    return said


@EACH
def test_kernels_in_the_oldest_interface(op: str, tmp_path: Path) -> None:
    assert_right(built("plain"), op, tmp_path, "--api", "17")


@EACH
def test_kernels_stay_inside_their_memory(op: str, tmp_path: Path) -> None:
    assert_right(built("address"), op, tmp_path, "--threads", "2")


@EACH
def test_kernels_share_nothing_unguarded(op: str, tmp_path: Path) -> None:
    said = assert_right(built("thread"), op, tmp_path, "--threads", "3", "--at-once", "2")
    # Cases too small for several threads would show no race either.
    assert all(int(re.findall(r"(\d+) loops split", line)[0]) > 0 for line in said), said


@EACH
def test_hostile_cases_end_in_a_clear_error_or_a_run(op: str, tmp_path: Path) -> None:
    tools, cases = built("address"), file_of(op, tmp_path)
    isas = tools.isas(cases)
    # The scalar kernels are the specification; the widest ones have the most to get wrong at the ends of buffers.
    for isa in {isas[0], isas[-1]}:
        code, text = tools.run(
            "fuzz", cases, "--op", op, "--count", FUZZED, "--seed", SEED, GRAPHREWRITE_ISA=isa
        )
        assert code == 0, f"{op} on {isa}:\n{text[-6000:]}"


@EACH
def test_kernels_on_arm(op: str, tmp_path: Path) -> None:
    tools = built_for_aarch64()
    assert "neon" in tools.isas(file_of(op, tmp_path))
    assert_right(tools, op, tmp_path, "--threads", "2")
