"""Cutting the constants: in place where all their readers agree, as private copies where they do not."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.dims.freeze import answer_from
from graphrewrite.dims.labels import Ints
from graphrewrite.dims.record import Grouped, WeightUse
from graphrewrite.dims.slots import taken
from graphrewrite.errors import ShapeError
from graphrewrite.ir import Array, constant_value
from graphrewrite.ir.edit import set_input
from graphrewrite.ir.values import let_go

if TYPE_CHECKING:
    from graphrewrite.dims.shrink import Cut

Kept: TypeAlias = dict[int, Ints]  # axis -> kept positions

# A weight of so many bytes does not stay in memory beside what was cut out of it, when it can be read from a file.
_LARGE = 16_000_000


def cut_weights(cut: "Cut") -> None:
    """Cut every weight of the analysis along its axes."""
    by_tensor: dict[str, list[tuple[WeightUse, Kept]]] = {}
    for use in cut.analysis.weights.values():
        kept = {i: k for i, axis in enumerate(use.axes) if (k := cut.kept(axis)) is not None}
        if use.grouped is not None and cut.is_cut(use.grouped.into):
            kept[use.grouped.axis] = _slots(cut, use.grouped)
        if use.per_group is not None:
            lives = cut.living(use.per_group.axis, use.per_group.groups)
            if not lives.all():
                kept[0] = np.flatnonzero(lives)
        by_tensor.setdefault(use.name, []).append((use, kept))
    replaced: set[int] = set()
    for name, uses in by_tensor.items():
        if any(kept for _, kept in uses):
            _cut_tensor(cut, name, uses, replaced)
    # A cut initializer is no longer the default of an input: the input's shape was the old one.
    cut.graph.inputs = [tensor for tensor in cut.graph.inputs if id(tensor) not in replaced]


def _cut_tensor(cut: "Cut", name: str, uses: Sequence[tuple[WeightUse, Kept]], replaced: set[int]) -> None:
    use, _ = uses[0]
    node, slot = use.sites[0]
    tensor = _site_tensor(cut, node, slot, name)
    values = constant_value(tensor)
    assert values is not None
    askers, readers = [], 0
    for n in _distinct(tensor.outputs):
        if n.op in ("Shape", "Size") and not n.domain:
            askers.append(n)  # who asks for the shape or the type only does not need the numbers
        else:
            slots = [slot for slot, t in enumerate(n.inputs) if t is tensor]
            readers += len(slots) - (n.op == "CastLike" and 1 in slots)
    sites = sum([len(u.sites) for u, _ in uses])
    held = id(tensor) in cut.returned
    variants: dict[bytes, list[tuple[WeightUse, Kept]]] = {}
    for u, kept in uses:
        key = b"|".join([i.to_bytes(2, "little") + k.tobytes() for i, k in sorted(kept.items())])
        variants.setdefault(key, []).append((u, kept))
    whole_needed = readers > sites or held or b"" in variants
    in_place = (
        None
        if whole_needed
        else key
        if len(variants) == 1
        else max(variants, key=lambda key: sum(len(u.sites) for u, _ in variants[key]))
    )
    source = cut.analysis.constants.get(name)
    for key, group in variants.items():
        kept = group[0][1]
        if not kept:
            continue
        array = values
        grouped = group[0][0].grouped
        if grouped is not None and grouped.axis in kept:
            # The rows of a dead group go below: whatever slots they keep until then.
            place = np.maximum(np.cumsum(cut.living(grouped.into, grouped.groups)) - 1, 0)
            array = taken(array, grouped, kept[grouped.axis][place])
        for axis, positions in kept.items():
            if positions.ndim == 1:
                array = array.take(positions, axis=axis)
        if key == in_place:
            for asker in askers:
                answer_from(asker, values)
            _replace(tensor, array)
            replaced.add(id(tensor))
            cut.kept_weights[name] = kept
            continue
        readers_homes = {id(cut.home(cut.nodes[node])) for u, _ in group for node, _ in u.sites}
        near = cut.nodes[group[0][0].sites[0][0]] if len(readers_homes) == 1 else None
        constant = cut.file(f"{name}.cut", array, near)
        for u, _ in group:
            for node, slot in u.sites:
                set_input(cut.nodes[node], slot, constant)
        cut.kept_weights[constant.name] = kept
        cut.copied_from[constant.name] = name
        cut.model.origin[constant.name] = (name, "cut apart from the uses that keep other positions")
    if source is not None and values.nbytes >= _LARGE:
        let_go(source)


def _slots(cut: "Cut", grouped: Grouped) -> Ints:
    """Return the kept slots of each group that lives, [groups that live, kept per group]."""
    alive = np.zeros(grouped.into.sizes[0], dtype=bool)
    alive[cut.kept(grouped.into)] = True
    lives = cut.living(grouped.into, grouped.groups)
    return np.nonzero(alive.reshape(grouped.groups, -1))[1].reshape(int(lives.sum()), -1)


def _site_tensor(cut: "Cut", node: int, slot: int, name: str) -> gs.Tensor:
    tensor = cut.nodes[node].inputs[slot]
    if tensor.name != name:
        raise ShapeError(
            f"{cut.nodes[node].name}: input {slot} is {tensor.name!r}, expected the weight {name!r}; "
            "a rule restated it twice; please report the model"
        )
    return tensor


def _replace(tensor: gs.Tensor, array: Array) -> None:
    array.flags.writeable = False
    if isinstance(tensor, gs.Constant):
        tensor.values = array
        return
    node = tensor.inputs[0]
    node.attrs.clear()
    node.attrs["value"] = gs.Constant("", array)


def _distinct(nodes: Sequence[gs.Node]) -> list[gs.Node]:
    return list({id(node): node for node in nodes}.values())
