"""Whether a layer of signs is faster as one, from speeds that were measured on this machine."""

import math

from graphrewrite.cost.speeds import Speeds, Work, gain, positions
from graphrewrite.match import Draft
from graphrewrite.passes.binary.layers import Layer
from graphrewrite.passes.when import UNSIZED


def why_slower(draft: Draft, speeds: Speeds | None, layer: Layer) -> str | None:
    """Return why a layer is better left in standard operators, None where it is worth it.

    It is held against the float layer alone, though choosing signs takes time too, and counts as one that reads and
    gives floats, though bits on either side are faster.
    """
    shape = draft.shape(layer.node.outputs[0])
    if shape is None:
        return UNSIZED
    outputs, inputs, *kernel = layer.plus.shape
    if layer.kind == "conv":
        before, after, places = "Conv", "BinaryConv", positions(shape[2:])
    else:
        before, after, places = "MatMul", "BinaryMatMul", positions(shape[:-1])
    work = Work(inputs, outputs, places, math.prod(kernel))
    found = gain(speeds, (before, work), (after, work))
    return found if isinstance(found, str) else None
