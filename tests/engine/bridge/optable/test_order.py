"""Choosing along an axis where numbers are equal, missing or beyond what torch compares."""

import numpy as np
import pytest
import torch

from graphrewrite.bridge.optable.order import arg_max, arg_min, top_k
from graphrewrite.bridge.optable.softmax import hardmax
from graphrewrite.ir import Array
from tests.engine.bridge.nodes import bridged, by_onnxruntime, by_reference, node_model, same

TIES = np.asarray([[3, 1, 3, 2, 3, 1], [0, 0, 0, 0, 0, 0]])


@pytest.mark.parametrize("dtype", ["float32", "int8", "uint8", "uint16", "uint64"])
@pytest.mark.parametrize("largest", [0, 1])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_of_equal_numbers_the_first_come_first(dtype: str, largest: int, axis: int) -> None:
    x: Array = TIES.astype(dtype)
    for count in range(3):
        given: list[Array | None] = [x, np.asarray([count], np.int64)]
        proto = node_model("TopK", given, 2, {"axis": axis, "largest": largest, "sorted": 0}, opset=24)
        assert same(bridged(proto, given), by_reference(proto, given))


def test_top_k_before_its_count_was_an_input() -> None:
    x = TIES.astype(np.float32)
    proto = node_model("TopK", [x], 2, {"k": 2}, opset=7)
    values, places = bridged(proto, [x])
    assert values.tolist() == [[3, 3], [0, 0]] and places.tolist() == [[0, 2], [0, 1]]


def test_gradients_reach_the_chosen_only() -> None:
    x = torch.tensor([1.0, 5.0, 5.0, 2.0], requires_grad=True)
    top_k(x, 2)[0].sum().backward()
    assert x.grad is not None and x.grad.tolist() == [0, 1, 1, 0]


def test_places_of_several_equal_numbers() -> None:
    x = torch.tensor([[2.0, 7.0, 7.0], [1.0, 1.0, 4.0]])
    assert arg_max(x, axis=1).tolist() == [[1], [2]]
    assert arg_max(x, axis=1, select_last_index=1, keepdims=0).tolist() == [2, 2]
    assert arg_min(x, axis=1, keepdims=0).tolist() == [0, 0]
    assert arg_min(x, axis=1, select_last_index=1, keepdims=0).tolist() == [0, 1]


def test_numbers_from_two_to_the_63_on_are_larger_than_all_below() -> None:
    x = torch.tensor([5, -1, -(2**63)]).view(torch.uint64)  # 5, 2**64 - 1, 2**63
    assert arg_max(x).tolist() == [1] and arg_min(x).tolist() == [0]


def test_hardmax_marks_the_first_of_equal_numbers() -> None:
    assert hardmax(torch.tensor([[1.0, 3.0, 3.0]])).tolist() == [[0, 1, 0]]


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax", "Hardmax"])
@pytest.mark.parametrize("opset", [7, 11, 13])
def test_axes_before_version_13_count_as_one_from_the_axis_on(op: str, opset: int) -> None:
    x = np.random.default_rng(0).integers(-3, 3, (2, 3, 4)).astype(np.float32)
    for axis in (None, 0, 1, 2) if opset == 7 else (None, 0, 1, 2, -1, -2):
        proto = node_model(op, [x], 1, {} if axis is None else {"axis": axis}, opset=opset)
        assert same(bridged(proto, [x]), by_onnxruntime(proto, [x])), axis
