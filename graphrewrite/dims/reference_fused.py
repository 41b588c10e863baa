"""References of onnxruntime's fused layers: the fused parts written out, statistics over kept positions."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs

from graphrewrite.dims.reference_norms import affine, in_groups, over
from graphrewrite.ir.edit import set_input

if TYPE_CHECKING:
    from graphrewrite.dims.reference import Reference

Mask = npt.NDArray[np.bool_]


def given(node: gs.Node, slot: int) -> gs.Tensor | None:
    """Return an optional input, None where it is left out."""
    return node.inputs[slot] if slot < len(node.inputs) and node.inputs[slot].name else None


def total(build: "Reference", node: gs.Node, slots: Sequence[int]) -> gs.Tensor:
    """Return the sum of those inputs that are given."""
    terms = [term for slot in slots if (term := given(node, slot)) is not None]
    result = terms[0]
    for term in terms[1:]:
        result = build.emit(node, "Add", result, term)
    return result


def skip_moments(build: "Reference", node: gs.Node, alive: dict[int, Mask]) -> None:
    """Layer norm of input + skip (+ bias); the sum is the fourth output."""
    x = node.inputs[0]
    rank, dtype = build.rank(x), build.dtype(x)
    summed = total(build, node, (0, 1, 4))
    epsilon = float(node.attrs.get("epsilon", 1e-12))
    seen = over(build, node, [rank - 1], alive, rank, dtype, epsilon)
    y, mean, inverse = seen.standardised(summed)
    build.replace(node, [affine(build, node, y, rank, True, (2, 3)), mean, inverse, summed])


def skip_mean_square(build: "Reference", node: gs.Node, alive: dict[int, Mask]) -> None:
    """Root-mean-square norm of input + skip (+ bias); the sum is the fourth output."""
    x = node.inputs[0]
    rank, dtype = build.rank(x), build.dtype(x)
    summed = total(build, node, (0, 1, 3))
    epsilon = float(node.attrs.get("epsilon", 1e-12))
    y, inverse = over(build, node, [rank - 1], alive, rank, dtype, epsilon).by_mean_square(summed)
    build.replace(node, [affine(build, node, y, rank, True, (2,)), None, inverse, summed])


def embed_moments(build: "Reference", node: gs.Node, alive: dict[int, Mask]) -> None:
    """Layer norm of word + position (+ segment) rows; the mask index stays the node's."""
    tokens = node.inputs[0]
    quantized = node.op.startswith("Q")
    dtype = np.dtype(np.float32) if quantized else build.dtype(node.inputs[2])

    def plain(slot: int) -> gs.Tensor:
        """Return a table or vector; of a quantized node its scale is six slots on, its zero point eleven."""
        tensor = node.inputs[slot]
        if not quantized:
            return tensor
        return build.emit(node, "DequantizeLinear", tensor, node.inputs[slot + 6], node.inputs[slot + 11])

    summed: gs.Tensor = build.emit(node, "Gather", plain(2), tokens, axis=0)
    places = None if quantized else given(node, 8)
    if places is not None:
        rows = build.emit(node, "Gather", plain(3), places, axis=0)
    else:  # the first rows of the table, as many as there are tokens in a sequence
        length = build.emit(
            node, "Gather", build.emit(node, "Shape", tokens), build.const(np.asarray([1])), axis=0
        )
        rows = build.emit(
            node, "Slice", plain(3), build.const(np.asarray([0])), length, build.const(np.asarray([0]))
        )
    summed = build.emit(node, "Add", summed, rows)
    segments = given(node, 1)
    if segments is not None and given(node, 4) is not None:
        summed = build.emit(node, "Add", summed, build.emit(node, "Gather", plain(4), segments, axis=0))
    epsilon = float(node.attrs.get("epsilon", 1e-12))
    y: gs.Tensor = over(build, node, [2], {2: alive[1]}, 3, dtype, epsilon).standardised(summed)[0]
    y = build.emit(node, "Add", build.emit(node, "Mul", y, plain(5)), plain(6))
    build.replace(node, [y, None, summed])


def quantized_lstm(build: "Reference", node: gs.Node, alive: dict[int, Mask]) -> None:
    """A dead unit whose weights are zero holds zero for ever: tanh(0) goes into its cell.

    So it takes no part in the range the states are quantized by, nor does a dead input that holds zero.
    """
    if 2 in alive:
        _keep(build, node, 0, alive[2], build.const(np.asarray(0, dtype=build.dtype(node.inputs[0]))))
    if -1 not in alive:
        return
    units = alive[-1]
    directions = 2 if node.attrs.get("direction") == "bidirectional" else 1
    per_block = build.const(np.asarray([directions, 1, -1]))
    for slot, zero in ((1, 9), (2, 11)):
        _keep(build, node, slot, np.tile(units, 4), build.emit(node, "Reshape", node.inputs[zero], per_block))
    nothing = build.const(np.asarray(0, dtype=np.float32))
    for slot, blocks in ((3, 8), (5, 1), (6, 1)):
        if given(node, slot) is not None:
            _keep(build, node, slot, np.tile(units, blocks), nothing)


def _keep(build: "Reference", node: gs.Node, slot: int, alive: Mask, filler: gs.Tensor) -> None:
    """Fill dead positions of the last axis of an input."""
    set_input(node, slot, build.emit(node, "Where", build.const(alive), node.inputs[slot], filler))


def fused_group_moments(build: "Reference", node: gs.Node, alive: dict[int, Mask]) -> None:
    """Group norm of a feature map in either layout, a residual and a bias before it, an activation behind it."""
    x = node.inputs[0]
    sizes = build.analysis.info.sizes(x.name)
    assert sizes is not None
    rank, dtype = len(sizes), build.dtype(x)
    last = bool(node.attrs.get("channels_last", 1))
    channel = rank - 1 if last else 1
    column = build.const(np.asarray([-1] + [1] * (0 if last else rank - 2), dtype=np.int64))
    summed: gs.Tensor = x
    skip, bias = given(node, 3), given(node, 4)
    if skip is not None:
        if build.rank(skip) == 2:  # one number per sample and channel
            ones = [1] * (rank - 2)
            shape = [0, *ones, -1] if last else [0, -1, *ones]
            skip = build.emit(node, "Reshape", skip, build.const(np.asarray(shape, dtype=np.int64)))
        summed = build.emit(node, "Add", summed, skip)
    if bias is not None:
        summed = build.emit(node, "Add", summed, build.emit(node, "Reshape", bias, column))
    to_first = [0, rank - 1, *range(1, rank - 1)]
    first = build.emit(node, "Transpose", summed, perm=to_first) if last else summed
    moved = {to_first.index(axis): kept for axis, kept in alive.items()} if last else alive
    epsilon, groups = float(node.attrs.get("epsilon", 1e-5)), int(node.attrs["groups"])
    y: gs.Tensor = in_groups(build, node, first, rank, moved, sizes[channel], groups, dtype, epsilon)
    y = build.emit(node, "Reshape", y, build.emit(node, "Shape", first))
    if last:
        y = build.emit(node, "Transpose", y, perm=[0, *range(2, rank), 1])
    for op, slot in (("Mul", 1), ("Add", 2)):
        y = build.emit(node, op, y, build.emit(node, "Reshape", node.inputs[slot], column))
    if int(node.attrs.get("activation", 0)):
        y = build.emit(node, "Mul", y, build.emit(node, "Sigmoid", y))
    build.replace(node, [y, summed])


def support_vectors(build: "Reference", node: gs.Node, alive: dict[int, Mask]) -> None:
    """A feature that is zero in the sample and in every vector adds nothing to a product or a distance."""
    (kept,) = alive.values()
    _keep(build, node, 0, kept, build.const(np.asarray(0, dtype=build.dtype(node.inputs[0]))))
    name = "support_vectors"
    if node.attrs.get(name):
        rows = np.asarray(node.attrs[name]).reshape(-1, len(kept))
        node.attrs[name] = np.where(kept, rows, 0).ravel().tolist()


WRITTEN_OUT: dict[str, Callable[["Reference", gs.Node, dict[int, Mask]], None]] = {
    "skip_moments": skip_moments,
    "skip_mean_square": skip_mean_square,
    "embed_moments": embed_moments,
    "quantized_lstm": quantized_lstm,
    "support_vectors": support_vectors,
    "fused_group_moments": fused_group_moments,
}
