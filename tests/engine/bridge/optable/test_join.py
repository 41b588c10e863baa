"""Concat and Split in all operator sets."""

import numpy as np
import onnx
import pytest
import torch

from graphrewrite.bridge.optable.join import equal_parts
from graphrewrite.ir import Array
from tests.engine.bridge.nodes import Given, agrees, by_onnxruntime

X = np.arange(24, dtype=np.float32).reshape(2, 6, 2)


@pytest.mark.parametrize(
    ("given", "outputs", "attributes", "opset"),
    [
        ([X], 3, {"axis": 1}, 7),
        ([X], 2, {"axis": 1, "split": [2, 4]}, 7),
        ([X], 2, {}, 11),
        ([X], 2, {"axis": -1}, 13),
        ([X, np.array([1, 0, 5])], 3, {"axis": -2}, 13),
        ([X, np.array([4, 2])], 2, {"axis": 1}, 18),
        ([X[:, :5]], 3, {"axis": 1, "num_outputs": 3}, 18),
        ([X], 3, {"axis": 1, "num_outputs": 3}, 18),
    ],
)
def test_splits(given: list[Array], outputs: int, attributes: dict[str, object], opset: int) -> None:
    assert agrees("Split", given, outputs, attributes, opset=opset)


def test_uneven_parts() -> None:
    # By hand: parts of ceil(7 / 3) = 3, the last one has what is left.
    assert [len(part) for part in equal_parts(torch.arange(7), 3, 0)] == [3, 3, 1]
    assert [len(part) for part in equal_parts(torch.arange(5), 4, 0)] == [2, 2, 1, 0]


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("opset", [7, 11, 13])
def test_concat(axis: int, opset: int) -> None:
    if axis < 0 and opset < 11:
        axis += 3
    assert agrees("Concat", [X, X + 1, X * 2], 1, {"axis": axis}, opset=opset)


def test_other_numbers_are_seen() -> None:
    def off_by_one(proto: onnx.ModelProto, given: Given) -> list[Array]:
        return [value + 1 for value in by_onnxruntime(proto, given)]

    assert not agrees("Concat", [X, X], 1, {"axis": 0}, judge=off_by_one)
