"""Equal counts per group: a small integer programme over units that are alike.

A balanced axis, seen as [groups, members], must keep equally many members in every group that lives (`deaths` says
which do not). Units that belong to the
same channel group and occur equally often in every row of every constraint have one *colour*: they are interchangeable,
so only how many of a colour go has to be decided. Near the wished counts, and solved exactly enough by HiGHS.
"""

from collections.abc import Callable, Sequence

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_matrix

from graphrewrite.dims.deaths import Table, dying, tables
from graphrewrite.dims.labels import Ints
from graphrewrite.dims.structure import Floats, Mask, Structure
from graphrewrite.errors import BudgetError

_GAP = 0.02
_SECONDS = 10.0


def balance_units(
    structure: Structure,
    families: Sequence[Ints],
    dead: Mask,
    order: Floats | None,
    least: Sequence[int],
    steps: Sequence[int],
    measure: Callable[[Mask], float] | None = None,
) -> Mask:
    """Return a mask near `dead` that obeys every balance of the analysis.

    Where groups could die altogether, the choice with the lower `measure` is taken, or else that nearer to `dead`.
    Of the families that a balance touches, each keeps at least `least` units, and a multiple of `steps` or everything.

    Raises:
        BudgetError: no choice obeys all constraints (keeping everything always does, so this is a time limit).
    """
    found = tables(structure)
    rows = _distinct(found)
    if not rows:
        return dead
    family_of = np.full(len(structure.units), -1, dtype=np.int64)
    for number, ids in enumerate(families):
        family_of[ids] = number
    colour_of, colours = _colours(rows, family_of)
    sizes = np.bincount(colour_of[colour_of >= 0], minlength=colours)
    wanted = np.bincount(colour_of[(colour_of >= 0) & dead], minlength=colours)
    rank = order if order is not None else np.zeros(len(dead))
    members = np.flatnonzero(colour_of >= 0)
    # Within a colour the wished ones go first, then the lowest in order.
    ordered = members[np.lexsort((rank[members], ~dead[members], colour_of[members]))]
    start = np.concatenate([[0], np.cumsum(sizes)])[:-1]
    place = np.arange(len(ordered)) - start[colour_of[ordered]]

    def chosen(lost: Mask | None) -> Mask | None:
        gone = _solve(rows, colour_of, colours, sizes, wanted, family_of, families, least, steps, lost)
        if gone is None:
            return None
        result = dead.copy()
        result[ordered] = place < gone[colour_of[ordered]]
        return result

    every = chosen(None)
    if every is None:
        raise BudgetError(
            "no choice of channels was found that keeps all groups of the grouped operators equal; "
            "ask for a budget nearer to 1, or leave those operators whole with skip"
        )
    lost = dying(found, dead)
    fewer = None if lost is None else chosen(lost)
    if fewer is None:
        return every
    value = measure or (lambda mask: float((mask != dead).sum()))
    return fewer if value(fewer) < value(every) else every


def _distinct(found: Sequence[Table]) -> list[Ints]:
    """Return the units of balances that have any, each constraint once."""
    free = [table.units for table in found if (table.units >= 0).any()]
    return list({units.shape[0].to_bytes(4, "little") + units.tobytes(): units for units in free}.values())


def _colours(tables: Sequence[Ints], family_of: Ints) -> tuple[Ints, int]:
    """Number the colours of all units that some balance mentions (-1 for the others)."""
    rng = np.random.default_rng(7)
    mark = np.zeros(len(family_of), dtype=np.uint64)
    mentioned = np.zeros(len(family_of), dtype=bool)
    for table in tables:
        rows = np.repeat(rng.integers(1, 2**63, size=len(table), dtype=np.uint64), table.shape[1])
        units = table.ravel()
        np.add.at(mark, units[units >= 0], rows[units >= 0])
        mentioned[units[units >= 0]] = True
    # All units of a mentioned family take part, so that its least count can be kept.
    families = np.unique(family_of[mentioned])
    taking_part = np.isin(family_of, families)
    keys = np.stack([family_of[taking_part].astype(np.uint64), mark[taking_part]], axis=1)
    _, inverse = np.unique(keys, axis=0, return_inverse=True)
    colour_of = np.full(len(family_of), -1, dtype=np.int64)
    colour_of[taking_part] = inverse.ravel()
    return colour_of, int(inverse.max()) + 1 if len(inverse) else 0


def _solve(
    tables: Sequence[Ints],
    colour_of: Ints,
    colours: int,
    sizes: Ints,
    wanted: Ints,
    family_of: Ints,
    families: Sequence[Ints],
    least: Sequence[int],
    steps: Sequence[int],
    lost: Mask | None,
) -> Ints | None:
    """Return how many units of each colour go, None where no way was found; all units in `lost` do.

    Variables: counts gone, kept per row of each balance, deviations, and for each family that shrinks in steps whether
    it shrinks at all and by how many whole steps.
    """
    present = [int(number) for number in np.unique(family_of[colour_of >= 0])]
    stepped = [number for number in present if steps[number] > 1]
    count = colours + len(tables) + colours + 2 * len(stepped)
    rows: list[int] = []
    columns: list[int] = []
    values: list[float] = []
    low: list[float] = []
    high: list[float] = []

    def add(entries: dict[int, float], lower: float, upper: float) -> None:
        rows.extend([len(low)] * len(entries))
        columns.extend(entries)
        values.extend(entries.values())
        low.append(lower)
        high.append(upper)

    for number, table in enumerate(tables):
        for row in table:
            if lost is not None and (row >= 0).all() and lost[row].all():
                continue
            there = np.bincount(colour_of[row[row >= 0]], minlength=colours)
            entries = {int(c): float(there[c]) / float(sizes[c]) for c in np.flatnonzero(there)}
            # A row keeps members - (what goes): `there` counts every unit of a colour equally often.
            entries[colours + number] = 1.0
            add(entries, len(row), len(row))
    for colour in range(colours):
        deviation = colours + len(tables) + colour
        add({colour: 1.0, deviation: -1.0}, -np.inf, float(wanted[colour]))
        add({colour: 1.0, deviation: 1.0}, float(wanted[colour]), np.inf)
    most = []  # whole steps that a family can lose
    for place, number in enumerate(stepped):
        units, step = len(families[number]), steps[number]
        shrinks = colours + len(tables) + colours + 2 * place
        most.append(units // step)
        gone = {int(c): 1.0 for c in np.unique(colour_of[families[number]])}
        add({**gone, shrinks: -float(units % step), shrinks + 1: -float(step)}, 0, 0)
        add({shrinks + 1: 1.0, shrinks: -float(most[-1])}, -np.inf, 0)
    for number in present:
        ids = families[number]
        members = np.unique(colour_of[ids])
        add({int(c): 1.0 for c in members}, 0, max(len(ids) - max(least[number], 1), 0))
    matrix = coo_matrix((values, (rows, columns)), shape=(len(low), count)).tocsr()
    extra = np.zeros(2 * len(stepped))
    cost = np.concatenate([np.zeros(colours + len(tables)), np.ones(colours), extra])
    ends = np.array([(1, steps_lost) for steps_lost in most]).ravel()
    upper = np.concatenate([sizes, [table.shape[1] for table in tables], np.full(colours, np.inf), ends])
    must = np.zeros(colours)
    if lost is not None:
        must[np.unique(colour_of[lost])] = 1
    lower = np.concatenate([must * sizes, np.ones(len(tables)), np.zeros(colours), extra])
    whole = np.concatenate([np.ones(colours + len(tables)), np.zeros(colours), extra + 1])
    answer = milp(
        cost,
        constraints=LinearConstraint(matrix, np.array(low), np.array(high)),
        bounds=Bounds(lower, upper),
        integrality=whole,
        options={"mip_rel_gap": _GAP, "time_limit": _SECONDS},
    )
    if answer.x is None:
        return None
    return np.asarray(np.round(answer.x[:colours]), dtype=np.int64)
