"""The operators that the exhaustive oracle knows, each as a line or two of numpy."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs

from graphrewrite.ir import ShapeInfo
from tests.support.exhaustive import (
    TABLE,
    Box,
    Floats,
    _subsets,
    computed,
    located,
    moved,
    nothing,
    op,
    taken,
)

Ints = npt.NDArray[np.int64]


def numbers(node: gs.Node, slot: int, info: ShapeInfo) -> list[int]:
    found = info.numbers(node.inputs[slot].name)
    assert found is not None
    return [int(v) for v in found.ravel()]


def axes_of(node: gs.Node, slot: int, info: ShapeInfo) -> tuple[int, ...]:
    return tuple(node.attrs["axes"]) if "axes" in node.attrs else tuple(numbers(node, slot, info))


# ------------------------------------------------------------------------------------------------ position by position

UNARY = ["Relu", "Sigmoid", "Tanh", "Identity", "Neg", "Sqrt", "Exp", "Erf", "LeakyRelu", "Softplus", "Elu"]
for name in UNARY:
    TABLE[name] = computed(lambda node, x: x[0], nothing)
for name in ("Add", "Mul", "Sub", "Div", "Max", "Min"):
    TABLE[name] = computed(lambda node, x: x[0] + 1.37 * x[1], nothing)


def _batch_norm(node: gs.Node, x: list[Floats]) -> Floats:
    if any(vector.shape != (x[0].shape[1],) for vector in x[1:]):
        raise ValueError("as many values as channels")
    shape = [-1] + [1] * (x[0].ndim - 2)
    return x[0] * x[1].reshape(shape) + x[2].reshape(shape) - x[3].reshape(shape) / x[4].reshape(shape)


TABLE["BatchNormalization"] = computed(_batch_norm, nothing)

# ------------------------------------------------------------------------------------------------ sums


def _gemm(node: gs.Node, x: list[Floats]) -> Floats:
    product = x[0] @ (x[1].T if node.attrs.get("transB", 0) else x[1])
    return product + x[2] if len(x) > 2 else product


TABLE["MatMul"] = computed(
    lambda node, x: x[0] @ x[1], lambda node, x: {0: [x[0].ndim - 1], 1: [x[1].ndim - 2]}
)
TABLE["Gemm"] = computed(_gemm, lambda node, x: {0: [1], 1: [1 if node.attrs.get("transB", 0) else 0]})


def _conv(x: Floats, w: Floats, groups: int) -> Floats:
    """Convolve with a 1 x 1 kernel."""
    n, c, *space = x.shape
    out, into = w.shape[:2]
    if c != into * groups or out % groups:
        raise ValueError("channels and groups")
    parts = x.reshape(n, groups, into, -1)
    kernels = w.reshape(groups, out // groups, into)
    return np.asarray(np.einsum("ngis,goi->ngos", parts, kernels).reshape(n, out, *space))


@op("Conv")
def conv(
    node: gs.Node, values: Sequence[Floats | None], boxes: Sequence[Box | None], info: ShapeInfo
) -> Iterator[tuple[Box, ...]]:
    """Any number of groups may be written into the cut model."""
    full = [v for v in values if v is not None]
    mask = np.zeros(full[0].shape[1])
    mask[list(boxes[0][1])] = 1  # type: ignore[index]
    whole = _conv(full[0] * mask.reshape(-1, 1, 1), full[1], int(node.attrs.get("group", 1)))
    bias = full[2].reshape(-1, 1, 1) if len(full) > 2 else 0.0
    parts = taken(values, boxes)
    for groups in range(1, parts[0].shape[1] + 1):
        if parts[0].shape[1] != groups * parts[1].shape[1] or (
            len(parts) > 2 and len(parts[2]) != len(parts[1])
        ):
            continue
        cut = _conv(parts[0], parts[1], groups) + (parts[2].reshape(-1, 1, 1) if len(parts) > 2 else 0.0)
        box = located(cut, whole + bias)
        if box is not None:
            yield (box,)


# ------------------------------------------------------------------------------------------------ statistics


def _reduced(node: gs.Node, x: list[Floats]) -> Floats:
    keep = bool(node.attrs.get("keepdims", 1))
    table: dict[str, Any] = {"ReduceMean": np.mean, "ReduceSum": np.sum, "ReduceMax": np.max}
    return np.asarray(table[node.op](x[0], axis=tuple(node.attrs["axes"]), keepdims=keep))


for name in ("ReduceMean", "ReduceSum", "ReduceMax"):
    TABLE[name] = computed(_reduced, lambda node, x: {0: [a % x[0].ndim for a in node.attrs["axes"]]})
TABLE["GlobalAveragePool"] = computed(lambda node, x: x[0].mean(axis=(2, 3), keepdims=True), nothing)


def _softmax(node: gs.Node, x: list[Floats]) -> Floats:
    return np.asarray(x[0] / (0.5 + x[0].sum(axis=node.attrs.get("axis", -1), keepdims=True)))


TABLE["Softmax"] = computed(
    _softmax, lambda node, x: {0: [node.attrs.get("axis", -1) % x[0].ndim]}, stays=True
)


def _layer_norm(node: gs.Node, x: list[Floats]) -> Floats:
    if any(vector.shape != (x[0].shape[-1],) for vector in x[1:]):
        raise ValueError("as many scales as features")
    return (x[0] - 0.31 * x[0].mean(axis=-1, keepdims=True)) * x[1] + (x[2] if len(x) > 2 else 0.0)


TABLE["LayerNormalization"] = computed(
    _layer_norm, lambda node, x: {0: [x[0].ndim - 1], **{slot: [0] for slot in range(1, len(x))}}, stays=True
)

# ------------------------------------------------------------------------------------------------ moving about

TABLE["Transpose"] = moved(lambda node, x, info: [x[0].transpose(node.attrs["perm"])])
TABLE["Reshape"] = moved(lambda node, x, info: [x[0].reshape(info.sizes(node.outputs[0].name) or ())])
TABLE["Flatten"] = moved(lambda node, x, info: [x[0].reshape(info.sizes(node.outputs[0].name) or ())])
TABLE["Squeeze"] = moved(lambda node, x, info: [x[0].reshape(info.sizes(node.outputs[0].name) or ())])
TABLE["Unsqueeze"] = TABLE["Squeeze"]
TABLE["Concat"] = moved(lambda node, x, info: [np.concatenate(x, axis=node.attrs["axis"])])


def _split(node: gs.Node, x: list[Ints], info: ShapeInfo) -> list[Ints]:
    axis = node.attrs.get("axis", 0)
    sizes = [(info.sizes(out.name) or ())[axis] for out in node.outputs]
    return list(np.split(x[0], np.cumsum(sizes)[:-1], axis=axis))


TABLE["Split"] = moved(_split)


def _slice(node: gs.Node, x: list[Ints], info: ShapeInfo) -> list[Ints]:
    starts, ends, axes = (numbers(node, slot, info) for slot in (1, 2, 3))
    steps = numbers(node, 4, info) if len(node.inputs) > 4 else [1] * len(axes)
    index = [slice(None)] * x[0].ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        index[axis] = slice(start, end, step)
    return [x[0][tuple(index)]]


TABLE["Slice"] = moved(_slice)


def _gather(node: gs.Node, x: list[Ints], info: ShapeInfo) -> list[Ints]:
    index = np.asarray(info.numbers(node.inputs[1].name)).astype(np.int64)
    return [np.take(x[0], index, axis=node.attrs.get("axis", 0))]


TABLE["Gather"] = moved(_gather)


def _positions(low: int, high: int) -> list[tuple[int, ...]]:
    return [(), *(tuple(low + i for i in kept) for kept in _subsets(high - low))]


@op("Pad")
def pad(
    node: gs.Node, values: Sequence[Floats | None], boxes: Sequence[Box | None], info: ShapeInfo
) -> Iterator[tuple[Box, ...]]:
    """Any number of the new positions may be left."""
    pads = numbers(node, 1, info)
    assert values[0] is not None and boxes[0] is not None
    sizes = values[0].shape
    ways: list[list[tuple[int, ...]]] = []
    for axis, kept in enumerate(boxes[0]):
        low, high = pads[axis], pads[axis + len(sizes)]
        middle = tuple(low + i for i in kept)
        end = low + sizes[axis]
        ways.append([(*a, *middle, *b) for a in _positions(0, low) for b in _positions(end, end + high)])
    yield from ((tuple(box),) for box in _boxes(ways))


@op("Expand")
def expand(
    node: gs.Node, values: Sequence[Floats | None], boxes: Sequence[Box | None], info: ShapeInfo
) -> Iterator[tuple[Box, ...]]:
    """An axis that grows may grow to any length."""
    assert values[0] is not None and boxes[0] is not None
    target = info.sizes(node.outputs[0].name) or ()
    extra = len(target) - len(boxes[0])
    ways = []
    for axis, size in enumerate(target):
        old = values[0].shape[axis - extra] if axis >= extra else 1
        ways.append(
            _subsets(size) if old == 1 and size > 1 else [boxes[0][axis - extra] if axis >= extra else (0,)]
        )
    yield from ((tuple(box),) for box in _boxes(ways))


def _boxes(ways: Sequence[Sequence[tuple[int, ...]]]) -> Iterator[list[tuple[int, ...]]]:
    if not ways:
        yield []
        return
    for first in ways[0]:
        for rest in _boxes(ways[1:]):
            yield [first, *rest]
