"""What a cut keeps: positions and lengths of axes."""

from math import prod

import numpy as np
import numpy.typing as npt

from graphrewrite.dims.axes import Axis, Digit, Factor, Key, Rigid, of_rows, rows_of
from graphrewrite.dims.labels import Ints
from graphrewrite.dims.ragged import is_balanced
from graphrewrite.dims.sweep import Analysis
from graphrewrite.errors import ShapeError


class Survivors:
    """Answers for one set of dead labels; `dead` is a mask over all labels."""

    def __init__(self, analysis: Analysis, dead: npt.NDArray[np.bool_]) -> None:
        self.analysis = analysis
        self.dead = dead
        self._kept: dict[Key, tuple[Axis, Ints | None]] = {}
        self._find_plain()
        self._lengths: dict[int, tuple[Factor, int]] = {}

    def kept(self, axis: Axis) -> Ints | None:
        """Return the kept positions of a static axis, None when all stay."""
        if axis.is_rigid:
            return None
        known = self._kept.get(axis.key)
        if known is None:
            alive = None if self._is_whole_digit(axis) else self._alive(axis)
            positions = None if alive is None or alive.all() else np.flatnonzero(alive)
            known = self._kept[axis.key] = axis, positions
        positions = known[1]
        if positions is not None and not len(positions):
            raise ShapeError("a cut would leave an axis empty; keep at least one unit of every group")
        return positions

    def _find_plain(self) -> None:
        """Find in one go what is kept of all axes known to have one label at each position."""
        tables = [(axis, rows) for axis, rows in self.analysis.resolved.values() if rows.shape[1] == 1]
        if not tables:
            return
        gone = self.dead[np.concatenate([rows for _, rows in tables])[:, 0]]
        alive = ~gone
        stops = np.cumsum([len(rows) for _, rows in tables])
        lost = np.append(0, np.cumsum(gone))[stops]
        start, before = 0, 0
        for (axis, _), stop, up_to in zip(tables, stops.tolist(), lost.tolist(), strict=True):
            self._kept[axis.key] = axis, alive[start:stop].nonzero()[0] if up_to > before else None
            start, before = stop, up_to

    def is_cut(self, axis: Axis) -> bool:
        """Whether an axis loses anything."""
        return any(self._length(part) != part.sizes[0] for part in axis.parts)

    def count(self, axis: Axis) -> int:
        """Return the kept length of an axis that is static."""
        return prod(self._length(part) for part in axis.parts)

    def remaining(self, axis: Axis) -> int:
        """Return the kept length of one end of a padded axis, which may vanish."""
        return axis.sizes[0] if axis.is_rigid else int(self._alive(axis).sum())

    def renumbered(self, axis: Axis, picked: Ints) -> Ints:
        """Return the places of picked positions after the cut; picks of removed ones go."""
        kept = self.kept(axis)
        if kept is None:
            return picked
        place = np.full(axis.sizes[0], -1, dtype=np.int64)
        place[kept] = np.arange(len(kept))
        new = place[picked]
        return new[new >= 0]

    def living(self, axis: Axis, groups: int) -> npt.NDArray[np.bool_]:
        """Return which groups of an axis keep members, [groups].

        Raises:
            ShapeError: those that do keep different numbers.
        """
        if axis.is_rigid:
            return np.ones(groups, dtype=bool)
        counts = self._alive(axis).reshape(groups, -1).sum(axis=1)
        lives = np.asarray(counts > 0)
        if (counts[lives] != counts.max()).any():
            raise ShapeError(
                f"groups would keep {counts[lives].min()} to {counts.max()} members; all that live must keep equally "
                "many; use Groups.balanced on the choice"
            )
        return lives

    def _alive(self, axis: Axis) -> npt.NDArray[np.bool_]:
        return np.asarray(~self.dead[self.analysis.rows(axis)].any(axis=1))

    def _is_whole_digit(self, axis: Axis) -> bool:
        """Whether an axis is an unrefined digit (inside a shuffle) of a block that loses nothing."""
        factor = axis.factors[0]
        if len(axis.factors) > 1 or not isinstance(factor, Digit):
            return False
        return self.kept(of_rows(factor.joint.labels)) is None

    def _length(self, part: Axis) -> int:
        """Return the kept length of an axis of one factor, in world A."""
        factor = part.factors[0]
        if isinstance(factor, Digit) and is_balanced(factor):
            return self._balanced(factor)
        if self.analysis.slots and not isinstance(factor, Rigid):
            known = self._lengths.get(id(factor))
            if known is None:
                known = self._lengths[id(factor)] = factor, self._slotted(part)
            return known[1]
        return self._plain(part)

    def _plain(self, part: Axis) -> int:
        positions = self.kept(part)
        return part.sizes[0] if positions is None else len(positions)

    def _slotted(self, part: Axis) -> int:
        """Return the kept length of an axis that may be the slots of a computed weight."""
        labels, factor = self.analysis.labels, part.factors[0]
        block = labels.terminals(
            factor.joint.labels if isinstance(factor, Digit) else rows_of(labels, part, "")
        )
        for slots in self.analysis.slots:
            if np.isin(slots.labels[0], block) and np.isin(
                slots.labels[0], labels.terminals(rows_of(labels, part, ""))
            ):
                living = int(self.living(slots.into, slots.groups).sum()) / slots.groups
                return round(part.sizes[0] * self._plain(slots.into) / (slots.into.sizes[0] * living))
        return self._plain(part)

    def _balanced(self, digit: Digit) -> int:
        """Return the kept length of a digit of a balanced block: it counts groups that live, or the members of each."""
        block, chain = of_rows(digit.joint.labels), digit.joint.chain
        living = int(self.living(block, digit.joint.groups_of(digit)).sum())
        members = self._plain(block) // living
        if not chain:
            return living if digit.low > 1 else members
        parts = len(digit.joint.labels) // chain[2]
        steps = zip(chain, (members, living // parts, parts), strict=False)
        return prod(length for stride, length in steps if digit.low <= stride < digit.high)
