"""Groups that keep different members: a block seen as [groups, members] of which only equal counts are asked.

Statistics of a group do not care which members it has. So while every operator between a reshape into groups and the
reshape back treats members alike or mixes them inside their group, the block's labels stay as they are: its groups may
lose different members, equally many. The tensors between are *ragged*: they have lengths, but no kept positions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import TYPE_CHECKING

from graphrewrite.dims.axes import Axis, Digit, Joint, Rigid, of_rows, rigid
from graphrewrite.dims.record import Analysis, Balance, Members, Mix, is_constant

if TYPE_CHECKING:
    from graphrewrite.dims.step import Step

# With fewer members a group could lose too little one by one: there whole groups go instead.
LEAST_MEMBERS = 4


def seen_in_groups(axes: Sequence[Axis]) -> tuple[Joint, Members] | None:
    """Return the block that one axis counts the groups of and another the members, None when there is no such block."""
    found = [(number, factor) for number, axis in enumerate(axes) for factor in axis.digits]
    if len(found) != 2:
        return None
    (outer, group), (inner, member) = sorted(found, key=lambda each: -each[1].high)
    joint = group.joint
    if (
        member.joint is not joint
        or joint.chain
        or group.high != len(joint.labels)
        or member.low != 1
        or group.low != member.high
    ):
        return None
    factors = axes[inner].factors
    place = factors.index(member)
    before = factors[:place]
    if outer == inner or len(axes[outer].factors) > 1 or member.high < LEAST_MEMBERS:
        return None
    if not all(isinstance(f, Rigid) for f in (*before, *factors[place + 1 :])) or any(
        f.sizes[0] != f.sizes[1] for f in before
    ):
        return None
    groups = group.sizes[0]
    return joint, Members(of_rows(joint.labels), groups, outer, inner, prod(f.sizes[0] for f in before))


def mix_members(
    s: Step,
    found: tuple[Joint, Members],
    kind: str,
    as_product: Callable[[], None],
    per_group: Sequence[int] = (),
) -> None:
    """Mix the members of each group of input 0, or do `as_product` where other operators need them as positions.

    `per_group` are inputs with a number per group. Constants follow the groups that live; with others all live.
    """
    joint, members = found
    may_die = all(is_constant(s.node.inputs[slot]) for slot in per_group)
    balance = Balance(members.axis, members.groups, s.index if may_die else -1)
    if s.opset < 9 and not s.axes(0)[members.inner].is_static:
        as_product()  # the reference has no way to mask a length it does not know
        return

    def as_balance() -> None:
        joint.groups.add(members.groups)
        s.analysis.mixes.append(Mix(kind, s.index, 0, {}, members))
        for slot in per_group:
            s.pin(s.axes(slot)[0], "there is one number per group, and every group stays")
            if may_die:
                s.analysis.uses[s.index, slot].per_group = balance

    s.balance([balance], as_balance, as_product, [(joint, members.groups)])


def may_stay_open(analysis: Analysis, axes: Sequence[Axis]) -> bool:
    """Whether all digits of a tensor are groups, or members of groups, that some operator can balance."""
    offered = {(id(joint), groups) for choice in analysis.open for joint, groups in choice.joints}
    return all((id(d.joint), d.joint.groups_of(d)) in offered for axis in axes for d in axis.digits)


def is_ragged(axes: Sequence[Axis]) -> bool:
    """Whether a tensor has digits, all of them of blocks that were balanced."""
    digits = [digit for axis in axes for digit in axis.digits]
    return bool(digits) and all(is_balanced(digit) for digit in digits)


def is_balanced(digit: Digit) -> bool:
    """Whether a digit counts the groups of a balanced block, or the members of each."""
    return digit.joint.groups_of(digit) in digit.joint.groups


def file_ragged(analysis: Analysis, name: str, axes: list[Axis]) -> None:
    """Note a ragged tensor; to whoever asks for positions it has none that could go."""
    analysis.ragged[name] = axes
    analysis.env[name] = [
        rigid(axis.sizes, "groups keep different members here") if axis.digits else axis for axis in axes
    ]
