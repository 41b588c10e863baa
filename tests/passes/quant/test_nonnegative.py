"""Which tensors cannot go below zero: by hand, and against what nets with random inputs give."""

import numpy as np
import pytest

from graphrewrite.ir import Builder, Model
from graphrewrite.match.view import View
from graphrewrite.passes.quant.nonnegative import NonNegative
from graphrewrite.runtime import run
from tests.passes.quant.nets import net


def mixed() -> Model:
    """Operators that keep the sign, and some that do not."""
    b = Builder(seed=0)
    x = b.input(["N", 4, 6, 6], "x")
    up = b.op("Identity", b.op("Relu", x, name="up"), name="handed_on")
    low = b.op("Clip", x, b.constant(np.float32(-0.5)), b.constant(np.float32(2)), name="low")
    six = b.op("Clip", x, b.constant(np.float32(0)), b.constant(np.float32(6)), name="six")
    half = b.op("Mul", up, b.constant(np.float32(0.5)), name="half")
    against = b.op("Mul", up, b.constant(np.float32(-0.5)), name="against")
    both = b.concat(up, low, half, against, b.op("Add", up, six, name="sum"))
    return b.model(b.op("Sub", both, b.constant(np.float32(1)), name="minus"))


def test_by_hand() -> None:
    model = mixed()
    found = NonNegative(View(model))
    names = {node.name for node in model.graph.nodes if found.holds(node.outputs[0].name)}
    assert names >= {"up", "handed_on", "six", "half", "sum"}
    assert not names & {"low", "against", "minus"} and not found.holds("x")


@pytest.mark.parametrize("build", [mixed, net])
def test_what_is_said_holds(build: "object") -> None:
    model: Model = build()  # type: ignore[operator]
    found = NonNegative(View(model))
    said = [node.outputs[0].name for node in model.graph.nodes if found.holds(node.outputs[0].name)]
    sizes = [size if isinstance(size, int) else 2 for size in model.inputs[0].shape]
    x = np.random.default_rng(0).standard_normal(sizes).astype(np.float32)
    assert len(said) >= 4
    for name, values in run(model, {"x": x}, said).items():
        assert (np.asarray(values, np.float64) >= 0).all(), name
