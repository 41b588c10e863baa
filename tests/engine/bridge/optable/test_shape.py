"""Shapes and orders: older operator sets, settings onnx's cases lack, empty tensors, every element type."""

import ml_dtypes
import numpy as np
import onnx_graphsurgeon as gs
import pytest
import torch

from graphrewrite.bridge import GraphModule
from graphrewrite.bridge.optable.shape import reshape, squeeze
from graphrewrite.errors import ShapeError
from graphrewrite.ir import Array, Builder
from tests.engine.bridge.nodes import agrees, bridged, by_reference, node_model

TYPES = [np.uint8, np.uint16, np.uint32, np.uint64, np.int8, np.int16, np.bool_, np.float16, np.complex64]


def numbers(*shape: int, dtype: object = np.float32) -> Array:
    return (np.arange(np.prod(shape)) % 7).reshape(shape).astype(dtype)  # type: ignore[call-overload]


def whole(*values: int) -> Array:
    return np.asarray(values, np.int64)


@pytest.mark.parametrize(
    ("op", "shape", "attributes", "opset"),
    [
        ("Squeeze", (1, 3, 1, 2), {"axes": [0, 2]}, 7),
        ("Squeeze", (1, 3, 1, 2), {"axes": [-2]}, 11),
        ("Squeeze", (1, 3, 1, 2), {}, 7),
        ("Unsqueeze", (3, 2), {"axes": [0, 3]}, 7),
        ("Unsqueeze", (3, 2), {"axes": [-1, 1]}, 11),
        ("Flatten", (2, 3, 4), {"axis": 0}, 7),
        ("Flatten", (2, 3, 4), {"axis": 3}, 9),
        ("Flatten", (2, 3, 4), {"axis": -1}, 11),
        ("Flatten", (5,), {}, 13),
        ("Transpose", (2, 3, 4), {}, 7),
        ("Transpose", (2, 3, 4), {"perm": [2, 0, 1]}, 13),
        ("DepthToSpace", (2, 12, 2, 3), {"blocksize": 2}, 7),
        ("DepthToSpace", (2, 12, 2, 3), {"blocksize": 2, "mode": "CRD"}, 11),
        ("SpaceToDepth", (2, 3, 4, 6), {"blocksize": 2}, 7),
    ],
)
def test_attributes_in_older_operator_sets(
    op: str, shape: tuple[int, ...], attributes: dict[str, object], opset: int
) -> None:
    assert agrees(op, [numbers(*shape)], 1, attributes, opset=opset)


@pytest.mark.parametrize(
    ("op", "shape", "second", "attributes", "opset"),
    [
        ("Reshape", (2, 3, 4), (0, -1), {}, 7),
        ("Reshape", (2, 3, 4), (4, 0, 2), {}, 13),
        ("Reshape", (0, 3, 4), (0, 12), {}, 14),
        ("Reshape", (0, 3, 4), (3, 0), {"allowzero": 1}, 14),
        ("Reshape", (1,), (), {}, 14),
        ("Expand", (3, 1), (2, 1, 4), {}, 8),
        ("Expand", (3, 4), (1,), {}, 13),
        ("Expand", (1, 4), (0, 4), {}, 13),
        ("Tile", (2, 3), (2, 1), {}, 7),
        ("Tile", (2, 3), (0, 2), {}, 13),
        ("Unsqueeze", (2, 3), (-1, 0), {}, 13),
        ("Squeeze", (1, 2, 1), (-1,), {}, 13),
    ],
)
def test_sizes_as_inputs(
    op: str, shape: tuple[int, ...], second: tuple[int, ...], attributes: dict[str, object], opset: int
) -> None:
    assert agrees(op, [numbers(*shape), whole(*second)], 1, attributes, opset=opset)


def test_reshape_of_a_batch_of_none_keeps_what_an_axis_would_be() -> None:
    # numpy and torch cannot tell -1 here; with any other batch it is 12.
    assert tuple(reshape(torch.zeros(0, 3, 4), (0, -1)).shape) == (0, 12)
    assert tuple(reshape(torch.zeros(0, 3, 4), (0, 2, -1)).shape) == (0, 2, 6)
    assert tuple(reshape(torch.zeros(3, 0, 4), (-1, 0, 2)).shape) == (6, 0, 2)


def test_squeezing_an_axis_that_is_not_one_is_refused() -> None:
    with pytest.raises(ShapeError, match="axes of size 1"):
        squeeze(torch.zeros(2, 1), (0, 1))


@pytest.mark.parametrize("dtype", [*TYPES, ml_dtypes.bfloat16])
@pytest.mark.parametrize(
    ("op", "second", "attributes"),
    [
        ("Reshape", (4, -1), {}),
        ("Expand", (2, 1, 2, 4), {}),
        ("Tile", (1, 2, 1), {}),
        ("Transpose", None, {}),
        ("Concat", None, {"axis": 1}),
        ("Slice", (1, 0, 1), {}),
        ("Gather", (1, -2), {"axis": 2}),
        ("Pad", (1, 0, 2, 0, 1, 1), {}),
        ("Pad", (1, 0, 2, 0, 1, 1), {"mode": "wrap"}),
    ],
)
def test_every_element_type_is_moved(
    op: str, second: tuple[int, ...] | None, attributes: dict[str, object], dtype: type
) -> None:
    given: list[Array] = [numbers(1, 2, 4, dtype=dtype)]
    if op == "Slice":
        given += [whole(0, 1), whole(9, 3), whole(1, 2), whole(1, 1)]
    elif second is not None:
        given.append(whole(*second))
    proto = node_model(op, given, 1, attributes)
    (found,), (wanted,) = bridged(proto, given), by_reference(proto, given)
    assert found.dtype == wanted.dtype and np.array_equal(found, wanted)


def test_squeezing_several_sizes_leaves_a_vector() -> None:
    b = Builder(seed=0)
    x = b.input(["N", 3], "x")
    sizes = b.op("Squeeze", b.op("Shape", x))
    module = GraphModule(b.model(b.op("Unsqueeze", sizes, b.constant(whole(0)))))
    assert module(torch.zeros(5, 3)).tolist() == [[5, 3]]


def test_narrow_integers_made_for_a_size_wrap_round() -> None:
    b = Builder(seed=0)
    count = b.op("Shape", b.input(["N", 3], "x"), start=0, end=1)
    zeros = b.op("ConstantOfShape", count, value=gs.Constant("v", np.zeros(1, np.uint8)))
    under = b.op("Sub", zeros, b.constant(np.ones(1, np.uint8)))
    module = GraphModule(b.model(b.op("Cast", under, to=7), dtypes=[np.int64]))
    assert module(torch.zeros(2, 3)).tolist() == [255, 255]
