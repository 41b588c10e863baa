"""Nodes that mix neighbours along a cut axis go on working at full width, with zeros in the removed places.

Cross-channel normalisation (LRN), a convolution across channels (efficient channel attention) and running sums look
at positions by their distance. Closing the gaps would change who is whose neighbour; keeping the axis whole would hold
every layer around it back. So the kept positions are spread out again just before the node and collected just after
it: the node costs what it did, everything else shrinks.
"""

from typing import TYPE_CHECKING

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.dims.axes import Axis

if TYPE_CHECKING:
    from graphrewrite.dims.shrink import Cut


def at_full_width(cut: "Cut", node: int, number: int, axis: Axis, rank: int) -> None:
    """Spread input 0 (of `rank` axes) out along axis `number`, and collect the kept positions from output 0."""
    kept = cut.kept(axis)
    if kept is None:
        return
    target = cut.nodes[node]
    # One zero behind the last kept position; every removed one is read from there.
    source = np.full(axis.sizes[0], len(kept), dtype=np.int64)
    source[kept] = np.arange(len(kept))
    ends = np.zeros((2, rank), dtype=np.int64)
    ends[1, number] = 1
    stem = target.name or target.op
    inputs: list[gs.Tensor] = [target.inputs[0]]
    attrs: dict[str, object] = {}
    if cut.model.opset >= 11:
        inputs.append(cut.file(f"{stem}.pads", ends.ravel(), target))
    else:
        attrs["pads" if cut.model.opset >= 2 else "paddings"] = ends.ravel().tolist()
    padded = cut.insert(node, "Pad", inputs, attrs)
    target.inputs[0] = cut.insert(
        node, "Gather", [padded, cut.file(f"{stem}.spread", source, target)], {"axis": number}
    )
    out = target.outputs[0]
    wide = gs.Variable(cut.namer.fresh(f"{out.name}.wide"), dtype=out.dtype)
    target.outputs[0] = wide
    cut.append(target, "Gather", [wide, cut.file(f"{stem}.kept", kept, target)], out, {"axis": number})
