"""Labels: which positions of which axes live or die together.

A position of an axis carries a *set* of labels and is alive when all of them are. Two facts can be learnt about
labels: two of them are the same (`union`), or one stands for several (`bind`: it is alive when all of those are).
`resolve` applies everything learnt so far; nothing stored ever has to be rewritten. A label can be pinned, with a
reason: it is always alive.

Rows are int arrays [positions, labels per position], 0 filled. The three operations on rows are `unify` (two axes are
the same axis), `digits` (one axis is seen as several, see `digits.py`) and plain indexing (windows, permutations).
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from numpy import count_nonzero  # on the short arrays here five times as fast as `any` and `all`

from graphrewrite.dims.digits import interval, split
from graphrewrite.errors import ShapeError

Ints = npt.NDArray[np.int64]


class Labels:
    """All labels of one analysis: a union-find whose classes may be expanded into products and may be pinned."""

    def __init__(self) -> None:
        self._names = _counted(1024)
        self._parent: Ints = np.arange(1024, dtype=np.int64)
        self._left: Ints = np.full(1024, -1, dtype=np.int64)
        self._right: Ints = np.full(1024, -1, dtype=np.int64)
        self._pin: npt.NDArray[np.int32] = np.zeros(1024, dtype=np.int32)
        self._count = 1  # label 0 means "no label"
        self.reasons: list[str] = [""]
        self._reason_of: dict[str, int] = {}
        self._waiting: list[tuple[Ints, Ints, str]] = []
        self.epoch = 0
        self.is_closed = False

    @property
    def count(self) -> int:
        """One more than the largest label handed out."""
        return self._count

    def fresh(self, n: int) -> Ints:
        """Return rows [n, 1] of new labels, not to be written to."""
        if self.is_closed:
            raise ShapeError(
                "a label was asked for after the analysis was closed; this is a defect of a dimension rule"
            )
        start, stop = self._count, self._count + n
        if stop > len(self._parent):
            size = max(2 * len(self._parent), stop)
            self._names = _counted(size)
            for name, fill in (("_parent", self._names[:, 0]), ("_left", -1), ("_right", -1), ("_pin", 0)):
                old = getattr(self, name)
                new = np.empty(size, dtype=old.dtype)
                new[:] = fill
                new[: len(old)] = old
                setattr(self, name, new)
        self._count = stop
        return self._names[start:stop]

    def find(self, labels: Ints) -> Ints:
        """Return the representatives, shortening the paths that were walked."""
        if self._waiting:
            self._settle()
        roots = self._parent[labels]
        above = self._parent[roots]
        if not count_nonzero(above != roots):
            return roots
        while True:
            roots, above = above, self._parent[above]
            if not count_nonzero(above != roots):
                break
        self._parent[labels] = roots
        return roots

    def _flatten(self, labels: Ints) -> None:
        """Let labels point straight at their representatives; every label on the way must be among them.

        Ties learnt in one go may form a chain as long as there are ties: paths are halved, not walked.
        """
        parents = self._parent[labels]
        while True:
            above = self._parent[parents]
            if not count_nonzero(above != parents):
                return
            self._parent[labels] = parents = above

    def union(self, a: Ints, b: Ints) -> None:
        """Make the classes of `a[i]` and `b[i]` one class each; all must be unexpanded representatives."""
        differ = a != b
        if not count_nonzero(differ):
            return
        a, b = a[differ], b[differ]
        touched = np.concatenate([a, b])
        while True:
            low, high = np.minimum(a, b), np.maximum(a, b)
            self._parent[high] = low
            # A label paired with several lower ones took only one of them: its other pairs go round again.
            missed = self._parent[high] != low
            self._flatten(touched)
            if not count_nonzero(missed):
                break
            a, b = self.find(low[missed]), self.find(high[missed])
            left = a != b
            a, b = a[left], b[left]
        pins = self._pin[touched]
        if count_nonzero(pins):
            pinned = np.flatnonzero(pins)[::-1]
            roots = self.find(touched[pinned])
            free = self._pin[roots] == 0
            self._pin[roots[free]] = pins[pinned][free]
        self.epoch += 1

    def bind(self, label: int, row: Sequence[int]) -> None:
        """Let the unexpanded class `label` stand for "all of `row` alive"."""
        members = [int(item) for item in row if item]
        if len(members) == 1:
            self.union(np.array([label]), np.array(members))
            return
        while len(members) > 2:
            pair = int(self.fresh(1)[0, 0])
            self._left[pair], self._right[pair] = members.pop(), members.pop()
            members.append(pair)
        self._left[label], self._right[label] = members
        self.epoch += 1

    def reason(self, text: str) -> int:
        """Return the number of a pin reason, filing it when new."""
        number = self._reason_of.get(text)
        if number is None:
            number = self._reason_of[text] = len(self.reasons)
            self.reasons.append(text)
        return number

    def pin(self, rows: Ints, why: str | int) -> None:
        """Keep every label of these rows alive for ever; the first reason given to a class stays."""
        if self._waiting:
            self._settle()
        number = self.reason(why) if isinstance(why, str) else why
        terminals = np.unique(self.terminals(rows))
        terminals = terminals[(terminals > 0)]
        fresh = terminals[self._pin[terminals] == 0]
        if len(fresh):
            self._pin[fresh] = number
            self.epoch += 1

    def pin_number(self, labels: Ints) -> Ints:
        """Return the reason number of each unexpanded representative (0 = free)."""
        if self._waiting:
            self._settle()
        return self._pin[labels].astype(np.int64)

    def is_expanded(self, labels: Ints) -> npt.NDArray[np.bool_]:
        """Tell which classes stand for several others."""
        return self._left[self.find(labels)] >= 0

    def resolve(self, rows: Ints) -> Ints:
        """Return rows of unexpanded representatives: sorted, without repeats, as narrow as possible.

        A pinned label is dropped from a row that has a free one; a row with pinned labels only keeps one of them.
        """
        flat = self.terminals(rows)
        if flat.shape[1] == 1:
            return flat
        pinned = self._pin[flat] > 0
        if count_nonzero(pinned):
            has_free = ((flat > 0) & ~pinned).any(axis=1)
            stuck = pinned.any(axis=1) & ~has_free
            first = np.where(pinned, flat, np.iinfo(np.int64).max).min(axis=1)
            flat = np.where(pinned, 0, flat)
            flat[stuck, 0] = first[stuck]
        flat = np.sort(flat, axis=1)
        repeated = np.zeros(flat.shape, dtype=bool)
        repeated[:, 1:] = flat[:, 1:] == flat[:, :-1]
        if count_nonzero(repeated):
            flat = np.sort(np.where(repeated, 0, flat), axis=1)
        used = flat.any(axis=0)
        if not used.all():
            flat = flat[:, used] if used.any() else flat[:, -1:]
        return flat

    def columns(self, rows: Ints) -> Ints:
        """Return unexpanded representatives column by column, pinned ones as 0.

        Unlike `resolve` nothing is sorted: a column keeps its role (a head, a dim of a head) from row to row.
        """
        flat = self.terminals(rows)
        flat = np.where(self._pin[flat] > 0, 0, flat)
        if flat.shape[1] == 1:
            return flat
        keep: list[int] = []
        for column in np.flatnonzero(flat.any(axis=0)).tolist():
            if not any((flat[:, column] == flat[:, k]).all() for k in keep):
                keep.append(column)
        if len(keep) == flat.shape[1]:
            return flat
        return flat[:, keep] if keep else flat[:, :1]

    def terminals(self, rows: Ints) -> Ints:
        """Return unexpanded representatives, pinned ones too, in no particular order and with repeats."""
        flat = self.find(rows)
        while True:
            expanded = self._left[flat] >= 0
            if not count_nonzero(expanded):
                return flat
            columns = []
            hits: list[bool] = np.asarray(expanded.any(axis=0)).tolist()
            for column, is_hit in enumerate(hits):
                values = flat[:, column]
                if is_hit:
                    hit = expanded[:, column]
                    columns.append(np.where(hit, self._left[values], values))
                    columns.append(np.where(hit, self._right[values], 0))
                else:
                    columns.append(values)
            flat = self.find(np.stack(columns, axis=1))
            used = flat.any(axis=0)
            if not used.all() and used.any():
                flat = flat[:, used]

    def unify(self, x: Ints, y: Ints, why: str) -> None:
        """Make two axes of the same length one axis: position i of one lives exactly when position i of the other does.

        What cannot be expressed is pinned (`why` names the op), which is always sound.
        """
        if len(x) != len(y):
            raise ShapeError(
                f"axes of length {len(x)} and {len(y)} cannot be one axis ({why}); this is a defect of a rule"
            )
        if x.shape[1] == 1 and y.shape[1] == 1:
            if x is not y:
                self._waiting.append((x, y, why))  # most ties are of this kind: many are learnt in one go
            return
        self._unify(x, y, why)

    def _settle(self) -> None:
        """Learn the ties that wait, before anything is read."""
        waiting, self._waiting = self._waiting, []
        if len(waiting) > 1:
            both = np.concatenate([x for x, _, _ in waiting] + [y for _, y, _ in waiting])[:, 0]
            roots = self.find(both)
            # What is pinned, expanded or always alive depends on the order.
            if (
                count_nonzero(roots) == len(roots)
                and not count_nonzero(self._pin[roots])
                and not count_nonzero(self._left[roots] >= 0)
            ):
                self.union(roots[: len(roots) // 2], roots[len(roots) // 2 :])
                return
        for x, y, why in waiting:
            self._unify(x, y, why)

    def _unify(self, x: Ints, y: Ints, why: str) -> None:
        for _ in range(8):
            a, b = self.resolve(x), self.resolve(y)
            if not count_nonzero(self._unequal(a, b)):
                return
            if a.shape[1] == 1 and b.shape[1] == 1:
                self._unify_single(a[:, 0], b[:, 0], why)
                return
            self._unify_wide(a, b, self.columns(x), self.columns(y), why)
        a, b = self.resolve(x), self.resolve(y)
        differ = self._unequal(a, b)
        self.pin(a[differ], f"{why}: ties too entangled to express")
        self.pin(b[differ], f"{why}: ties too entangled to express")

    def _is_always(self, rows: Ints) -> npt.NDArray[np.bool_]:
        """Tell which resolved rows are alive whatever happens: without labels, or pinned."""
        return np.asarray(((rows > 0).sum(axis=1) <= 1) & ((rows == 0) | (self._pin[rows] > 0)).all(axis=1))

    def _unequal(self, a: Ints, b: Ints) -> npt.NDArray[np.bool_]:
        """Tell which resolved rows differ in when they are alive."""
        width = max(a.shape[1], b.shape[1])
        differ = np.asarray((_widen(a, width) != _widen(b, width)).any(axis=1))
        return differ & ~(self._is_always(a) & self._is_always(b)) if count_nonzero(differ) else differ

    def _unify_single(self, a: Ints, b: Ints, why: str) -> None:
        empty_a, empty_b = a == 0, b == 0
        if empty_a.any():
            self.pin(b[empty_a, None], f"{why}: meets positions that always stay")
        if empty_b.any():
            self.pin(a[empty_b, None], f"{why}: meets positions that always stay")
        both = ~(empty_a | empty_b)
        self.union(a[both], b[both])

    def _unify_wide(self, a: Ints, b: Ints, roles_a: Ints, roles_b: Ints, why: str) -> None:
        """Take one step towards equal rows; `a`, `b` are sorted, `roles_*` are the same rows column by column."""
        size_a, size_b = (a > 0).sum(axis=1), (b > 0).sum(axis=1)
        differ = self._unequal(a, b)
        # A pinned or empty row means always alive: so is everything it meets.
        for side, other in ((a, b), (b, a)):
            fixed = differ & self._is_always(side)
            if fixed.any():
                marks = self._pin[side[fixed].max(axis=1)]
                numbers = np.unique(marks[marks > 0])
                self.pin(
                    other[fixed],
                    int(numbers[0]) if len(numbers) else f"{why}: meets positions that always stay",
                )
                return
        single = differ & (size_a == 1) & (size_b == 1)
        if single.any():
            self.union(a[single].max(axis=1), b[single].max(axis=1))
            return
        for side, size, other in ((a, size_a, roles_b), (b, size_b, roles_a)):
            lone = np.flatnonzero(differ & (size == 1))
            if len(lone):
                self._bind_rows(side[lone].max(axis=1), other[lone])
                return
        self._align(roles_a, roles_b, why)

    def _bind_rows(self, lone: Ints, rows: Ints) -> None:
        """Let each label of `lone` stand for the row beside it."""
        keys, first, inverse = np.unique(lone, return_index=True, return_inverse=True)
        leaders = rows[first][inverse]
        if (leaders != rows).any():  # one label beside different rows: those rows are the same
            differ = (leaders != rows).any(axis=1)
            self._merge_rows(leaders[differ], rows[differ])
            return
        inside = (rows == lone[:, None]).any(axis=1)
        if inside.any():  # x := x and y says x implies y; making them one is sound and cannot loop
            self._merge_rows(np.repeat(lone[inside, None], rows.shape[1], axis=1), rows[inside])
            return
        # Binding is safe in one go only while no bound label occurs in another's row.
        clash = np.isin(rows, keys)
        if clash.any():
            row = int(np.flatnonzero(clash.any(axis=1))[0])
            self.bind(int(lone[row]), [int(v) for v in rows[row]])
            return
        self.bind_many(keys, rows[first])

    def bind_many(self, keys: Ints, rows: Ints) -> None:
        """Let each unexpanded class `keys[i]` stand for "all of `rows[i]` alive"."""
        if (rows == 0).any():
            for label, row in zip(keys, rows, strict=True):
                self.bind(int(label), [int(v) for v in row])
            return
        while rows.shape[1] > 2:
            pairs = self.fresh(len(rows))[:, 0]
            self._left[pairs], self._right[pairs] = rows[:, -1], rows[:, -2]
            rows = np.concatenate([rows[:, :-2], pairs[:, None]], axis=1)
        self._left[keys], self._right[keys] = rows[:, 0], rows[:, 1]
        self.epoch += 1

    def _merge_rows(self, a: Ints, b: Ints) -> None:
        """Union rows column by column; a gap on one side takes the row's last label."""
        width = max(a.shape[1], b.shape[1])
        a, b = _widen(a, width), _widen(b, width)
        filled_a = np.where(a == 0, a.max(axis=1, keepdims=True), a)
        filled_b = np.where(b == 0, b.max(axis=1, keepdims=True), b)
        self.union(filled_a.ravel(), filled_b.ravel())

    def _align(self, a: Ints, b: Ints, why: str) -> None:
        """Match two products digit by digit, over the common chain of their strides."""
        n = len(a)
        strides = {1, n}
        for rows in (a, b):
            for column in rows.T:
                run, period = interval(column)
                strides |= {run, period}
        chain = sorted(strides)
        if any(chain[i + 1] % chain[i] for i in range(len(chain) - 1)):
            self.pin(a, f"{why}: incommensurable splits of one axis")
            self.pin(b, f"{why}: incommensurable splits of one axis")
            return
        dims = [chain[i + 1] // chain[i] for i in range(len(chain) - 1)][::-1]
        if len(dims) < 2:
            self._merge_rows(a, b)
            return
        for x, y in zip(self.digits(a, dims, why), self.digits(b, dims, why), strict=True):
            self.unify(x, y, why)

    def digits(self, rows: Ints, dims: Sequence[int], why: str) -> list[Ints]:
        """See an axis of length prod(dims) as several axes; return rows for each (see `graphrewrite.dims.digits`)."""
        return split(self, rows, dims, why)


def _counted(size: int) -> Ints:
    """Return the rows [size, 1] of all labels: what is handed out are windows of it, which cost next to nothing."""
    rows = np.arange(size, dtype=np.int64)[:, None]
    rows.flags.writeable = False
    return rows


def _widen(rows: Ints, width: int) -> Ints:
    return np.pad(rows, ((0, 0), (width - rows.shape[1], 0))) if rows.shape[1] < width else rows
