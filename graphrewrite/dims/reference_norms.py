"""References of normalisations: written out, with mean and variance over kept positions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs

from graphrewrite.ir.values import numpy_dtype_to_onnx

if TYPE_CHECKING:
    from graphrewrite.dims.reference import Reference

Mask = npt.NDArray[np.bool_]
DType = np.dtype[np.generic]


def kept_ratio(alive: dict[int, Mask]) -> float:
    """Return all positions over kept positions."""
    return prod(len(a) for a in alive.values()) / max(prod(int(a.sum()) for a in alive.values()), 1)


def wide(dtype: DType) -> DType:
    """Return the type to take statistics in: at least single precision."""
    return np.dtype(np.float32) if dtype.itemsize < 4 else dtype


@dataclass(frozen=True, eq=False)
class Statistics:
    """Statistics over the kept positions of some axes of tensors of one rank, put before `node`.

    `keep` is true where a position is kept and `ratio` is all positions over kept ones, both so that they broadcast.
    Numbers of type `dtype` are widened to single precision on the way in and narrowed on the way out.
    """

    build: "Reference"
    node: gs.Node
    axes: Sequence[int]
    keep: gs.Tensor
    ratio: npt.NDArray[np.float64]
    dtype: DType
    epsilon: float

    def entering(self, x: gs.Tensor) -> gs.Tensor:
        """Return x in the type statistics are taken in."""
        return self._cast(x, self.dtype, wide(self.dtype))

    def leaving(self, y: gs.Tensor) -> gs.Tensor:
        """Return y in the type the tensor had."""
        return self._cast(y, wide(self.dtype), self.dtype)

    def mean(self, x: gs.Tensor) -> gs.Variable:
        """Return the mean over the kept positions of `axes`, axes kept."""
        emit, node = self.build.emit, self.node
        masked = emit(node, "Where", self.keep, x, self._const(0))
        if self.build.opset >= 18:
            axes = self.build.const(np.asarray(self.axes, dtype=np.int64))
            total = emit(node, "ReduceMean", masked, axes, keepdims=1)
        else:
            total = emit(node, "ReduceMean", masked, axes=list(self.axes), keepdims=1)
        return emit(node, "Mul", total, self._const(self.ratio))

    def standardised(self, x: gs.Tensor) -> tuple[gs.Tensor, gs.Tensor, gs.Tensor]:
        """Return (x - mean) / sqrt(variance + epsilon), the mean, and 1 / sqrt(...)."""
        emit, node = self.build.emit, self.node
        source = self.entering(x)
        mean = self.mean(source)
        moved = emit(node, "Sub", source, mean)
        inverse = emit(node, "Reciprocal", self._root(self.mean(emit(node, "Mul", moved, moved))))
        return self.leaving(emit(node, "Mul", moved, inverse)), mean, inverse

    def by_mean_square(self, x: gs.Tensor) -> tuple[gs.Tensor, gs.Tensor]:
        """Return x / sqrt(mean square + epsilon) and 1 / sqrt(...)."""
        emit, node = self.build.emit, self.node
        source = self.entering(x)
        deviation = self._root(self.mean(emit(node, "Mul", source, source)))
        return self.leaving(emit(node, "Div", source, deviation)), emit(node, "Reciprocal", deviation)

    def _root(self, variance: gs.Tensor) -> gs.Tensor:
        shifted = self.build.emit(self.node, "Add", variance, self._const(self.epsilon))
        return self.build.emit(self.node, "Sqrt", shifted)

    def _const(self, value: float | npt.NDArray[np.float64]) -> gs.Tensor:
        return self.build.const(np.asarray(value, dtype=wide(self.dtype)))

    def _cast(self, x: gs.Tensor, old: DType, new: DType) -> gs.Tensor:
        return x if new == old else self.build.emit(self.node, "Cast", x, to=numpy_dtype_to_onnx(new))


def over(
    build: "Reference",
    node: gs.Node,
    axes: Sequence[int],
    alive: dict[int, Mask],
    rank: int,
    dtype: DType,
    epsilon: float,
) -> Statistics:
    """Return the statistics over `axes` of tensors of a rank, whose axis a keeps the positions `alive[a]`."""
    ratio = np.asarray(kept_ratio(alive))
    return Statistics(build, node, axes, build.mask(rank, alive), ratio, dtype, epsilon)


def affine(
    build: "Reference", node: gs.Node, x: gs.Tensor, rank: int, trailing: bool, slots: Sequence[int]
) -> gs.Tensor:
    """Multiply by input slots[0] and add slots[1], per channel (axis 1) or over trailing axes."""
    for op, slot in zip(("Mul", "Add"), slots, strict=False):
        if slot < len(node.inputs) and node.inputs[slot].name:
            vector = node.inputs[slot]
            if not trailing and rank > 2:
                shape = build.const(np.asarray([-1] + [1] * (rank - 2), dtype=np.int64))
                vector = build.emit(node, "Reshape", vector, shape)
            x = build.emit(node, op, x, vector)
    return x


def in_groups(
    build: "Reference",
    node: gs.Node,
    x: gs.Tensor,
    rank: int,
    alive: dict[int, Mask],
    channels: int,
    groups: int,
    dtype: DType,
    epsilon: float,
) -> gs.Tensor:
    """Standardise x [N, C, space...] over the kept members of each group and kept places of its space.

    `alive` maps axes of x to the positions they keep. Returns [N, groups, members, space].
    """
    members = alive.get(1, np.ones(channels, dtype=bool)).reshape(groups, -1).copy()
    # A dead group's numbers are garbage either way; nothing is divided by zero.
    members[~members.any(axis=1)] = True
    split = build.const(np.asarray([0, groups, members.shape[1], -1], dtype=np.int64))
    ratio = (members.shape[1] / members.sum(axis=1)).reshape(1, groups, 1, 1)
    keep: gs.Tensor = build.const(members[None, :, :, None])
    space = {axis: kept for axis, kept in alive.items() if axis > 1 and not kept.all()}
    if space:  # laid out as x is, and split as x is: other sizes of its space may be known at run time only
        places = build.mask(rank, {1: members.ravel(), **space})
        keep = build.emit(
            node, "Reshape", build.emit(node, "Expand", places, build.emit(node, "Shape", x)), split
        )
        ratio = ratio * kept_ratio(space)
    seen = Statistics(build, node, (2, 3), keep, ratio, dtype, epsilon)
    return seen.standardised(build.emit(node, "Reshape", x, split))[0]


def moments(build: "Reference", node: gs.Node, keep: gs.Tensor, ratio: float) -> None:
    """LayerNormalization and InstanceNormalization over kept positions."""
    x = node.inputs[0]
    rank = build.rank(x)
    layer = node.op == "LayerNormalization"
    axes = list(range(int(node.attrs.get("axis", -1)) % rank, rank)) if layer else list(range(2, rank))
    seen = Statistics(build, node, axes, keep, np.asarray(ratio), build.dtype(x), _epsilon(node))
    y, mean, inverse = seen.standardised(x)
    build.replace(node, [affine(build, node, y, rank, layer, (1, 2)), mean, inverse])


def mean_square(build: "Reference", node: gs.Node, keep: gs.Tensor, ratio: float) -> None:
    """Root-mean-square normalisation over kept positions."""
    x = node.inputs[0]
    rank = build.rank(x)
    axes = list(range(int(node.attrs.get("axis", -1)) % rank, rank))
    seen = Statistics(build, node, axes, keep, np.asarray(ratio), build.dtype(x), _epsilon(node))
    y, inverse = seen.by_mean_square(x)
    build.replace(node, [affine(build, node, y, rank, True, (1,)), inverse])


def group_moments(build: "Reference", node: gs.Node, alive: dict[int, Mask]) -> None:
    """GroupNormalization: statistics over the kept members of each group and over space."""
    x = node.inputs[0]
    rank = build.rank(x)
    groups = int(node.attrs["num_groups"])
    sizes = build.analysis.info.sizes(x.name)
    assert sizes is not None
    y = in_groups(build, node, x, rank, alive, sizes[1], groups, build.dtype(x), _epsilon(node))
    shape = build.emit(node, "Shape", x)
    vector_length = (build.analysis.info.sizes(node.inputs[1].name) or (0,))[0]
    if vector_length == groups and groups != sizes[1]:
        column = build.const(np.asarray([-1, 1, 1], dtype=np.int64))
        for op, slot in (("Mul", 1), ("Add", 2)):
            y = build.emit(node, op, y, build.emit(node, "Reshape", node.inputs[slot], column))
        build.replace(node, [build.emit(node, "Reshape", y, shape)])
        return
    y = build.emit(node, "Reshape", y, shape)
    build.replace(node, [affine(build, node, y, rank, False, (1, 2))])


def batch_statistics(build: "Reference", node: gs.Node, keep: gs.Tensor, ratio: float) -> None:
    """Batch norm with batch statistics over kept positions of everything but channels."""
    x = node.inputs[0]
    rank = build.rank(x)
    axes = [axis for axis in range(rank) if axis != 1]
    seen = Statistics(build, node, axes, keep, np.asarray(ratio), build.dtype(x), _epsilon(node))
    y = seen.standardised(x)[0]
    build.replace(node, [affine(build, node, y, rank, False, (1, 2))])


def _epsilon(node: gs.Node) -> float:
    return float(node.attrs.get("epsilon", 1e-5))


# Each writes a node out with statistics over positions `keep`, of which all are `ratio` times as many.
BY_MASK: dict[str, Callable[["Reference", gs.Node, gs.Tensor, float], None]] = {
    "moments": moments,
    "mean_square": mean_square,
    "batch_statistics": batch_statistics,
}

WRITTEN_OUT: dict[str, Callable[["Reference", gs.Node, dict[int, Mask]], None]] = {
    "group_moments": group_moments,
}
