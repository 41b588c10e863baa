"""Which measured speeds count: those of the instruction set that kernels would use now."""

from pathlib import Path

import pytest

from graphrewrite.cost.speeds import Point, Speeds, Work
from graphrewrite.custom_ops.presence import chosen_isa, forced, presence
from graphrewrite.runtime.speeds import known_speeds
from tests.support.kernels import isas, needs_library


@needs_library
def test_the_instruction_set_is_the_one_that_the_library_tells() -> None:
    for isa in isas():
        with forced(isa):
            assert chosen_isa() == isa == presence().isa
    with forced(None):
        assert chosen_isa() == isas()[-1]
    with forced("mmx"):
        assert chosen_isa() is None and known_speeds() is None


@needs_library
def test_every_instruction_set_has_speeds_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GRAPHREWRITE_SPEEDS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with forced("scalar"):
        assert known_speeds() is None
        measured = Speeds("scalar", "here", "", (Point("MatMul", Work(8, 8, 1), 1e-6),))
        measured.save(tmp_path / "graphrewrite" / "speeds-scalar.json")
        assert known_speeds() == measured
    if "avx2" in isas():
        with forced("avx2"):
            found = known_speeds()
        assert found is not None and found.isa == "avx2"


def test_without_kernels_there_is_nothing_to_compare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHREWRITE_LIBRARY", str(tmp_path / "nothing.so"))
    assert chosen_isa() is None and known_speeds() is None
