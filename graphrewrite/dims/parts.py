"""Layers that make queries, keys and values at once: each of them a part of one block, picked by its number.

A block seen as parts x heads x dims is a product as soon as a part is picked: every part then has the same heads and
dims. Where heads may lose dims of their own, a picked part is a block of its own instead, with cells of its own. What
is left to ask for is that the block stays a box: heads die in all parts, and those that live keep equally many dims in
all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from graphrewrite.dims.axes import ONE, Axis, Digit, Joint, of_rows
from graphrewrite.dims.cells import may_differ, undone
from graphrewrite.dims.ragged import LEAST_MEMBERS
from graphrewrite.dims.record import Balance

if TYPE_CHECKING:
    from graphrewrite.dims.shrink import Cut
    from graphrewrite.dims.step import Step


def pick_part(
    s: Step, x: Sequence[Axis], number: int, parts: Sequence[int], as_product: Callable[[], None]
) -> list[list[Axis]] | None:
    """Return the axes of some parts of a block whose parts axis `number` counts, each with that axis of length one.

    None where the tensor sees no block in this way; `as_product` does what is to be done if others need positions.
    """
    if not may_differ(s) or len(x[number].factors) > 1:
        return None
    (whole,) = x[number].factors
    others = [(i, factor) for i, axis in enumerate(x) for factor in axis.digits if i != number]
    if not isinstance(whole, Digit) or len(others) != 2 or any(len(x[i].factors) > 1 for i, _ in others):
        return None
    joint = whole.joint
    head, dim = (factor for _, factor in sorted(others, key=lambda each: -each[1].high))
    chain = (1, dim.high, head.high, len(joint.labels))
    met = [(dim.low, dim.high), (head.low, head.high), (whole.low, whole.high)]
    if any(factor.joint is not joint for factor in (head, dim)) or met != list(
        zip(chain, chain[1:], strict=False)
    ):
        return None
    readers = [choice.node for choice in s.analysis.open for each, _ in choice.joints if each is joint]
    if dim.high < LEAST_MEMBERS or (readers and joint.chain != chain):
        return None
    joint.chain = chain
    node = min(readers, default=s.index)  # all picks ask for the same
    count, heads = whole.sizes[0], head.sizes[0]
    blocks = [joint.part(part) for part in range(count)]
    balances = [
        Balance(of_rows(joint.labels), count * heads, node),
        *(Balance(of_rows(block.labels), heads, node) for block in blocks),
    ]

    def as_balance() -> None:
        joint.groups.add(count * heads)
        s.restate([balances[0].axis], lambda cut: _check(cut, s.index, balances[1:]))

    s.balance(balances, as_balance, undone(s, as_product), [(joint, count * heads)])
    return [[ONE if i == number else _of(axis, blocks[part]) for i, axis in enumerate(x)] for part in parts]


def _of(axis: Axis, block: Joint) -> Axis:
    """Return an axis of the whole as an axis of one of its parts."""
    (factor, *_) = axis.factors
    return Axis((Digit(block, factor.low, factor.high),)) if isinstance(factor, Digit) else axis


def _check(cut: Cut, node: int, balances: Sequence[Balance]) -> None:
    cut.living_in(node, balances)


__all__ = ["pick_part"]
