"""Recurrent layers written out: the same numbers, every gate a layer, what has a form of its own left alone."""

from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
import pytest

from graphrewrite.ir import Builder, Model
from graphrewrite.passes.factor import Factorize, LowerWavelet, WriteOutGates
from graphrewrite.passes.factor.factorizations.wavelet import Wavelet
from graphrewrite.pipeline import Pass, Pipeline
from tests.support.kernels import needs_library, started

GATES = {"GRU": 3, "LSTM": 4}
HIDDEN, WIDE = 12, 7


def recurrent(
    op: str, direction: str = "forward", start: bool = False, bias: bool = True, **attrs: object
) -> Model:
    b = Builder(opset=17, seed=2)
    directions, gates = (2 if direction == "bidirectional" else 1), GATES[op]
    weights = [b.weight(directions, gates * HIDDEN, WIDE), b.weight(directions, gates * HIDDEN, HIDDEN)]
    inputs: list[gs.Tensor | None] = [b.input(["T", "N", WIDE], "x"), *weights]
    inputs.append(
        b.constant(b.rng.standard_normal((directions, 2 * gates * HIDDEN)).astype(np.float32))
        if bias
        else None
    )
    if start:
        states = ["h0"] if op == "GRU" else ["h0", "c0"]
        inputs += [None, *(b.input([directions, "N", HIDDEN], name) for name in states)]
    outputs = 2 if op == "GRU" else 3
    attrs |= {"hidden_size": HIDDEN, "direction": direction}
    ends = b.op_all(op, *inputs, outputs=outputs, name="cell", domain=None, **attrs)
    return b.model(*ends)


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("start", [False, True])
@pytest.mark.parametrize(
    ("op", "attrs"), [("GRU", {}), ("GRU", {"linear_before_reset": 1}), ("LSTM", {})], ids=str
)
def test_written_out_it_computes_the_same(
    op: str, attrs: dict[str, Any], direction: str, start: bool
) -> None:
    result = Pipeline([WriteOutGates()]).run(recurrent(op, direction, start, **attrs))

    assert result.report.steps[0].verified.how == "same"
    assert result.report.steps[0].verified.error < 1e-5  # type: ignore[operator]
    assert not result.model.nodes(op)
    assert len(result.model.nodes("Scan")) == (2 if direction == "bidirectional" else 1)


@pytest.mark.parametrize("op", GATES)
def test_without_a_bias_too(op: str) -> None:
    assert Pipeline([WriteOutGates()]).run(recurrent(op, bias=False)).changed


@pytest.mark.parametrize("op", GATES)
def test_every_gate_can_be_factored_and_runs_as_one_node(op: str) -> None:
    steps: list[Pass] = [
        WriteOutGates(),
        Factorize(Wavelet(levels=2), smallest=0, only=("cell.state.*",)),
        LowerWavelet(),
    ]

    result = Pipeline(steps).run(recurrent(op, "bidirectional"))

    assert [step.verified.how for step in result.report.steps] == ["same", "reference", "same"]
    bodies = [node.attrs["body"] for node in result.model.nodes("Scan")]
    assert [sum(node.op == "WaveletLinear" for node in body.nodes) for body in bodies] == [GATES[op]] * 2


@needs_library
def test_kernels_run_in_the_body_of_a_loop() -> None:
    steps: list[Pass] = [WriteOutGates(), Factorize(Wavelet(levels=2), smallest=0), LowerWavelet()]
    proto = Pipeline(steps).run(recurrent("GRU")).model.to_proto()
    feeds = {"x": np.random.default_rng(0).standard_normal((6, 3, WIDE)).astype(np.float32)}
    wanted = started(proto, kernels=False).run(None, feeds)

    del proto.functions[:]  # nothing but the kernels can answer now
    found = started(proto, kernels=True).run(None, feeds)

    for mine, theirs in zip(found, wanted, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-5)


@pytest.mark.parametrize(
    ("attrs", "reason"),
    [
        ({"clip": 3.0}, "clipping"),
        ({"activations": ["Sigmoid", "Relu"]}, "other activations"),
    ],
)
def test_what_has_a_form_of_its_own_stays(attrs: dict[str, Any], reason: str) -> None:
    result = Pipeline([WriteOutGates()]).run(recurrent("GRU", **attrs))

    assert not result.changed
    assert reason in result.notes[0].text


def test_a_narrow_state_stays_when_asked() -> None:
    result = Pipeline([WriteOutGates(smallest=64)]).run(recurrent("GRU"))

    assert not result.changed
    assert "12 units, fewer than 64" in result.notes[0].text
