"""Integer tensors that count: an offset, and a constant step along every axis.

Some exporters write a change of shape as a look-up by computed positions (`as_strided`: flatten, build the numbers
0, 1, 2, ... in the new shape out of Range, Mul, Unsqueeze and Add, Gather). Their values hang on sizes only but may be
too many to keep; their steps are few and easy to follow through the nodes.
"""

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.dims.axes import Pair
from graphrewrite.ir import Array, constant_value
from graphrewrite.ir.shapes import ShapeInfo

Counting = tuple[
    int, tuple[int, ...]
]  # value at the origin, step along each axis (0 where the length is one)

# How far back a chain of nodes is followed: rank times the nodes that make one axis.
_DEPTH = 64


def counts_up(info: ShapeInfo, tensor: gs.Tensor, length: Pair) -> bool:
    """Whether a tensor holds 0, 1, ..., length - 1 in row-major order, whatever the sizes of the inputs are."""
    for world in (0, 1):
        sizes, found = info.sizes(tensor.name, world), counting(info, tensor, world)
        if sizes is None or found is None or found[0] != 0:
            return False
        step = 1
        for size, given in zip(reversed(sizes), reversed(found[1]), strict=True):
            if size > 1 and given != step:
                return False
            step *= size
        if step != length[world] or step == 0:
            return False
    return True


def counting(info: ShapeInfo, tensor: gs.Tensor, world: int, depth: int = _DEPTH) -> Counting | None:
    """Return the offset and steps of an integer tensor in one sample world, None when it does not count evenly."""
    sizes = info.sizes(tensor.name, world)
    if sizes is None or depth <= 0:
        return None
    value = _numbers(info, tensor, world, sizes)
    if value is not None:
        return _measured(value)
    if len(tensor.inputs) != 1:
        return None
    node = tensor.inputs[0]
    if node.op == "Range":
        ends = [_single(info, item, world) for item in node.inputs]
        return None if ends[0] is None or ends[2] is None else (ends[0], (ends[2] if sizes[0] > 1 else 0,))
    parts = [
        counting(info, item, world, depth // 2 if node.op == "Add" else depth - 1) for item in node.inputs
    ]
    shapes = [info.sizes(item.name, world) for item in node.inputs]
    first = parts[0] if parts else None
    if node.op in ("Cast", "Identity"):
        return first
    if node.op in ("Unsqueeze", "Squeeze", "Reshape"):
        return None if first is None or shapes[0] is None else _moved(first, shapes[0], sizes)
    if node.op == "Expand":
        return None if first is None else _widened(first, len(sizes))
    if len(parts) != 2 or first is None or parts[1] is None:
        return None
    a, b = _widened(first, len(sizes)), _widened(parts[1], len(sizes))
    if node.op == "Add":
        return a[0] + b[0], tuple(x + y for x, y in zip(a[1], b[1], strict=True))
    if node.op == "Mul":
        for one, other in ((a, b), (b, a)):
            if not any(other[1]):
                return one[0] * other[0], tuple(x * other[0] for x in one[1])
    return None


def whole_axes(info: ShapeInfo, index: gs.Tensor, sizes: list[Pair]) -> set[int]:
    """Return the axes along which an index of ScatterND, [grid..., coordinate], runs from 0 to the end, and only there.

    That is what assigning to a slice of a tensor comes out as: a grid of places, one coordinate for each of the first
    axes of the data, whose `sizes` these are.
    """
    whole = set(range(len(sizes)))
    for world in (0, 1):
        parts, shape = _coordinates(info, index, world), info.sizes(index.name, world)
        if parts is None or shape is None or len(shape) != len(sizes) + 1 or len(parts) != len(sizes):
            return set()
        for axis in list(whole):
            others = [part[1][axis] for number, part in enumerate(parts) if number != axis]
            runs = parts[axis][0] == 0 and shape[axis] == sizes[axis][world]
            step = 1 if shape[axis] > 1 else 0
            alone = [0] * axis + [step] + [0] * (len(shape) - axis - 1)
            if not runs or any(others) or list(parts[axis][1]) != alone:
                whole.discard(axis)
    return whole


def _coordinates(info: ShapeInfo, index: gs.Tensor, world: int) -> list[Counting] | None:
    """Return each number of the last axis as a tensor that counts, None where one does not."""
    shape = info.sizes(index.name, world)
    if shape is None:
        return None
    value = _numbers(info, index, world, shape)
    parts: list[Counting | None] = []
    if value is not None:
        parts = [_measured(value[..., i : i + 1]) for i in range(shape[-1])]
    elif len(index.inputs) == 1 and index.inputs[0].op == "Concat":
        for item in index.inputs[0].inputs:
            sizes = info.sizes(item.name, world)
            if sizes is None or sizes[:-1] != shape[:-1] or sizes[-1] != 1:
                return None
            parts.append(counting(info, item, world))
    found = [part for part in parts if part is not None]
    return found if found and len(found) == len(parts) else None


def _known(info: ShapeInfo, tensor: gs.Tensor, world: int) -> Array | None:
    value = constant_value(tensor)
    return info.numbers(tensor.name, world) if value is None else value


def _numbers(info: ShapeInfo, tensor: gs.Tensor, world: int, sizes: tuple[int, ...]) -> Array | None:
    """Return all integers of a tensor of these sizes, None where they are not known."""
    value = _known(info, tensor, world)
    return value if value is not None and value.shape == sizes and value.dtype.kind in "iuO" else None


def _single(info: ShapeInfo, tensor: gs.Tensor, world: int) -> int | None:
    value = _known(info, tensor, world)
    if value is None or value.size != 1 or value.ravel()[0] is None:
        return None
    number = value.ravel()[0]
    return int(number) if number == int(number) else None


def _measured(value: Array) -> Counting | None:
    """Read offset and steps off an array, and see whether they explain all of it."""
    if not value.size or (value.dtype == object and any(item is None for item in value.ravel())):
        return None
    array = value.astype(np.int64)
    origin = array[(0,) * array.ndim]
    result = np.full(array.shape, origin)
    steps = []
    for axis, size in enumerate(array.shape):
        corner = [0] * array.ndim
        corner[axis] = min(1, size - 1)
        steps.append(int(array[tuple(corner)] - origin))
        shape = [1] * array.ndim
        shape[axis] = size
        result = result + (np.arange(size) * steps[-1]).reshape(shape)
    return (int(origin), tuple(steps)) if (result == array).all() else None


def _moved(known: Counting, old: tuple[int, ...], new: tuple[int, ...]) -> Counting | None:
    """Carry steps over a change of shape that only adds or drops axes of length one."""
    if [size for size in old if size != 1] != [size for size in new if size != 1]:
        return None
    steps = iter([step for step, size in zip(known[1], old, strict=True) if size != 1])
    return known[0], tuple(next(steps) if size != 1 else 0 for size in new)


def _widened(known: Counting, rank: int) -> Counting:
    """Align axes at the last one, as broadcasting does."""
    return known[0], (0,) * (rank - len(known[1])) + known[1]
