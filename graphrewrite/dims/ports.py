"""Graph inputs and outputs whose lengths may shrink: only along axes that some layer makes or reads.

A cache has heads and dims, which the projections make, and steps, which nothing makes: a step that goes is information
that goes, not width. So a position of such an axis that no weight of a layer carries is pinned.
"""

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.dims.axes import Axis, Pair, of_rows, pin_axis, rigid
from graphrewrite.dims.labels import Ints
from graphrewrite.dims.record import Analysis, is_constant

# A weight may be dequantized, cast and turned on its way to the layer.
_STEPS = 8


def entry(analysis: Analysis, tensor: gs.Tensor, pair: Pair) -> Axis:
    """Return an axis of a graph input: what a caller feeds has its length, unless it was said that it may change."""
    a, b = pair
    if tensor.name in analysis.may_change and a == b > 1:
        return of_rows(analysis.labels.fresh(a))
    return rigid(pair, f"graph input {tensor.name}")


def leave(analysis: Analysis, tensor: gs.Tensor) -> None:
    """Pin what a graph output hands to the caller, but for lengths that may change."""
    for axis in analysis.axes_of(tensor.name):
        if tensor.name not in analysis.may_change or not axis.is_static:
            pin_axis(analysis.labels, axis, f"graph output {tensor.name}")


def pin_idle(analysis: Analysis) -> None:
    """Pin the positions of inputs and outputs that may change which no layer's weight carries; labels are settled."""
    if not analysis.may_change:
        return
    carried = np.unique(np.concatenate([np.zeros(1, np.int64), *_carried(analysis)]))
    for name in sorted(analysis.may_change):
        for axis in analysis.env.get(name) or ():
            if axis.is_static and not axis.is_rigid:
                rows = analysis.rows(axis)
                idle = ~np.isin(rows, carried)
                analysis.labels.pin(rows[idle][:, None], f"{name}: no layer makes or reads this axis")


def _carried(analysis: Analysis) -> list[Ints]:
    found = []
    for node in {term.node for term in analysis.macs}:
        for slot, tensor in enumerate(analysis.nodes[node].inputs):
            use = analysis.uses.get((node, slot))
            if use is not None:
                axes = use.axes
            elif tensor.name and _is_computed_weight(tensor, _STEPS):
                axes = analysis.env.get(tensor.name) or []
            else:
                continue
            found += [analysis.rows(axis).ravel() for axis in axes if axis.is_static and not axis.is_rigid]
    return found


def _is_computed_weight(tensor: gs.Tensor, steps: int) -> bool:
    """Whether a tensor is made from constants alone, in few steps."""
    if is_constant(tensor):
        return True
    if steps == 0 or not tensor.inputs:
        return False
    return all(_is_computed_weight(source, steps - 1) for source in tensor.inputs[0].inputs if source.name)
