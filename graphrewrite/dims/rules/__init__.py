"""One short dimension rule per operator, a file per family; importing this fills the table."""

from graphrewrite.dims.rules import (
    attention,
    contrib,
    control,
    conv,
    elementwise,
    fused_attention,
    index,
    linear,
    ml,
    norm,
    packed,
    quantized,
    recurrent,
    reduce,
    sequence,
    shape,
)

__all__ = [
    "attention",
    "contrib",
    "control",
    "conv",
    "elementwise",
    "fused_attention",
    "index",
    "linear",
    "ml",
    "norm",
    "packed",
    "quantized",
    "recurrent",
    "reduce",
    "sequence",
    "shape",
]
