"""Picking numbers: limits beyond tensors, steps backwards, indices from the end, older operator sets."""

import itertools

import ml_dtypes
import numpy as np
import pytest
import torch

from graphrewrite.bridge.optable.index import gather, one_hot
from graphrewrite.ir import Array
from tests.engine.bridge.nodes import agrees, by_reference

RNG = np.random.default_rng(0)
X = RNG.standard_normal((3, 4, 5)).astype(np.float32)
FAR = 2**63 - 1


def whole(*values: int) -> Array:
    return np.asarray(values, np.int64)


@pytest.mark.filterwarnings("error")  # torch warns of limits as far away as exporters write them
@pytest.mark.parametrize("step", [1, 2, 3, -1, -2, -4])
def test_slices_with_all_limits(step: int) -> None:
    row = np.arange(5, dtype=np.float32)
    # Going backwards, onnxruntime takes the largest end for the front; onnx's text does not.
    ends = [-FAR, -6, -5, -2, 0, 1, 4, 5, 9, *([FAR] if step > 0 else [])]
    for start, end in itertools.product([-FAR, -6, -5, -2, 0, 1, 4, 5, 9, FAR], ends):
        given = [row, whole(start), whole(end), whole(0), whole(step)]
        assert agrees("Slice", given, opset=13), (start, end)


@pytest.mark.parametrize(
    ("starts", "ends", "axes", "steps"),
    [
        ((1, 0), (3, 2), None, None),
        ((0, -1), (FAR, -FAR), (-1, 0), (2, -1)),
        ((3, 2), (0, 0), (2, 1), (-2, -1)),
        ((-2,), (FAR,), (-2,), None),
    ],
)
def test_slices_of_several_axes(
    starts: tuple[int, ...],
    ends: tuple[int, ...],
    axes: tuple[int, ...] | None,
    steps: tuple[int, ...] | None,
) -> None:
    given: list[Array | None] = [X, whole(*starts), whole(*ends)]
    given += [None if more is None else whole(*more) for more in (axes, steps)]
    while given[-1] is None:
        given.pop()
    assert agrees("Slice", given, opset=13)


@pytest.mark.parametrize(
    "attributes", [{"starts": [1, -2], "ends": [9, 4]}, {"starts": [0], "ends": [-1], "axes": [2]}]
)
def test_slices_before_operator_set_10(attributes: dict[str, object]) -> None:
    assert agrees("Slice", [X], 1, attributes, opset=9)


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("indices", [1, -1, [0, 2, 2], [-1, 0], [[1, -3], [0, 2]], [], [[2]]])
def test_gathers(axis: int, indices: object) -> None:
    for dtype, opset in ((np.int64, 11), (np.int32, 13)):
        assert agrees("Gather", [X, np.asarray(indices, dtype)], 1, {"axis": axis}, opset=opset)


def test_a_row_gathered_twice_gets_both_gradients() -> None:
    table = torch.zeros(4, 2, requires_grad=True)
    gather(table, torch.tensor([[1, -1], [1, 0]]), 0).sum().backward()
    assert table.grad is not None and table.grad[:, 0].tolist() == [1, 2, 0, 1]


@pytest.mark.parametrize("dtype", [np.float32, np.uint16, np.bool_, np.int8])
def test_gathered_elements(dtype: type) -> None:
    data: Array = (X * 2).astype(dtype)
    indices = np.random.default_rng(1).integers(-4, 4, (3, 6, 5))
    assert agrees("GatherElements", [data, indices], 1, {"axis": 1}, judge=by_reference)


@pytest.mark.parametrize("batch", [0, 1, 2])
@pytest.mark.parametrize("depth", [1, 2])
def test_gathered_slices(batch: int, depth: int) -> None:
    data = np.random.default_rng(1).standard_normal((2, 3, 4, 2)).astype(np.float32)
    limits = data.shape[batch : batch + depth]
    indices = np.stack([RNG.integers(-size, size, (2, 3, 5)) for size in limits], -1)
    assert agrees("GatherND", [data, indices], 1, {"batch_dims": batch}, opset=13)


@pytest.mark.parametrize("axis", [None, 1, -1])
def test_compress_with_a_short_condition(axis: int | None) -> None:
    attributes = {} if axis is None else {"axis": axis}
    assert agrees("Compress", [X, np.array([True, False, True])], 1, attributes, opset=11)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_one_hot(axis: int) -> None:
    indices = np.asarray([[0, -1, 7], [3, -4, -5]])
    for kind, depth, values in (
        (np.int64, np.array(4), np.array([2.0, 5.0], np.float32)),
        (np.float32, np.array([4.0], np.float32), np.array([0, 1], np.float32)),
    ):
        given = [indices.astype(kind), depth, values]
        assert agrees("OneHot", given, 1, {"axis": axis}, opset=11)


def test_one_hot_teaches_its_values() -> None:
    values = torch.tensor([0.0, 1.0], requires_grad=True)
    one_hot(torch.tensor([0, 1, 1]), 2, values).sum().backward()
    assert values.grad is not None and values.grad.tolist() == [3.0, 3.0]


@pytest.mark.parametrize("dtype", [np.float32, np.uint32, np.bool_, np.float16])
@pytest.mark.parametrize("k", [0, 2, -1, 100, -100])
@pytest.mark.parametrize("upper", [0, 1])
def test_triangles(dtype: type, k: int, upper: int) -> None:
    data: Array = np.ones((2, 3, 4)).astype(dtype)
    assert agrees("Trilu", [data, np.array(k)], 1, {"upper": upper}, judge=by_reference)


@pytest.mark.parametrize("dtype", [np.float32, np.uint16, np.bool_, ml_dtypes.bfloat16])
def test_coordinates_of_what_is_not_zero(dtype: type) -> None:
    assert agrees("NonZero", [np.array([[0, 2, 0], [1, 0, 3]]).astype(dtype)], judge=by_reference)
    assert agrees("NonZero", [np.zeros((2, 0), dtype)], judge=by_reference)


@pytest.mark.parametrize("axis", [None, 0, 1, -1])
@pytest.mark.parametrize("ordered", [0, 1])
@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.int8])
def test_unique(axis: int | None, ordered: int, dtype: type) -> None:
    data: Array = np.random.default_rng(2).integers(0, 2, (4, 3, 2)).astype(dtype)
    attributes: dict[str, object] = {"sorted": ordered}
    if axis is not None:
        attributes["axis"] = axis
    assert agrees("Unique", [data], 4, attributes, opset=11)


@pytest.mark.parametrize("axes", [(0, 1), (1, 0)])
def test_reversed_sequences(axes: tuple[int, int]) -> None:
    time, batch = axes
    lengths = np.array([1, 3, 0, 2])[: X.shape[batch]]
    attributes = {"time_axis": time, "batch_axis": batch}
    assert agrees("ReverseSequence", [X, lengths], 1, attributes, opset=10)
