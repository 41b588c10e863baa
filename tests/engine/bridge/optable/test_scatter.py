"""Numbers written over others: reductions, types and older operator sets, against onnx's evaluator and by hand."""

import numpy as np
import pytest
import torch

from graphrewrite.bridge.optable.scatter import scatter_elements, scatter_nd, tensor_scatter
from graphrewrite.ir import Array
from tests.engine.bridge.nodes import Given, agrees, by_onnxruntime, by_reference

REDUCTIONS = ["none", "add", "mul", "max", "min"]


def drawn(dtype: type) -> tuple[Array, Array, Array]:
    """Return data, indices that name each place once (some from the end), and updates."""
    rng = np.random.default_rng(0)
    data: Array = (rng.random((4, 5)) * 9).astype(dtype)
    indices = np.stack([rng.permutation(4)[:3] for _ in range(5)], 1)
    indices[0] -= 4
    return data, indices, (rng.random((3, 5)) * 9).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int8, np.int64, np.uint16, np.uint64])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_elements(dtype: type, reduction: str) -> None:
    assert agrees("ScatterElements", drawn(dtype), 1, {"reduction": reduction}, opset=18, judge=by_reference)


@pytest.mark.parametrize(("op", "opset"), [("Scatter", 9), ("ScatterElements", 11), ("ScatterElements", 13)])
def test_elements_in_older_operator_sets(op: str, opset: int) -> None:
    assert agrees(op, drawn(np.float32), 1, {"axis": 0}, opset=opset)
    data, indices, updates = drawn(np.float32)
    assert agrees(op, (data.T, indices.T, updates.T), 1, {"axis": 1}, opset=opset)


@pytest.mark.parametrize("reduction", ["add", "mul", "max", "min"])
def test_a_place_named_twice_takes_both(reduction: str) -> None:
    data, indices = np.array([2.0, 3.0], np.float32), np.array([1, -1, 1])
    updates = np.array([5.0, 4.0, 1.0], np.float32)
    wanted = {"add": [2, 13], "mul": [2, 60], "max": [2, 5], "min": [2, 1]}[reduction]
    found = scatter_elements(*map(torch.tensor, (data, indices, updates)), reduction=reduction)
    assert found.tolist() == wanted
    given: Given = [data, indices[:, None], updates]
    assert agrees("ScatterND", given, 1, {"reduction": reduction}, opset=18, judge=by_onnxruntime)


@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.uint32, np.bool_])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_slices(dtype: type, depth: int) -> None:
    rng = np.random.default_rng(1)
    data: Array = (rng.random((3, 2, 4)) * 3).astype(dtype)
    places = [np.array(place) for place in np.ndindex(*data.shape[:depth])]
    chosen = np.stack([places[i] for i in rng.permutation(len(places))[:2]])
    chosen[0] -= data.shape[:depth]
    updates: Array = (rng.random((2, *data.shape[depth:])) * 3).astype(dtype)
    assert agrees("ScatterND", [data, chosen, updates], opset=13, judge=by_reference)


@pytest.mark.parametrize("reduction", ["max", "min"])
def test_numbers_from_2_to_the_63_on_are_compared_as_what_they_are(reduction: str) -> None:
    data, large = np.array([7, 2**63 + 5], np.uint64), np.array([2**64 - 1, 9], np.uint64)
    assert agrees("ScatterElements", [data, np.arange(2), large], 1, {"reduction": reduction}, opset=18)


def test_gradients_reach_what_is_kept_and_what_is_written() -> None:
    data, updates = torch.zeros(3, requires_grad=True), torch.ones(1, requires_grad=True)
    (scatter_nd(data, torch.tensor([[-2]]), updates) * torch.tensor([1.0, 2.0, 3.0])).sum().backward()
    assert data.grad is not None and data.grad.tolist() == [1, 0, 3]
    assert updates.grad is not None and updates.grad.tolist() == [2]


def test_a_cache_is_written_round_its_end() -> None:
    cache, new = torch.zeros(2, 1, 4, 1), torch.tensor([1.0, 2.0]).reshape(1, 1, 2, 1).expand(2, 1, 2, 1)
    found = tensor_scatter(cache, new, torch.tensor([3, 1]), mode="circular")
    assert found.reshape(2, 4).tolist() == [[2, 0, 0, 1], [0, 1, 2, 0]]
    assert cache.sum() == 0
