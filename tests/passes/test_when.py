"""Lowerings on machines of which no speeds are known: nothing is swapped unasked, and the note says what to do."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Builder, Model
from graphrewrite.passes.binary import BinarizeConv, LowerBinaryConv
from graphrewrite.passes.lowbit import LowerLowBit
from graphrewrite.passes.sparse import LowerBlockSparse, LowerQBlockSparse
from graphrewrite.pipeline import Context, Pass

Made = Callable[[str], Pass]

STEPS: dict[str, Made] = {
    "block_sparse": lambda when: LowerBlockSparse(when=when),
    "q_block_sparse": lambda when: LowerQBlockSparse(when=when, round_floats=True),
    "low_bit": lambda when: LowerLowBit(when=when),
    "binary": lambda when: LowerBinaryConv(when=when),
}


def everything() -> Model:
    """A binary convolution, and a product large enough for few bits that has nothing but zeros in most blocks."""
    b = Builder(seed=1, opset=17)
    x = b.input(["N", 64, 4, 4], "x")
    y = b.conv(b.relu(b.conv(x, out=64, into=64, name="signs")), out=2, into=64)
    weight = b.rng.standard_normal((128, 160)).astype(np.float32)
    weight[32:] = 0
    plain = b.op("MatMul", b.input(["N", 128], "z"), b.constant(weight), name="product")
    model = b.model(y, plain)
    return BinarizeConv(ends=True).run(model, Context()).model


@pytest.fixture(autouse=True)
def unmeasured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Kernels in plain C++, of which nobody measured the speed."""
    monkeypatch.setenv("GRAPHREWRITE_ISA", "scalar")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("GRAPHREWRITE_SPEEDS", raising=False)


@pytest.mark.parametrize("name", STEPS)
def test_nothing_is_swapped_and_the_note_says_what_to_do(name: str) -> None:
    outcome = STEPS[name]("faster").run(everything(), Context())

    assert not outcome.changed
    assert any("graphrewrite calibrate" in note.text for note in outcome.notes if note.kind == "skipped")


@pytest.mark.parametrize("name", STEPS)
def test_who_asks_for_it_gets_it(name: str) -> None:
    outcome = STEPS[name]("always").run(everything(), Context())

    assert outcome.changed
    assert any(node.domain == "graphrewrite" for node in outcome.model.nodes())


@pytest.mark.parametrize("name", STEPS)
def test_there_is_no_third_answer(name: str) -> None:
    with pytest.raises(InvalidConfig, match="when is 'never'; expected 'faster' or 'always'"):
        STEPS[name]("never")
