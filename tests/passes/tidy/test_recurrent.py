import numpy as np
import onnx_graphsurgeon as gs
import pytest

from graphrewrite.passes.tidy import DropZeroStates
from tests.passes.tidy.cases import Case, floats, ints, operators, tidied, verify

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def recurrent(b, op, state, both=True):  # type: ignore[no-untyped-def]
    x = b.input([5, "N", 3])
    weights = b.weight(1, GATES[op] * 2, 3), b.weight(1, GATES[op] * 2, 2)
    states = [state(b, x)] * (2 if op == "LSTM" and both else 1)
    return b.op(op, x, *weights, None, None, *states, hidden_size=2)


def filled(b, x, value=0.0):  # type: ignore[no-untyped-def]
    batch = b.op("Gather", b.op("Shape", x), b.constant(ints(1)))
    shape = b.concat(b.constant(ints(1)), batch, b.constant(ints(2)), axis=0)
    return b.op("ConstantOfShape", shape, value=gs.Constant("", np.float32([value])))


def expanded(b, x):  # type: ignore[no-untyped-def]
    batch = b.op("Gather", b.op("Shape", x), b.constant(ints(1)))
    shape = b.concat(b.constant(ints(1)), batch, b.constant(ints(2)), axis=0)
    return b.op(
        "Slice", b.op("Expand", b.constant(np.float32(0)), shape), b.constant(ints(0)), b.constant(ints(9))
    )


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("state", [filled, expanded])
def test_a_state_of_zeros_is_left_out(op, state) -> None:  # type: ignore[no-untyped-def]
    verify(Case("", lambda b: recurrent(b, op, state), op), DropZeroStates())


@pytest.mark.parametrize("op", GATES)
def test_another_state_stays(op) -> None:  # type: ignore[no-untyped-def]
    for state in (lambda b, x: filled(b, x, 0.5), lambda b, x: b.input([1, "N", 2])):
        assert not tidied(
            Case("", lambda b, s=state: recurrent(b, op, s), op).model(), DropZeroStates()
        ).changed


def test_zeros_beside_other_numbers_are_not_zeros() -> None:
    def mixed(b, x):  # type: ignore[no-untyped-def]
        return b.concat(filled(b, x), filled(b, x, 1.0), axis=0)

    def draw(b):  # type: ignore[no-untyped-def]
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
    def draw(b):  # type: ignore[no-untyped-def]
        x = b.input([5, 2, 3])
        lengths = b.constant(np.int32([5, 3]))
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
