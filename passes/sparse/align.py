"""Bringing outputs with zeros at the same inputs together, so that zeros fall into whole blocks.

A weight pruned elsewhere may be full of zeros and have hardly a block of them, only because its filters stand in
another order than the kernel reads them. Filters may change places wherever the channel groups say so.
"""

import numpy as np
import numpy.typing as npt

from graphrewrite.custom_ops.blocks import density
from graphrewrite.dims import Groups, groups
from graphrewrite.ir import Model
from graphrewrite.ir.inline import inlined
from graphrewrite.passes.sparse.layers import Layer, layers_of
from graphrewrite.passes.sparse.rearrange import Orders, movable, put
from graphrewrite.pipeline import Note

Ints = npt.NDArray[np.int64]
Bits = npt.NDArray[np.bool_]

# The width that most kernels like best; an order that suits it suits its halves and nearly its doubles.
_WIDTH = 8
# A share of blocks that is not at least this much smaller is not worth moving channels for.
_WORTH = 0.9


def aligned(model: Model, min_sparsity: float) -> tuple[Model, list[Note]]:
    """Return the model with channels moved where that makes denser blocks, and what was moved; else `model` itself.

    Only layers of whose weights at least `min_sparsity` is zero count.
    """
    scattered = {
        layer.weight: layer
        for layer in layers_of(model)
        if _is_scattered(layer.matrix(model.weights[layer.weight]), min_sparsity)
    }
    if not scattered:
        return model, []
    found = groups(inlined(model))
    orders: dict[int, Ints] = {}
    notes = []
    why = movable(found)
    for number, group in enumerate(found):
        makers = [m for m in group.members if m.tensor in scattered and scattered[m.tensor].makes(m.axis)]
        if not makers or why[number]:
            continue
        support = _support(found, scattered, number)
        order = similar_together(support, _WIDTH)
        before, after = _share_of_blocks(support), _share_of_blocks(support[order])
        if after <= _WORTH * before:
            orders[number] = order
            text = (
                f"filters moved: {1 - after:.0%} of blocks of {_WIDTH} are zero instead of {1 - before:.0%}"
            )
            notes.append(Note("done", group.name, text))
    if not orders:
        return model, []
    moved = found.analysis.model.clone()
    put(moved, Orders(found, orders).of(moved.weights))
    return moved, notes


def similar_together(support: Bits, rows: int) -> Ints:
    """Return an order of `support` [units, places] in which each stretch of `rows` covers few places.

    Greedy: a block starts with the fullest unit that is left, and takes in turn the unit that adds the fewest places,
    of equal ones the one that shares the most.
    """
    left = list(np.argsort(-support.sum(axis=1), kind="stable"))
    counts = support.sum(axis=1)
    order: list[int] = []
    numbers = support.astype(np.float32)
    while left:
        first = left.pop(0)
        order.append(int(first))
        covered = support[first].copy()
        for _ in range(min(rows - 1, len(left))):
            shared = numbers[left] @ covered.astype(np.float32)
            added = counts[left] - shared
            best = int(np.lexsort((-shared, added))[0])
            covered |= support[left[best]]
            order.append(int(left.pop(best)))
    return np.array(order, dtype=np.int64)


def _share_of_blocks(support: Bits) -> float:
    return density(support.astype(np.float32), _WIDTH)


def _is_scattered(matrix: npt.NDArray[np.generic], min_sparsity: float) -> bool:
    support = (matrix != 0).reshape(len(matrix), -1)
    zeros = 1 - float(support.mean())
    return zeros >= min_sparsity and zeros > 0 and 1 - _share_of_blocks(support) < 0.95 * zeros


def _support(found: Groups, scattered: dict[str, Layer], number: int) -> Bits:
    """Return [units, places]: where the filters of a group's units are not zero, in all layers that make them."""
    weights = found.analysis.model.weights
    parts = []
    for member in found.groups[number].members:
        layer = scattered.get(member.tensor)
        if layer is not None and layer.makes(member.axis):
            whole = layer.matrix(weights[member.tensor]) != 0
            parts.append(whole.reshape(len(whole), -1)[member.index].reshape(len(member.index), -1))
    return np.concatenate(parts, axis=1)
