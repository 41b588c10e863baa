from collections.abc import Callable
from functools import partial

import numpy as np
import onnx_graphsurgeon as gs
import pytest

from graphrewrite.ir import Builder
from graphrewrite.passes.tidy import DropZeroStates
from tests.passes.tidy.cases import Case, floats, ints, operators, tidied, verify

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def recurrent(
    b: Builder, op: str, state: Callable[[Builder, gs.Tensor], gs.Tensor], both: bool = True
) -> gs.Tensor:
    x = b.input([5, "N", 3])
    weights = b.weight(1, GATES[op] * 2, 3), b.weight(1, GATES[op] * 2, 2)
    states = [state(b, x)] * (2 if op == "LSTM" and both else 1)
    return b.op(op, x, *weights, None, None, *states, hidden_size=2)


def filled(b: Builder, x: gs.Tensor, value: float = 0.0) -> gs.Tensor:
    batch = b.op("Gather", b.op("Shape", x), b.constant(ints(1)))
    shape = b.concat(b.constant(ints(1)), batch, b.constant(ints(2)), axis=0)
    return b.op("ConstantOfShape", shape, value=gs.Constant("", np.asarray([value], np.float32)))


def expanded(b: Builder, x: gs.Tensor) -> gs.Tensor:
    batch = b.op("Gather", b.op("Shape", x), b.constant(ints(1)))
    shape = b.concat(b.constant(ints(1)), batch, b.constant(ints(2)), axis=0)
    return b.op(
        "Slice", b.op("Expand", b.constant(np.float32(0)), shape), b.constant(ints(0)), b.constant(ints(9))
    )


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("state", [filled, expanded])
def test_a_state_of_zeros_is_left_out(op: str, state: Callable[[Builder, gs.Tensor], gs.Tensor]) -> None:
    verify(Case("", lambda b: recurrent(b, op, state), op), DropZeroStates())


@pytest.mark.parametrize("op", GATES)
def test_another_state_stays(op: str) -> None:
    def half(b: Builder, x: gs.Tensor) -> gs.Tensor:
        return filled(b, x, 0.5)

    def fed(b: Builder, x: gs.Tensor) -> gs.Tensor:
        return b.input([1, "N", 2])

    for state in (half, fed):
        model = Case("", partial(recurrent, op=op, state=state), op).model()
        assert not tidied(model, DropZeroStates()).changed


def test_zeros_beside_other_numbers_are_not_zeros() -> None:
    def mixed(b: Builder, x: gs.Tensor) -> gs.Tensor:
        return b.concat(filled(b, x), filled(b, x, 1.0), axis=0)

    def draw(b: Builder) -> gs.Tensor:
        x = b.input([5, "N", 3])
        return b.op(
            "RNN",
            x,
            b.weight(2, 2, 3),
            b.weight(2, 2, 2),
            None,
            None,
            mixed(b, x),
            hidden_size=2,
            direction="bidirectional",
        )

    outcome = tidied(Case("", draw, "").model(), DropZeroStates())
    assert not outcome.changed and "ConstantOfShape" in operators(outcome.model)


def test_lengths_of_sequences_stay() -> None:
    def draw(b: Builder) -> gs.Tensor:
        x = b.input([5, 2, 3])
        lengths = b.constant(np.asarray([5, 3], np.int32))
        return b.op(
            "GRU",
            x,
            b.weight(1, 6, 3),
            b.weight(1, 6, 2),
            None,
            lengths,
            b.constant(np.zeros((1, 2, 2), np.float32)),
            hidden_size=2,
        )

    outcome = tidied(Case("", draw, "").model(), DropZeroStates())
    (node,) = outcome.model.nodes("GRU")
    assert node.inputs[4].values.tolist() == [5, 3] and (len(node.inputs) < 6 or node.inputs[5].is_empty())


def test_floats_are_not_confused_with_zero() -> None:
    assert not np.any(floats(3) == 0)
