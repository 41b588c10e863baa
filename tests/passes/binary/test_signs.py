"""The ways in which graphs write a sign are one thing."""

from collections.abc import Callable

import numpy as np
import onnx_graphsurgeon as gs
import pytest

from graphrewrite.ir import Builder
from graphrewrite.passes.binary import LowerBinaryConv
from graphrewrite.pipeline import Context, Pipeline
from graphrewrite.runtime import run
from tests.passes.binary.drawing import sign_weight

Form = Callable[[Builder, gs.Tensor], gs.Tensor]


def _number(b: Builder, value: float) -> gs.Constant:
    return b.constant(np.float32(value))


def _compared(op: str, first: bool, plus: float = 1.0, negated: bool = False) -> Form:
    def draw(b: Builder, x: gs.Tensor) -> gs.Tensor:
        level = _number(b, 0.5)
        truth = b.op(op, x, level) if first else b.op(op, level, x)
        if negated:
            truth = b.op("Not", truth)
        return b.op("Where", truth, _number(b, plus), _number(b, -plus))

    return draw


def _from_truth(op: str, offset: float, factor: float) -> Form:
    def draw(b: Builder, x: gs.Tensor) -> gs.Tensor:
        truth = b.op("Cast", b.op("Greater", x, _number(b, 0.5)), to=1)
        return b.op(op, b.op("Mul", truth, _number(b, factor)), _number(b, offset))

    return draw


FORMS: dict[str, Form] = {
    **{
        f"{op}-{'x' if first else 'constant'}-first": _compared(op, first)
        for op in ("GreaterOrEqual", "Greater", "Less", "LessOrEqual")
        for first in (True, False)
    },
    "minus-first": _compared("GreaterOrEqual", True, plus=-1.0),
    "not": _compared("Less", True, negated=True),
    "halves": _compared("GreaterOrEqual", True, plus=0.5),
    "doubled-truth": _from_truth("Sub", 1.0, 2.0),
    "doubled-truth-plus": _from_truth("Add", -1.0, 2.0),
    "negative-truth": _from_truth("Add", 1.0, -2.0),
}


@pytest.mark.parametrize("name", FORMS)
def test_each_form_is_lowered_to_the_bit(name: str) -> None:
    b = Builder(seed=3)
    x = b.input([1, 16, 4, 4], "x")
    model = b.model(b.op("Conv", FORMS[name](b, x), sign_weight(b, 8, 16, 3, 3)))

    after = Pipeline([LowerBinaryConv()]).run(model, Context()).model

    assert [node.op for node in after.graph.nodes] == ["BinaryConv"]
    # Numbers on the threshold, just above and just below it among others.
    edge = np.float32(0.5)
    choices = np.array(
        [edge, np.nextafter(edge, np.float32(1)), np.nextafter(edge, np.float32(0)), -2, 3], np.float32
    )
    feeds = {"x": np.random.default_rng(0).choice(choices, (1, 16, 4, 4))}
    before = run(model, feeds)
    for key, values in run(after, feeds).items():
        np.testing.assert_array_equal(values, before[key])


REFUSED: dict[str, tuple[Form, str]] = {
    "two-sizes": (
        lambda b, x: b.op("Where", b.op("Greater", x, _number(b, 0)), _number(b, 1), _number(b, -2)),
        "one number and its negative",
    ),
    "zero-and-one": (
        lambda b, x: b.op("Where", b.op("Greater", x, _number(b, 0)), _number(b, 1), _number(b, 0)),
        "one number and its negative",
    ),
    "a-threshold-per-position": (
        lambda b, x: b.op(
            "Where",
            b.op(
                "GreaterOrEqual",
                x,
                b.constant(np.zeros((1, 1, 4, 4), np.float32) + np.eye(4, dtype=np.float32)),
            ),
            _number(b, 1),
            _number(b, -1),
        ),
        "not one per channel",
    ),
    "computed": (
        lambda b, x: b.op("Where", b.op("GreaterOrEqual", x, b.relu(x)), _number(b, 1), _number(b, -1)),
        "comparing a tensor with constants",
    ),
    "not-a-sign": (lambda b, x: b.relu(x), "not the sign of anything"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_sign_is_refused_with_the_reason(name: str) -> None:
    form, reason = REFUSED[name]
    b = Builder(seed=3)
    x = b.input([1, 16, 4, 4], "x")
    model = b.model(b.op("Conv", form(b, x), sign_weight(b, 8, 16, 3, 3), name="layer"))

    result = Pipeline([LowerBinaryConv()]).run(model, Context())

    assert not result.changed
    assert [(note.subject, reason in note.text) for note in result.notes] == [("layer", True)]
