"""Recurrent nodes in all their settings against onnxruntime; fused loops against steps."""

import itertools

import numpy as np
import pytest
import torch

from graphrewrite.bridge import GraphModule
from graphrewrite.errors import UnsupportedOp
from graphrewrite.ir import Array, Model
from tests.engine.bridge.nodes import bridged, by_onnxruntime, node_model, same

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
STATES = {"LSTM": 2, "GRU": 1, "RNN": 1}
TIME, BATCH, WIDTH, HIDDEN = 5, 3, 4, 6


def drawn(
    kind: str, directions: int, lengths: bool, states: bool, peepholes: bool = False
) -> list[Array | None]:
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> Array:
        return rng.standard_normal(shape).astype(np.float32)

    rows = GATES[kind] * HIDDEN
    given: list[Array | None] = [
        normal(TIME, BATCH, WIDTH),
        normal(directions, rows, WIDTH),
        normal(directions, rows, HIDDEN),
        normal(directions, 2 * rows),
        np.asarray([TIME, 2, 4], np.int32) if lengths else None,
        *(normal(directions, BATCH, HIDDEN) if states else None for _ in range(STATES[kind])),
    ]
    if peepholes:
        given.append(normal(directions, 3 * HIDDEN))
    while given[-1] is None:
        given.pop()
    return given


@pytest.mark.parametrize("kind", GATES)
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_directions_lengths_and_states(kind: str, direction: str) -> None:
    directions = 2 if direction == "bidirectional" else 1
    for lengths, states, late in itertools.product([False, True], [False, True], [0, 1]):
        given = drawn(kind, directions, lengths, states)
        settings: dict[str, object] = {"linear_before_reset": late} if kind == "GRU" else {}
        proto = node_model(
            kind, given, 1 + STATES[kind], {"hidden_size": HIDDEN, "direction": direction, **settings}
        )
        assert same(bridged(proto, given), by_onnxruntime(proto, given)), (lengths, states, late)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("LSTM", {"clip": 0.4}),
        ("LSTM", {"input_forget": 1}),
        ("GRU", {"clip": 0.4}),
        ("GRU", {"clip": 0.4, "linear_before_reset": 1}),
        ("RNN", {"clip": 0.4}),
        ("RNN", {"activations": ["Relu"]}),
        ("RNN", {"activations": ["Affine"], "activation_alpha": [0.3], "activation_beta": [0.2]}),
        ("RNN", {"activations": ["LeakyRelu"], "activation_alpha": [0.2]}),
        ("RNN", {"activations": ["Elu"], "activation_alpha": [0.6]}),
        ("RNN", {"activations": ["ScaledTanh"], "activation_alpha": [0.7], "activation_beta": [0.5]}),
        ("RNN", {"activations": ["ThresholdedRelu"], "activation_alpha": [0.2]}),
        ("RNN", {"activations": ["Softsign"]}),
        ("GRU", {"activations": ["HardSigmoid", "Softsign"]}),
        (
            "GRU",
            {"activations": ["HardSigmoid", "Elu"], "activation_alpha": [0.3, 0.9], "activation_beta": [0.4]},
        ),
        ("LSTM", {"activations": ["HardSigmoid", "Softplus", "Relu"]}),
    ],
)
def test_clips_and_activations(kind: str, settings: dict[str, object]) -> None:
    given = drawn(kind, 1, False, True)
    proto = node_model(kind, given, 1 + STATES[kind], {"hidden_size": HIDDEN, **settings})
    assert same(bridged(proto, given), by_onnxruntime(proto, given))


@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_peepholes(direction: str) -> None:
    given = drawn("LSTM", 2 if direction == "bidirectional" else 1, True, True, peepholes=True)
    proto = node_model("LSTM", given, 3, {"hidden_size": HIDDEN, "direction": direction})
    assert same(bridged(proto, given), by_onnxruntime(proto, given))


@pytest.mark.parametrize("kind", GATES)
def test_the_batch_may_come_first(kind: str) -> None:
    given = drawn(kind, 2, False, True)
    plain = node_model(kind, given, 1 + STATES[kind], {"hidden_size": HIDDEN, "direction": "bidirectional"})
    seen, *last = by_onnxruntime(plain, given)
    turned = [
        value.swapaxes(0, 1) if i in (0, 5, 6) and value is not None else value
        for i, value in enumerate(given)
    ]
    proto = node_model(
        kind, turned, 1 + STATES[kind], {"hidden_size": HIDDEN, "direction": "bidirectional", "layout": 1}
    )
    wanted = [seen.transpose(2, 0, 1, 3), *(state.swapaxes(0, 1) for state in last)]
    assert same(bridged(proto, turned), wanted)


@pytest.mark.parametrize("kind", GATES)
def test_fused_loops_and_steps_have_the_same_gradients(kind: str) -> None:
    """Lengths that cut nothing off force steps; GRU's early reset is never fused."""
    settings: dict[str, object] = {"linear_before_reset": 1} if kind == "GRU" else {}
    slopes = []
    for lengths in (False, True):
        given = drawn(kind, 2, lengths, True)
        if lengths:
            given[4] = np.full(BATCH, TIME, np.int32)
        proto = node_model(
            kind, given, 1 + STATES[kind], {"hidden_size": HIDDEN, "direction": "bidirectional", **settings}
        )
        module = GraphModule(Model.from_proto(proto))
        fed = [
            torch.tensor(value, requires_grad=value.dtype.kind == "f") for value in given if value is not None
        ]
        sum((out * out).sum() for out in module(*fed)).backward()
        slopes.append([value.grad for value in fed if value.grad is not None])
    assert len(slopes[0]) == 4 + STATES[kind]
    for one, two in zip(*slopes, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", GATES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_float_types(kind: str, dtype: torch.dtype) -> None:
    given = drawn(kind, 1, False, True)
    proto = node_model(kind, given, 1 + STATES[kind], {"hidden_size": HIDDEN})
    module = GraphModule(Model.from_proto(proto))
    fed = [torch.tensor(value) for value in given if value is not None]
    wanted, found = module(*fed), module(*(value.to(dtype) for value in fed))
    for one, two in zip(wanted, found, strict=True):
        assert two.dtype == dtype
        torch.testing.assert_close(two.float(), one, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("kind", GATES)
@pytest.mark.parametrize("lengths", [False, True])
def test_under_autocast(kind: str, lengths: bool) -> None:
    given = drawn(kind, 1, lengths, True)
    module = GraphModule(Model.from_proto(node_model(kind, given, 1 + STATES[kind], {"hidden_size": HIDDEN})))
    fed = [torch.tensor(value) for value in given if value is not None]
    wanted = module(*fed)
    with torch.autocast("cpu", torch.bfloat16):
        found = module(*fed)
    for one, two in zip(wanted, found, strict=True):
        torch.testing.assert_close(two.float(), one, rtol=0.05, atol=0.05)


def test_no_time_at_all_leaves_the_states_as_they_were() -> None:
    given = drawn("LSTM", 1, False, True)
    assert given[0] is not None
    given[0] = given[0][:0]
    seen, hidden, cell = bridged(node_model("LSTM", given, 3, {"hidden_size": HIDDEN}), given)
    assert seen.shape == (0, 1, BATCH, HIDDEN)
    assert np.array_equal(hidden, np.asarray(given[5])) and np.array_equal(cell, np.asarray(given[6]))


def test_an_unknown_activation_is_refused() -> None:
    given = drawn("RNN", 1, False, False)
    with pytest.raises(UnsupportedOp, match="Sinus"):
        bridged(node_model("RNN", given, 2, {"hidden_size": HIDDEN, "activations": ["Sinus"]}), given)
