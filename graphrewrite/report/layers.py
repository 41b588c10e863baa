"""The table of layers before and after: what each one was cut to, what it costs now, and why others stayed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx_graphsurgeon as gs

from graphrewrite import cost
from graphrewrite.ir import Model
from graphrewrite.ir.inline import inlined


@dataclass(frozen=True)
class Layer:
    """One node that multiplies by a weight, in graph order.

    `op` names the operator, or both where a rewrite put another in its place. `before` and `after` are the shapes of
    its weight, `after` None when the layer is gone. `channels_*` is the number of channels it makes, None where the
    operator has no single such axis. MACs are for one sample. `why` says why no channel of its output was removed; it
    is empty when some were.
    """

    name: str
    op: str
    weight: str
    before: tuple[int, ...]
    after: tuple[int, ...] | None
    channels_before: int | None
    channels_after: int | None
    macs_before: int
    macs_after: int
    params_before: int
    params_after: int
    why: str


def layers(before: Model, after: Model, pinned: Mapping[str, str]) -> tuple[Layer, ...]:
    """Pair the layers of two models by node name, or by the name of their weight where a rewrite renamed the node.

    `pinned` maps "weight[axis]" to the reason why that axis stays, as channel removal reports it: under the names of
    the model that channels were removed from. Local functions are written out first, as channel removal does.
    """
    old, new = _rows(inlined(before)), _rows(inlined(after))
    by_weight = {first_name(after, row.weight): row for row in new.values()}
    result = []
    for name, row in old.items():
        twin = new.get(name) or by_weight.get(row.weight)
        # An operator of ours packs its weight: how many channels it makes shows only in what stood there before.
        channels = row.channels if twin is None or twin.channels is None else twin.channels
        cut = twin is not None and channels != row.channels
        result.append(
            Layer(
                name=name,
                op=row.op if twin is None or twin.op == row.op else f"{row.op} -> {twin.op}",
                weight=row.weight,
                before=row.shape,
                after=twin.shape if twin else None,
                channels_before=row.channels,
                channels_after=channels if twin else 0 if row.channels is not None else None,
                macs_before=row.macs,
                macs_after=twin.macs if twin else 0,
                params_before=row.params,
                params_after=twin.params if twin else 0,
                why="" if cut or twin is None else _why((twin, row), pinned),
            )
        )
    return tuple(result)


def first_name(model: Model, weight: str) -> str:
    """Return what a weight was called before passes gave it other names."""
    seen: set[str] = set()
    while weight in model.origin and weight not in seen:
        seen.add(weight)
        weight = model.origin[weight][0]
    return weight


@dataclass(frozen=True)
class _Row:
    op: str
    weight: str
    shape: tuple[int, ...]
    axis: int | None
    channels: int | None
    macs: int
    params: int


def _rows(model: Model) -> dict[str, _Row]:
    table = cost.of(model)
    rows = {}
    for node, priced in zip(model.graph.nodes, table.nodes, strict=True):
        weight = weight_of(node)
        if weight is None or not priced.macs:
            continue
        shape = tuple(int(size) for size in weight.shape)
        axis = _channel_axis(node, weight, len(shape))
        channels = (
            None if axis is None else shape[axis] * (_groups(node) if node.op == "ConvTranspose" else 1)
        )
        rows[priced.name] = _Row(
            priced.op, weight.name, shape, axis, channels, round(priced.macs / table.batch), priced.params
        )
    return rows


def weight_of(node: gs.Node) -> gs.Tensor | None:
    """Return the largest constant a node reads: its weight."""
    found = [tensor for tensor in node.inputs if _is_constant(tensor) and tensor.shape is not None]
    return max(found, key=lambda tensor: _count(tensor), default=None)


def _is_constant(tensor: gs.Tensor) -> bool:
    return isinstance(tensor, gs.Constant) or (len(tensor.inputs) == 1 and tensor.inputs[0].op == "Constant")


def _count(tensor: gs.Tensor) -> int:
    product = 1
    for size in tensor.shape:
        product *= int(size)
    return product


def _groups(node: gs.Node) -> int:
    return int(node.attrs.get("group", 1))


def _channel_axis(node: gs.Node, weight: gs.Tensor, rank: int) -> int | None:
    """Return the axis of the weight that makes the output's channels."""
    if node.op == "Conv":
        return 0
    if node.op == "ConvTranspose":
        return 1
    second = len(node.inputs) > 1 and node.inputs[1] is weight
    if node.op == "Gemm" and second:
        return 0 if node.attrs.get("transB", 0) else 1
    if node.op == "MatMul" and rank >= 2:
        return rank - 1 if second else rank - 2
    return None


def _why(rows: Sequence[_Row], pinned: Mapping[str, str]) -> str:
    """Return why a layer makes as many channels as before; `rows` are the layer under its names now and before."""
    for row in rows:
        if row.axis is None:
            return "this operator has no single axis of channels"
        key = f"{row.weight}[{row.axis}]"
        for name, reason in pinned.items():
            if name == key or name.startswith(f"{key} "):
                return reason
    return "free to go, but the budget kept every channel"
