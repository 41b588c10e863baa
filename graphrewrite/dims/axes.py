"""Axes as products of factors, so that a reshape moves factors about and creates no ties by itself.

An axis is a sequence of factors, outermost first. A factor is *rigid* (a batch, a feature map's height: nothing can
go), a block of *rows* of labels, or a *digit* of a block that was split and not yet used: the digits of one block
may be permuted and merged again without any tie (a channel shuffle), and only an operation that truly needs one of
them as an axis refines the labels into a product.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from math import prod

import numpy as np

from graphrewrite.dims.labels import Ints, Labels

Pair = tuple[int, int]  # sizes in the two sample worlds; equal for a static axis
UNKNOWN: Pair = (-1, -1)


@dataclass(frozen=True, eq=False, slots=True)
class Rigid:
    """A factor from which no position can go; `cause` says why in a few words."""

    sizes: Pair
    cause: str = ""


@dataclass(eq=False, slots=True)
class Rows:
    """A factor with labels [positions, labels per position]; every split of it yields digits of one joint.

    `order` is set when the factor is another block's rows in another order: position i is position `order[i]` of the
    block `shuffled`.
    """

    labels: Ints
    joint: "Joint | None" = None
    shuffled: "Joint | None" = None
    order: Ints | None = None

    @property
    def sizes(self) -> Pair:
        """The length, the same in both worlds."""
        return len(self.labels), len(self.labels)


@dataclass(eq=False, slots=True)
class Joint:
    """A block of rows that was split; its digits are intervals of strides of this flat array.

    `groups` says into how many groups it may be split without a tie: each keeps equally many members, not the same.
    `refined` keeps the rows that a split into digits of these sizes gave: whatever is learnt later, they hold.
    `chain` are the strides of members, groups, parts and the whole of a block with parts (`graphrewrite.dims.parts`).
    """

    labels: Ints
    groups: set[int] = field(default_factory=set)
    refined: dict[tuple[int, ...], list[Ints]] = field(default_factory=dict)
    chain: tuple[int, ...] = ()
    _parts: "dict[int, Joint]" = field(default_factory=dict)

    def part(self, number: int) -> "Joint":
        """Return one part as a block of its own, the same whenever it is asked for."""
        size = self.chain[2]
        if number not in self._parts:
            self._parts[number] = Joint(self.labels[number * size : (number + 1) * size])
        return self._parts[number]

    def groups_of(self, digit: "Digit") -> int:
        """Return into how many groups a digit splits the block: it counts them or their members (0: neither)."""
        n = len(self.labels)
        if self.chain:
            return n // self.chain[1] if {digit.low, digit.high} <= {*self.chain} else 0
        return n // digit.low if digit.high == n else n // digit.high if digit.low == 1 else 0


@dataclass(frozen=True, eq=False, slots=True)
class Digit:
    """The digit (i // low) % (high // low) of a joint's positions i."""

    joint: Joint
    low: int
    high: int

    @property
    def sizes(self) -> Pair:
        """The length, the same in both worlds."""
        return self.high // self.low, self.high // self.low


Factor = Rigid | Rows | Digit
Key = int | tuple[int, int, int]


class Axis:
    """One axis of a tensor; immutable.

    Attributes:
        factors: outermost first.
        is_rigid: whether no factor carries labels.
        is_split: whether a factor is a digit that was not yet refined.
        key: what axes with the same labels have in common; it holds as long as one of them lives.
    """

    __slots__ = ("_sizes", "factors", "is_rigid", "is_split", "key")

    def __init__(self, factors: tuple[Factor, ...]) -> None:
        self.factors = factors
        self.key: Key = id(self)
        self._sizes: Pair | None = None
        if len(factors) != 1:
            self.is_rigid = all(isinstance(factor, Rigid) for factor in factors)
            self.is_split = any(isinstance(factor, Digit) for factor in factors)
            return
        (factor,) = factors
        self.is_split = False
        self.is_rigid = isinstance(factor, Rigid)
        self._sizes = factor.sizes
        if isinstance(factor, Rows):
            self.key = id(factor.labels)
        elif isinstance(factor, Digit):
            self.key = id(factor.joint), factor.low, factor.high
            self.is_split = True

    @property
    def sizes(self) -> Pair:
        """Lengths in the two worlds; (-1, -1) when unknown."""
        if self._sizes is None:
            if any(f.sizes == UNKNOWN for f in self.factors):
                self._sizes = UNKNOWN
            else:
                self._sizes = prod(f.sizes[0] for f in self.factors), prod(f.sizes[1] for f in self.factors)
        return self._sizes

    @property
    def is_static(self) -> bool:
        """Whether the length is the same in both worlds, and known."""
        a, b = self.sizes
        return a == b >= 0

    @property
    def parts(self) -> "tuple[Axis, ...]":
        """An axis for each factor."""
        return (self,) if len(self.factors) == 1 else tuple(Axis((factor,)) for factor in self.factors)

    @property
    def digits(self) -> list[Digit]:
        """The factors that are unrefined digits."""
        return [f for f in self.factors if isinstance(f, Digit)]

    @property
    def cause(self) -> str:
        """Why the axis is rigid, as far as known."""
        return next((f.cause for f in self.factors if isinstance(f, Rigid) and f.cause), "")


@lru_cache(maxsize=4096)
def rigid(sizes: Pair | int, cause: str = "") -> Axis:
    """Return an axis nothing can be removed from; axes never change, so one stands for all that are alike."""
    return Axis((Rigid((sizes, sizes) if isinstance(sizes, int) else sizes, cause),))


ONE = rigid(1)


def of_rows(labels: Ints) -> Axis:
    """Return an axis with these labels."""
    return Axis((Rows(labels),))


def same(a: Axis, b: Axis) -> bool:
    """Whether two axes are made of the same factors."""
    if a is b:
        return True
    if len(a.factors) != len(b.factors):
        return False
    return all(_same_factor(x, y) for x, y in zip(a.factors, b.factors, strict=True))


def _same_factor(x: Factor, y: Factor) -> bool:
    if x is y:
        return True
    if isinstance(x, Rows) and isinstance(y, Rows):
        return x.labels is y.labels
    if isinstance(x, Digit) and isinstance(y, Digit):
        return x.joint is y.joint and (x.low, x.high) == (y.low, y.high)
    return isinstance(x, Rigid) and isinstance(y, Rigid) and x.sizes == y.sizes


def digit_rows(labels: Labels, digit: Digit, why: str) -> Ints:
    """Refine a digit's block into a product and return the rows of this digit."""
    flat = digit.joint.labels
    parts = (len(flat) // digit.high, digit.high // digit.low, digit.low)
    kept = tuple(size for size in parts if size > 1)
    rows = digit.joint.refined.get(kept)
    if rows is None:
        rows = digit.joint.refined[kept] = labels.digits(flat, kept, why)
    return rows[1 if parts[0] > 1 else 0]


def rows_of(labels: Labels, axis: Axis, why: str) -> Ints:
    """Return the rows of a static axis, refining digits where there are any; rigid factors repeat."""
    if len(axis.factors) == 1 and isinstance(axis.factors[0], Rows):
        return axis.factors[0].labels
    blocks = []
    for factor in axis.factors:
        if isinstance(factor, Rigid):
            blocks.append(np.zeros((factor.sizes[0], 1), dtype=np.int64))
        elif isinstance(factor, Rows):
            blocks.append(factor.labels)
        else:
            blocks.append(digit_rows(labels, factor, why))
    return outer(blocks)


def outer(blocks: Sequence[Ints]) -> Ints:
    """Return the rows of the axis made by merging several: side by side, the last block fastest."""
    if len(blocks) == 1:
        return blocks[0]
    sizes = [len(block) for block in blocks]
    columns = []
    for index, block in enumerate(blocks):
        if not block.any():
            continue
        spread = np.repeat(np.tile(block, (prod(sizes[:index]), 1)), prod(sizes[index + 1 :]), axis=0)
        columns.append(spread)
    if not columns:
        return np.zeros((prod(sizes), 1), dtype=np.int64)
    return np.concatenate(columns, axis=1)


def cut_factors(factors: Iterable[Factor], sizes: Sequence[Pair]) -> list[list[Factor]] | None:
    """Deal factors out to axes of these sizes, splitting one where a boundary falls inside; None if impossible."""
    queue = list(factors)[::-1]
    result = []
    for size in sizes:
        part: list[Factor] = []
        need = size
        while need != (1, 1):
            if not queue:
                return None
            factor = queue.pop()
            have = factor.sizes
            if need[0] % have[0] == 0 and need[1] % have[1] == 0:
                part.append(factor)
                need = (need[0] // have[0], need[1] // have[1])
                continue
            if have[0] % need[0] or have[1] % need[1]:
                return None
            pieces = _split(factor, need)
            if pieces is None:
                return None
            part.append(pieces[0])
            queue.append(pieces[1])
            need = (1, 1)
        result.append(part or [Rigid((1, 1))])
    return result if not [f for f in queue if f.sizes != (1, 1)] else None


def _split(factor: Factor, lead: Pair) -> tuple[Factor, Factor] | None:
    rest = (factor.sizes[0] // lead[0], factor.sizes[1] // lead[1])
    if isinstance(factor, Rigid):
        return Rigid(lead, factor.cause), Rigid(rest, factor.cause)
    if lead[0] != lead[1]:
        return None
    if isinstance(factor, Rows):
        joint = factor.joint = factor.joint or Joint(factor.labels)
        n = len(factor.labels)
        return Digit(joint, n // lead[0], n), Digit(joint, 1, n // lead[0])
    middle = factor.low * rest[0]
    return Digit(factor.joint, middle, factor.high), Digit(factor.joint, factor.low, middle)


def merge_digits(factors: Sequence[Factor]) -> tuple[Factor, ...]:
    """Join neighbouring digits of one block; a complete set, in whatever order, is the block's (permuted) rows."""
    merged: list[Factor] = []
    for factor in factors:
        if factor.sizes == (1, 1) and len(factors) > 1:
            continue
        last = merged[-1] if merged else None
        if (
            isinstance(factor, Digit)
            and isinstance(last, Digit)
            and last.joint is factor.joint
            and last.low == factor.high
        ):
            merged[-1] = Digit(factor.joint, factor.low, last.high)
        else:
            merged.append(factor)
    result: list[Factor] = []
    index = 0
    while index < len(merged):
        factor = merged[index]
        if isinstance(factor, Digit):
            run: list[Digit] = []
            for each in merged[index:]:
                if not isinstance(each, Digit) or each.joint is not factor.joint:
                    break
                run.append(each)
            whole = _whole(run)
            result.extend([whole] if whole is not None else run)
            index += len(run)
        else:
            result.append(factor)
            index += 1
    return tuple(result) or (Rigid((1, 1)),)


def _whole(digits: Sequence[Digit]) -> Rows | None:
    """Return the rows that a complete set of a joint's digits stands for in this order, None when incomplete."""
    order = permutation(digits)
    joint = digits[0].joint
    if order is None:
        return None
    if (order[1:] > order[:-1]).all():
        return Rows(joint.labels, joint)
    return Rows(joint.labels[order], shuffled=joint, order=order)


def permutation(digits: Sequence[Digit]) -> Ints | None:
    """Return, for each position of the merged axis, the position in the joint it comes from."""
    flat = digits[0].joint.labels
    descending = sorted(range(len(digits)), key=lambda k: -digits[k].high)
    edge = len(flat)
    for k in descending:
        if digits[k].high != edge:
            return None
        edge = digits[k].low
    if edge != 1:
        return None
    shape = [digits[k].sizes[0] for k in descending]
    cube = np.arange(len(flat)).reshape(shape)
    return cube.transpose([descending.index(k) for k in range(len(digits))]).ravel()


def pin_axis(labels: Labels, axis: Axis, why: str) -> None:
    """Keep every position of an axis for ever."""
    for factor in axis.factors:
        if isinstance(factor, Rows):
            labels.pin(factor.labels, why)
        elif isinstance(factor, Digit):
            labels.pin(digit_rows(labels, factor, why), why)


def tie_axes(labels: Labels, a: Axis, b: Axis, why: str) -> None:
    """Make two axes of equal length one axis."""
    if a is b or (a.is_rigid and b.is_rigid) or same(a, b):
        return
    if a.is_rigid or b.is_rigid:
        stiff, loose = (a, b) if a.is_rigid else (b, a)
        pin_axis(
            labels,
            loose,
            f"{why} joins it with an axis that cannot shrink" + (f" ({stiff.cause})" if stiff.cause else ""),
        )
        return
    if [f.sizes for f in a.factors] == [f.sizes for f in b.factors] and len(a.factors) > 1:
        for f, g in zip(a.factors, b.factors, strict=True):
            tie_axes(labels, Axis((f,)), Axis((g,)), why)
        return
    if a.is_static and b.is_static and a.sizes == b.sizes:
        labels.unify(rows_of(labels, a, why), rows_of(labels, b, why), why)
        return
    for x, y in ((a, b), (b, a)):
        if any(f.sizes == UNKNOWN for f in (*x.factors, *y.factors)):
            break
        cut = cut_factors(x.factors, [f.sizes for f in y.factors])
        if cut is not None and all(len(part) == 1 for part in cut):
            for part, factor in zip(cut, y.factors, strict=True):
                tie_axes(labels, Axis((part[0],)), Axis((factor,)), why)
            return
    pin_axis(labels, a, f"{why}: a dynamic axis meets another split of itself")
    pin_axis(labels, b, f"{why}: a dynamic axis meets another split of itself")
