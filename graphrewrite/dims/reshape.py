"""Row-major reshapes of axes: factors are moved, split and merged; what cannot be followed is pinned."""

from collections.abc import Sequence

from graphrewrite.dims.axes import (
    ONE,
    UNKNOWN,
    Axis,
    Pair,
    Rigid,
    cut_factors,
    merge_digits,
    of_rows,
    pin_axis,
    rigid,
    rows_of,
)
from graphrewrite.dims.labels import Labels


def reshape(labels: Labels, axes: Sequence[Axis], target: Sequence[Pair], why: str) -> list[Axis]:
    """Return the axes of a row-major reshape; what cannot be followed is pinned.

    Axes are cut into the smallest groups of equal product in both worlds; inside a group factors are moved, split or
    merged.
    """
    if any(p == UNKNOWN or 0 in p for p in (*(a.sizes for a in axes), *target)):
        return _give_up(labels, axes, target, f"{why}: reshape of sizes that are not known")
    result: list[Axis] = [ONE] * len(target)
    sources = [axis for axis in axes if axis.sizes != (1, 1)]
    wanted = [index for index, pair in enumerate(target) if pair != (1, 1)]
    i = j = 0
    while i < len(sources) and j < len(wanted):
        group, outs = [sources[i]], [wanted[j]]
        have, need = sources[i].sizes, target[wanted[j]]
        i, j = i + 1, j + 1
        while have != need:
            if (have[0] < need[0] or (have[0] == need[0] and have[1] < need[1])) and i < len(sources):
                group.append(sources[i])
                have = (have[0] * sources[i].sizes[0], have[1] * sources[i].sizes[1])
                i += 1
            elif j < len(wanted):
                outs.append(wanted[j])
                need = (need[0] * target[wanted[j]][0], need[1] * target[wanted[j]][1])
                j += 1
            elif i < len(sources):
                group.append(sources[i])
                have = (have[0] * sources[i].sizes[0], have[1] * sources[i].sizes[1])
                i += 1
            else:
                return _give_up(
                    labels, axes, target, f"{why}: the sizes before and after do not multiply to the same"
                )
        for index, axis in zip(outs, _regroup(labels, group, [target[o] for o in outs], why), strict=True):
            result[index] = axis
    if i < len(sources) or j < len(wanted):
        return _give_up(
            labels, axes, target, f"{why}: the sizes before and after do not multiply to the same"
        )
    return result


def _regroup(labels: Labels, group: Sequence[Axis], sizes: Sequence[Pair], why: str) -> list[Axis]:
    if len(group) == 1 and len(sizes) == 1:
        return [group[0]]
    factors = [factor for axis in group for factor in axis.factors]
    cut = cut_factors(factors, sizes)
    if cut is not None:
        return [Axis(merge_digits(part)) for part in cut]
    if all(a == b for a, b in sizes) and all(f.sizes[0] == f.sizes[1] for f in factors):
        if all(isinstance(f, Rigid) for f in factors):
            return [rigid(pair, Axis(tuple(factors)).cause) for pair in sizes]
        rows = rows_of(labels, Axis(tuple(factors)), why)
        return [of_rows(part) for part in labels.digits(rows, [a for a, _ in sizes], why)]
    return _give_up(labels, group, sizes, f"{why}: a dynamic axis is split across a cut")


def _give_up(labels: Labels, axes: Sequence[Axis], target: Sequence[Pair], why: str) -> list[Axis]:
    for axis in axes:
        pin_axis(labels, axis, why)
    return [rigid(pair, why) for pair in target]
