"""Heads that lose dims of their own: matrix products that are done once per group of a block that stays split.

A reshape into heads x dims is read by products that pair heads and sum over dims. As a product of labels every head
loses the same dims. But a sum does not care which dims it runs over, as long as both operands keep the same: it is
enough that cells (a dim of a head) live in both operands or in none, and that heads that live keep equally many. Heads
may die as groups do (`graphrewrite.dims.deaths`), in all blocks that products pair them with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphrewrite.dims.axes import Axis, Joint, Rows, of_rows, same
from graphrewrite.dims.labels import Ints
from graphrewrite.dims.ragged import LEAST_MEMBERS
from graphrewrite.dims.record import Balance, Members, Mix

if TYPE_CHECKING:
    from graphrewrite.dims.shrink import Cut
    from graphrewrite.dims.step import Step


@dataclass(frozen=True)
class Seen:
    """How a tensor sees one block: axis `group` counts groups, axis `member` (None: there is none) their members."""

    joint: Joint
    groups: int
    group: int
    member: int | None


def seen(axes: Sequence[Axis]) -> Seen | None:
    """Return the one block whose digits a tensor has, None where there is none or it is seen in another way."""
    found = [(number, factor) for number, axis in enumerate(axes) for factor in axis.digits]
    if not found or len(found) > 2 or any(len(axes[number].factors) > 1 for number, _ in found):
        return None
    (outer, group), *rest = sorted(found, key=lambda each: -each[1].high)
    joint, count = group.joint, len(group.joint.labels)
    if group.high != count or count // group.sizes[0] < LEAST_MEMBERS or group.sizes[0] < 2:
        return None
    if not rest:
        return Seen(joint, group.sizes[0], outer, None)
    ((inner, member),) = rest
    if member.joint is not joint or member.low != 1 or member.high != group.low:
        return None
    return Seen(joint, group.sizes[0], outer, inner)


def may_differ(s: Step) -> bool:
    """Whether heads may lose dims of their own, as far as is known of this node."""
    return s.analysis.tied is not None and s.index not in s.analysis.tied


def undone(s: Step, as_product: Callable[[], None]) -> Callable[[], None]:
    """Return what to do where heads are tied after all: a product, and a note not to try again."""

    def undo() -> None:
        as_product()
        if s.analysis.tied is not None:
            s.analysis.tied.add(s.index)

    return undo


def product_in_groups(
    s: Step, a: Sequence[Axis], b: Sequence[Axis], as_product: Callable[[], None]
) -> list[Axis] | None:
    """Return the axes of A [..., m, k] times B [..., k, n] done once per group, None where it is another product.

    Either both sum over the members of their groups, or A has groups alone (it is the result of such a sum) and the
    members of B pass. `as_product` does what is to be done if others need the groups or members as positions.
    """
    left, right = seen(a), seen(b)
    rank = len(a)
    if left is None or right is None or rank != len(b) or left.group != right.group or left.group > rank - 3:
        return None
    if left.groups != right.groups:
        return None
    if (left.member, right.member) == (rank - 1, rank - 2):
        if len(left.joint.labels) != len(right.joint.labels):
            return None
        inner, sums = of_rows(left.joint.labels), True
    elif left.member is None and right.member == rank - 1:
        inner, sums = of_rows(right.joint.labels), False
    else:
        return None
    others = [
        (x, y) for number, (x, y) in enumerate(zip(a[:-2], b[:-2], strict=True)) if number != left.group
    ]
    for x, y in others:
        if x.sizes != (1, 1) and y.sizes != (1, 1):
            s.tie(x, y)
    if sums:
        s.labels.unify(left.joint.labels, right.joint.labels, s.why)
    else:
        s.tie(a[-1], b[-2])
    s.contracts(0, rank - 1)
    s.contracts(1, rank - 2)
    batch = [y if x.sizes == (1, 1) else x for x, y in others]
    free = [a[-2], b[-1]] if sums else [a[-2], a[-1]]  # of what has no members

    def as_balance() -> None:
        if sums:
            members = Members(inner, left.groups, left.group, rank - 1, 1)
            s.analysis.mixes.append(Mix("zero", s.index, 0, {}, members))
        else:
            s.mix("zero", 0, {rank - 1: a[-1]})
        s.macs(1, [*batch, *free, inner])
        s.multiplies((0, 1), batch, [*free, inner])
        s.analysis.cells.append(inner)

    _pair(s, [(each.joint.labels, each.joint) for each in (left, right)], left.groups, as_balance, as_product)
    out = [y if x.sizes == (1, 1) else x for x, y in zip(a[:-2], b[:-2], strict=True)]
    out[left.group] = (a if sums else b)[left.group]  # the block whose members are left
    return [*out, a[-2], b[-1]]


def share_groups(s: Step, a: Axis, b: Axis) -> bool:
    """Let the groups that two axes count die together (one of them may be an axis of rows); tell whether they do."""
    sides = [_counted(axis) for axis in (a, b)]
    if same(a, b) or not (a.digits or b.digits) or any(side is None for side in sides):
        return False
    _pair(s, [side for side in sides if side], a.sizes[0], lambda: None, lambda: s.tie(a, b))
    return True


def _pair(
    s: Step,
    sides: Sequence[tuple[Ints, Joint | None]],
    groups: int,
    as_balance: Callable[[], None],
    as_product: Callable[[], None],
) -> None:
    """Let the groups of blocks, so many in each, die together and keep equally many members, or do `as_product`."""
    balances = [Balance(of_rows(rows), groups, s.index) for rows, _ in sides]
    joints = [joint for _, joint in sides if joint is not None]

    def settle() -> None:
        for joint in joints:
            joint.groups.add(groups)
        s.restate([balance.axis for balance in balances], lambda cut: _check(cut, s.index, balances))
        as_balance()

    s.balance(balances, settle, undone(s, as_product), [(joint, groups) for joint in joints])


def _check(cut: Cut, node: int, balances: Sequence[Balance]) -> None:
    """Refuse a cut in which a group lives on one side only; the node itself has no number to follow."""
    cut.living_in(node, balances)


def _counted(axis: Axis) -> tuple[Ints, Joint | None] | None:
    """Return the block whose groups an axis counts, and its joint; of an axis of rows each is a group of one."""
    if len(axis.factors) > 1:
        return None
    (factor,) = axis.factors
    if isinstance(factor, Rows):
        return factor.labels, None
    found = seen([axis])
    return None if found is None else (found.joint.labels, found.joint)


__all__ = ["may_differ", "product_in_groups", "seen", "share_groups", "undone"]
