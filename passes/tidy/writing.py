"""Nodes in the form the model's operator set wants them."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.ir.symbols import Dim, Sym
from graphrewrite.match import Draft

# From this version on the axes of these are an input.
_AXES_INPUT_SINCE = {"Squeeze": 13, "Unsqueeze": 13, "ReduceSum": 13}
_OTHER_REDUCTIONS_SINCE = 18


def int64s(draft: Draft, values: Sequence[int], stem: str) -> gs.Constant:
    """File a vector of integers as an initializer."""
    return draft.add_constant(np.asarray(list(values), dtype=np.int64), stem)


def with_axes(
    draft: Draft,
    op_type: str,
    x: gs.Tensor,
    axes: Sequence[int],
    like: gs.Tensor,
    attrs: Mapping[str, object] | None = None,
) -> gs.Variable:
    """Make a Squeeze, Unsqueeze or reduction over the given axes."""
    if draft.opset >= _AXES_INPUT_SINCE.get(op_type, _OTHER_REDUCTIONS_SINCE):
        return draft.op(op_type, x, int64s(draft, axes, f"{like.name}_axes"), like=like, attrs=attrs)
    return draft.op(op_type, x, like=like, attrs={**(attrs or {}), "axes": list(axes)})


def reshape(draft: Draft, x: gs.Tensor, target: Sequence[int], like: gs.Tensor) -> gs.Variable:
    """Make a Reshape to a constant target (0 copies the axis, one -1 takes the rest)."""
    return draft.op("Reshape", x, int64s(draft, target, f"{like.name}_shape"), like=like)


def reshape_target(before: Sequence[Dim], after: Sequence[Dim]) -> list[int] | None:
    """Return the constant target of a Reshape between two shapes, None when there is none.

    A size that varies can be copied from the same position, and one more can be left open. Sizes of zero cannot be
    written (a zero means "copy") except by copying.
    """
    target: list[int | None] = []
    for axis, size in enumerate(after):
        copied = axis < len(before) and (before[axis] is size or before[axis] == size)
        if isinstance(size, Sym):
            target.append(0 if copied else None)
        elif size == 0:
            if not copied:
                return None
            target.append(0)
        else:
            target.append(int(size))
    open_axes = [axis for axis, size in enumerate(target) if size is None]
    if len(open_axes) > 1:
        return None
    if open_axes:
        if any(size == 0 and not isinstance(after[axis], Sym) for axis, size in enumerate(target)):
            return None
        target[open_axes[0]] = -1
    return [int(size) for size in target if size is not None]
