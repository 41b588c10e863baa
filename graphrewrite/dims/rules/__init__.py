"""One short dimension rule per operator, a file per family; importing this fills the table."""

from graphrewrite.dims.rules import (
    attention,
    conv,
    elementwise,
    index,
    linear,
    norm,
    recurrent,
    reduce,
    shape,
)

__all__ = ["attention", "conv", "elementwise", "index", "linear", "norm", "recurrent", "reduce", "shape"]
