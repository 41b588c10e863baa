"""The numeric view of an analysis: which unit sits where, what it costs, what removing it saves.

A *unit* is a free label that some weight or multiply-accumulate carries. Counts are exact: a node's cost is a
coefficient times the product of the alive counts of its axes, and a position is alive when all its labels are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix

from graphrewrite.cost.registry import key_of
from graphrewrite.cost.weights import per_element
from graphrewrite.dims.axes import Axis, Key
from graphrewrite.dims.labels import Ints
from graphrewrite.dims.record import Balance, WeightUse
from graphrewrite.dims.sweep import Analysis

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


class Part(NamedTuple):
    """A cost before axes have numbers: of work done in each of `groups`, or, if it `follows` them, of one for each."""

    coefficient: float
    axes: list[Axis]
    node: int
    groups: Balance | None = None
    follows: bool = False


@dataclass(frozen=True)
class Terms:
    """Costs of one kind: `coefficient[t]` times the alive counts of the axes in row t of `axes` (-1 = none).

    Numbers beyond the axes stand for groups: their count is the share of those that live, or its inverse.
    `branches` [t] says which branch of an If the cost belongs to, -1 for none.
    """

    coefficients: Floats
    axes: Ints
    nodes: Ints
    branches: Ints


class Structure:
    """Units, the axes they sit on, and the two cost sums.

    Attributes:
        units: label of each unit, ascending.
        incidence: sparse [units, rows]; row r is one position of axis `row_axis[r]`.
        reasons: [rows] the number of a reason why something on the row is pinned, 0 for none.
        macs, params: the cost terms.
        held: [terms of `params`] the name of the weight each counts.
        numbers: the number of each axis, by `Axis.key`.
    """

    def __init__(self, analysis: Analysis) -> None:
        self.analysis = analysis
        self.numbers: dict[Key, int] = {}
        self._tables: list[Ints] = []
        self._content: dict[bytes, int] = {}
        self._held: list[Axis] = []
        self._divided: dict[tuple[int, int], int] = {}  # (axis, groups) -> place
        self.held: list[str] = []
        axes = [
            *(axis for use in analysis.weights.values() for axis in use.axes),
            *(axis for term in analysis.macs for axis in term.axes),
            *analysis.windows,
            *(axis for mix in analysis.mixes for axis in mix.axes.values()),
            *(balance.axis for balance in analysis.balances),
        ]
        analysis.resolve(axes)
        for axis in axes:
            self.axis_id(axis)
        self.macs = self._terms(
            [Part(t.coefficient, t.axes, t.node, t.shared) for t in analysis.macs],
            [t.branch for t in analysis.macs],
        )
        self.params = self._terms(self._weight_terms())
        self._finish()
        # How many weight matrices have each axis; vectors follow their layer and do not count.
        self._matrices = np.zeros(self.axes)
        for use in analysis.weights.values():
            if sum(a.sizes[0] > 1 for a in use.axes) > 1:
                for axis in (*use.axes, *((use.grouped.into,) if use.grouped else ())):
                    if not axis.is_rigid:
                        self._matrices[self.axis_id(axis)] += 1

    def axis_id(self, axis: Axis) -> int:
        """Return the number of an axis; axes with equal rows share one. -1 for a rigid axis."""
        if axis.is_rigid:
            return -1
        known = self.numbers.get(axis.key)
        if known is not None:
            return known
        rows = self.analysis.rows(axis)
        key = rows.shape[1].to_bytes(4, "little") + rows.tobytes()
        number = self._content.get(key)
        if number is None:
            number = self._content[key] = len(self._tables)
            self._tables.append(rows)
        self.numbers[axis.key] = number
        self._held.append(axis)  # keys stay valid only while the axis lives
        return number

    def rows(self, number: int) -> Ints:
        """Return the resolved rows of an axis."""
        return self._tables[number]

    def _weight_terms(self) -> list[Part]:
        terms = []
        seen: set[str] = set()
        for use in self.analysis.weights.values():
            dtype = self.analysis.info.dtype(use.name)
            if use.name in seen or dtype is None or _is_no_weight(np.dtype(dtype)):
                continue
            seen.add(use.name)
            self.held.append(use.name)
            size = self._numbers_in_one(use)
            loose = []
            groups = use.per_group
            axes = use.axes
            if use.grouped is not None:  # [out, slots] is [out, in / groups]
                slots, into = use.grouped.axis, use.grouped.into
                axes = [into if number == slots else axis for number, axis in enumerate(use.axes)]
                size *= use.axes[slots].sizes[0] / into.sizes[0]
                groups = Balance(into, use.grouped.groups)
            for axis in axes:
                for part in axis.parts:
                    if part.is_rigid:
                        size *= part.sizes[0]
                    else:
                        loose.append(part)
            node = use.sites[0][0] if use.sites else -1
            terms.append(Part(size, loose, node, groups, use.per_group is not None))
        return terms

    def _numbers_in_one(self, use: WeightUse) -> float:
        """Return how many numbers an element of a weight holds, as its first reader sees it."""
        if not use.sites:
            return 1.0
        index, slot = use.sites[0]
        node = self.analysis.nodes[index]
        elements = prod(axis.sizes[0] for axis in use.axes)
        return per_element(node, key_of(node.domain, node.op), slot, elements)

    def _terms(self, parts: Sequence[Part], branches: Sequence[int] | None = None) -> Terms:
        numbers = [[self.axis_id(axis) for axis in part.axes] for part in parts]
        for row, part in zip(numbers, parts, strict=True):
            if part.groups is not None and not part.groups.axis.is_rigid:
                key = self.axis_id(part.groups.axis), part.groups.groups
                place = self._divided.setdefault(key, len(self._divided))
                row.append(-2 - 2 * place - part.follows)
        width = max((len(row) for row in numbers), default=0)
        none = [-1] * max(width, 1)
        table = np.array([row + none[len(row) :] for row in numbers], dtype=np.int64)
        return Terms(
            np.array([part.coefficient for part in parts], dtype=np.float64),
            table.reshape(len(parts), len(none)),
            np.array([part.node for part in parts], dtype=np.int64),
            np.full(len(parts), -1) if branches is None else np.array(branches, dtype=np.int64),
        )

    def _finish(self) -> None:
        sizes = [len(table) for table in self._tables]
        self.axes = len(sizes)
        self.row_axis: Ints = np.repeat(np.arange(self.axes), sizes)
        self.row_start: Ints = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        widths = np.array([table.shape[1] for table in self._tables], dtype=np.int64)
        row = np.repeat(np.arange(self.row_start[-1]), widths[self.row_axis])
        label = np.concatenate([table.ravel() for table in self._tables] or [np.zeros(0, dtype=np.int64)])
        row, label = row[label > 0], label[label > 0]
        pins = self.analysis.labels.pin_number(label)
        free = pins == 0
        self.units, unit = np.unique(label[free], return_inverse=True)
        shape = (len(self.units), int(self.row_start[-1]))
        self.incidence = csr_matrix((np.ones(len(unit)), (unit, row[free])), shape=shape)
        self._spread = self.incidence.T.tocsr()
        self.reasons = np.zeros(shape[1], dtype=np.int64)
        np.maximum.at(self.reasons, row, pins)
        self.unit_of = {int(label): index for index, label in enumerate(self.units)}
        for terms in (self.macs, self.params):
            terms.axes[terms.axes < -1] = self.axes - 2 - terms.axes[terms.axes < -1]
        divided = [np.arange(*self.row_start[axis : axis + 2]) for axis, _ in self._divided]
        self._in_groups = np.concatenate([*divided, np.zeros(0, dtype=np.int64)])
        counts = [groups for _, groups in self._divided]
        members = np.repeat([len(d) // n for d, n in zip(divided, counts, strict=True)], counts)
        self._group_start = np.cumsum(members) - members
        self._group_count = np.array(counts, dtype=np.int64)

    def stuck(self) -> tuple[Ints, Ints]:
        """Return for each axis how many of its positions carry no unit, and the number of a reason, [axes] each."""
        idle = np.diff(self._spread.indptr) == 0
        counts = np.bincount(self.row_axis[idle], minlength=self.axes)
        reasons = np.zeros(self.axes, dtype=np.int64)
        np.maximum.at(reasons, self.row_axis[idle], self.reasons[idle])
        return counts, reasons

    def places(self, family_of: Ints) -> list[list[tuple[int, Ints]]]:
        """Return for each axis the families on it, with the positions of each of its units there, [units, positions].

        `family_of` [units] is the family of each unit; families and units ascend.
        """
        entries = self.incidence.tocoo()
        unit, axis = entries.row, self.row_axis[entries.col]
        position, family = entries.col - self.row_start[axis], family_of[unit]
        order = np.lexsort((position, unit, family, axis))
        unit, axis, position, family = unit[order], axis[order], position[order], family[order]
        result: list[list[tuple[int, Ints]]] = [[] for _ in range(self.axes)]
        if not len(unit):
            return result
        is_edge = np.append(True, (axis[1:] != axis[:-1]) | (family[1:] != family[:-1]))
        is_unit = is_edge | np.append(True, unit[1:] != unit[:-1])
        begin = np.flatnonzero(is_edge)
        units = np.add.reduceat(is_unit, begin, dtype=np.int64)
        columns = (axis[begin], family[begin], begin, np.append(begin[1:], len(unit)), units)
        for number, of, start, stop, count in zip(*(column.tolist() for column in columns), strict=True):
            result[number].append((of, position[start:stop].reshape(count, -1)))
        return result

    def alive_rows(self, dead: Mask) -> Mask:
        """Return which rows have no dead unit; `dead` is [units]."""
        return np.asarray(self._spread @ dead.astype(np.float64) == 0)

    def alive_counts(self, alive: Mask) -> Floats:
        """Return the alive length of each axis, the inverse and the share of groups that live, 1 for "no axis"."""
        counts = np.bincount(self.row_axis, weights=alive, minlength=self.axes)
        if not self._divided:
            return np.append(counts, 1.0)
        lives = np.logical_or.reduceat(alive[self._in_groups], self._group_start)
        living = np.add.reduceat(lives, np.cumsum(self._group_count) - self._group_count, dtype=np.int64)
        share = np.maximum(living, 1) / self._group_count
        return np.concatenate([counts, np.stack([1 / share, share], axis=1).ravel(), [1.0]])

    def total(self, terms: Terms, dead: Mask) -> float:
        """Return a cost with these units removed."""
        return float(self.values(terms, self.alive_counts(self.alive_rows(dead))).sum())

    def values(self, terms: Terms, counts: Floats) -> Floats:
        """Return each term's cost for these alive counts (`alive_counts`); 0 in a branch that is not the dearest."""
        values = np.asarray(terms.coefficients * counts[terms.axes].prod(axis=1))
        branches = self.analysis.branches
        if not branches or not len(values) or int(terms.branches.max()) < 0:
            return values
        # A branch inside another comes after it in the list.
        sums = np.bincount(terms.branches + 1, weights=values, minlength=len(branches) + 1)[1:]
        rivals: dict[int, list[int]] = {}
        for number, branch in enumerate(branches):
            rivals.setdefault(branch.choice, []).append(number)
        idle = np.zeros(len(branches) + 1, dtype=bool)  # the last entry stands for "no branch"
        for numbers in sorted(rivals.values(), reverse=True):
            dearest = max(numbers, key=lambda number: sums[number])
            idle[[number for number in numbers if number != dearest]] = True
            around = branches[dearest].within
            if around >= 0:
                sums[around] += sums[dearest]
        for number, branch in enumerate(branches):
            idle[number] |= idle[branch.within]
        return np.where(idle[terms.branches], 0.0, values)

    def savings(self, terms: Terms, dead: Mask) -> Floats:
        """Return what removing each unit alone would save now, [units] (to first order, exact on distinct axes)."""
        alive = self.alive_rows(dead)
        counts = self.alive_counts(alive)
        values = self.values(terms, counts)
        weight = np.zeros(self.axes + 1)
        for column in range(terms.axes.shape[1]):
            axis = terms.axes[:, column]
            weight += np.bincount(
                np.where(axis < 0, self.axes, np.minimum(axis, self.axes)),
                weights=values / np.maximum(counts[axis], 1),
                minlength=self.axes + 1,
            )
        return np.asarray(self.incidence @ (weight[self.row_axis] * alive))

    def shares(self, dead: Mask) -> Floats:
        """Return, for each unit, the sum over weight matrices of its share of what is alive on their axes, [units].

        A layer loses about this fraction of its terms when the unit goes; a unit of a narrow layer, or of
        one that many layers read, weighs more.
        """
        alive = self.alive_rows(dead)
        counts = self.alive_counts(alive)
        weight = self._matrices / np.maximum(counts[: self.axes], 1)
        return np.asarray(self.incidence @ (weight[self.row_axis] * alive))

    def signatures(self) -> npt.NDArray[np.uint64]:
        """Return a hash per unit that is equal for units with the same memberships (axis and multiplicity)."""
        rng = np.random.default_rng(20260101)
        mark = rng.integers(1, 2**63, size=self.axes, dtype=np.uint64)
        coo = self.incidence.tocoo()
        result = np.zeros(len(self.units), dtype=np.uint64)
        np.add.at(result, coo.row, mark[self.row_axis[coo.col]])
        return result


def _is_no_weight(dtype: np.dtype[np.generic]) -> bool:
    """Tell masks, texts, indices and shapes from weights; integers of up to 16 bits are quantised ones."""
    return dtype.kind in "bO" or (dtype.kind in "iu" and dtype.itemsize > 2)
