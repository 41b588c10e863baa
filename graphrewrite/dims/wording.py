"""Ties in words that someone new to the model understands."""

from collections.abc import Sequence

# How an operator brings operands together, before and after their names; the others need one axis for them.
_HOW = {
    "Add": ("adds", "position by position"),
    "Sum": ("adds", "position by position"),
    "Sub": ("subtracts", "position by position"),
    "Mul": ("multiplies", "position by position"),
    "Div": ("divides", "position by position"),
    "Max": ("takes the larger of", "position by position"),
    "Min": ("takes the smaller of", "position by position"),
    "Mean": ("averages", "position by position"),
    "Where": ("picks from", "position by position"),
    "MatMul": ("multiplies", "unit by unit"),
    "Gemm": ("multiplies", "unit by unit"),
    "Einsum": ("multiplies", "unit by unit"),
    "Concat": ("puts", "side by side along another axis"),
    "Attention": ("pairs the heads of", ""),
}
_MANY = 2


def tie_text(
    op: str,
    name: str,
    kind: str,
    sides: Sequence[Sequence[str]],
    layers: Sequence[Sequence[str]],
    own: Sequence[Sequence[bool]],
    dims: Sequence[int],
) -> str:
    """Say what node `name` does to a group, in one sentence.

    `sides` are the weight axes it brings together, `layers` the layers they belong to, `own` whether that is the node
    itself. `dims` are the lengths an axis is seen as, outermost first.
    """
    who = f"{op} {name}"
    folder = name[: name.rfind("/") + 1]
    # Beside "encoder/layer.0/self/MatMul" its neighbour "encoder/layer.0/self/query" is just "query".
    layers = [[layer.removeprefix(folder) for layer in side] for side in layers]
    seen = " x ".join(map(str, dims))
    if kind == "balances":
        return f"{who} works in {dims[0]} groups: those that stay keep equally many"
    if kind == "statistics":
        whose = f"of each of its {dims[0]} groups " if dims else ""
        return f"{who} takes statistics over all units {whose}that are left"
    if kind == "splits":
        return f"{who} sees {_names(layers[0])} as {seen}: whole rows or columns go"
    if kind == "repeats":
        return f"{who} ties positions of {_names(layers[0])} with each other"
    apart = f", seen as {seen}" if dims else ""
    mine = [
        place
        for side, marks in zip(sides, own, strict=True)
        for place, is_own in zip(side, marks, strict=True)
        if is_own
    ]
    others = [
        _names([layer for layer, is_own in zip(names, marks, strict=True) if not is_own])
        for names, marks in zip(layers, own, strict=True)
        if not all(marks)
    ]
    if not others:
        return f"{who} has one unit across its own weights {_listed(mine)}{apart}"
    if mine and len(others) == 1 and "Conv" in op and not dims:
        return f"{who} makes its channels from the same channels of {others[0]}{apart}"
    if mine:
        return f"{who} ties its own {_listed(mine)} with {_listed(others)}{apart}"
    before, after = _HOW.get(op, ("needs one axis for", ""))
    return f"{who} {before} {_listed(others)}{' ' if after else ''}{after}{apart}"


def _names(layers: Sequence[str]) -> str:
    """Return a side by its layers; a long one by its first layer and a count."""
    names = list(dict.fromkeys(layers))
    if len(names) <= _MANY:
        return " + ".join(names)
    return f"{names[0]} (+ {len(names) - 1} tied before)"


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
