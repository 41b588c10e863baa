"""References where groups keep different members: masks over groups and members at once."""

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs

from graphrewrite.dims.record import Members, Mix, pairs
from graphrewrite.dims.reference_norms import BY_MASK

if TYPE_CHECKING:
    from graphrewrite.dims.reference import Reference

Mask = npt.NDArray[np.bool_]


def restrict_members(build: "Reference", mix: Mix, members: Members, value: float) -> None:
    """Mask the members that go where those of one group mix; `value` takes their place."""
    kept = build.alive(members.axis)
    if kept.all():
        return
    node = build.nodes[mix.node]
    keep = _mask(build, node, mix, members, kept)
    # Of every group that lives: they keep equally many. What others compute is garbage that nobody reads.
    ratio = len(kept) * _living(kept, members.groups) / int(kept.sum())
    if mix.kind in BY_MASK:
        BY_MASK[mix.kind](build, node, keep, ratio)
        return
    build.fill(node, mix.slot, keep, value)
    if mix.kind == "mean":
        build.scale_output(node, ratio)


def _living(kept: Mask, groups: int) -> float:
    """Return the share of groups that keep something."""
    return float(kept.reshape(groups, -1).any(axis=1).mean())


def _mask(build: "Reference", node: gs.Node, mix: Mix, members: Members, kept: Mask) -> gs.Tensor:
    """Return the kept positions as a boolean tensor that broadcasts over the input."""
    sizes = pairs(build.analysis.info, build.original(node, mix.slot).name)
    assert sizes is not None
    rank, length, (whole, elsewhere) = len(sizes), sizes[members.outer][0], sizes[members.inner]
    table = np.repeat(kept.reshape(members.groups, -1), length // members.groups, axis=0)
    table = np.tile(table, (1, members.lead))
    shape = [1] * rank
    shape[members.outer] = length
    if whole == elsewhere:
        table = np.repeat(table, whole // table.shape[1], axis=1)
        shape[members.inner] = whole
        return build.const((table if members.outer < members.inner else table.T).reshape(shape))
    # How often a member is repeated is known only when the model runs.
    shape[members.inner] = table.shape[1]
    narrow = (table if members.outer < members.inner else table.T).reshape(shape)
    times = build.emit(
        node,
        "Div",
        build.emit(
            node,
            "Gather",
            build.emit(node, "Shape", node.inputs[mix.slot]),
            _number(build, members.inner),
            axis=0,
        ),
        _number(build, table.shape[1]),
    )
    before = build.const(np.ones(members.inner + 1, dtype=np.int64))
    after = (
        [build.const(np.ones(rank - members.inner - 1, dtype=np.int64))] if members.inner < rank - 1 else []
    )
    wide = build.emit(
        node,
        "Expand",
        build.const(np.expand_dims(narrow, members.inner + 1)),
        build.emit(node, "Concat", before, times, *after, axis=0),
    )
    shape[members.inner] = -1
    return build.emit(node, "Reshape", wide, build.const(np.asarray(shape, dtype=np.int64)))


def _number(build: "Reference", value: int) -> gs.Tensor:
    return build.const(np.asarray([value], dtype=np.int64))
