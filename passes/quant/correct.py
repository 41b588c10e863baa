"""What the rounding of a weight takes from the mean of each output, to be made up for by the bias."""

from collections.abc import Sequence

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.match.view import View
from graphrewrite.passes.quant.grid import Floats
from graphrewrite.passes.tidy.reading import text


def taken(lost: Floats, mean: Floats) -> Floats:
    """Return what a weight that lost so much [outputs, inputs of a group, ...] takes from each output, [outputs].

    `mean` [inputs] is that of what the layer reads (Nagel et al. 2019, section 4.2).
    """
    per_input = lost.reshape(*lost.shape[:2], -1).sum(axis=2)
    groups = len(mean) // per_input.shape[1]
    per_group = per_input.reshape(groups, -1, per_input.shape[1])
    return np.asarray(np.einsum("goi,gi->go", per_group, mean.reshape(groups, -1)).reshape(-1))


def seen_shares(view: View, conv: gs.Node, kernel: Sequence[int]) -> Floats:
    """Return for each kernel position the share of outputs for which it lies on the input and not on its padding.

    All ones where sizes or padding are not known.
    """
    shape = view.shape(conv.inputs[0])
    rank = len(kernel)
    if shape is None or text(conv, "auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return np.ones(tuple(kernel))
    sizes = [size if isinstance(size, int) else 0 for size in shape[2:]]
    pads = conv.attrs.get("pads", [0] * 2 * rank)
    shares: Floats = np.ones(())
    for axis, size in enumerate(sizes):
        step, apart = (conv.attrs.get(name, [1] * rank)[axis] for name in ("strides", "dilations"))
        outputs = (size + pads[axis] + pads[axis + rank] - apart * (kernel[axis] - 1) - 1) // step + 1
        places = apart * np.arange(kernel[axis])[:, None] + step * np.arange(max(outputs, 0)) - pads[axis]
        inside = (places >= 0) & (places < size)
        along_axis = inside.mean(axis=1) if size and inside.size else np.ones(kernel[axis])
        shares = np.multiply.outer(shares, along_axis)
    return shares
