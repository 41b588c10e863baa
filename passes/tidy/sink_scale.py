"""A product with one number behind attention or a chain of views moves back into the weights it can be traced to."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.ir import Model
from graphrewrite.match import Draft, RuleSet, is_default_domain, refuse, rule
from graphrewrite.match.rules import Result
from graphrewrite.passes.tidy.family import tidy
from graphrewrite.passes.tidy.linear import Linear, bias_vector, read_linear, rebuild, scaled
from graphrewrite.passes.tidy.reading import single
from graphrewrite.pipeline import Claim, Context, Outcome, Same, passes

# Multiplying before or after these is the same.
_TRANSPARENT = frozenset(
    [
        "Reshape",
        "Transpose",
        "Squeeze",
        "Unsqueeze",
        "Flatten",
        "Slice",
        "Gather",
        "Expand",
        "Tile",
        "Identity",
        "Neg",
    ]
)
_LONGEST = 8


@rule("Mul", "Div", name="scale moved into weights", reach=_LONGEST)
def sink(draft: Draft, node: gs.Node) -> Result:
    """Multiply the weights of a linear node further up instead of its result."""
    for side in (0, 1):
        number = single(draft, node.inputs[1 - side])
        x = node.inputs[side]
        if number is None or not np.isfinite(number) or (node.op == "Div" and (side == 1 or number == 0.0)):
            continue
        rank, own = draft.rank(x), draft.rank(node.inputs[1 - side])
        if own != 0 and (rank is None or own is None or own > rank):
            continue
        found = _linear_above(draft, x, node)
        if found is not None:
            return _scale(draft, node, found, 1.0 / number if node.op == "Div" else number)
    return False


@dataclass(frozen=True)
class _Path:
    """Tensors from the one that is multiplied up to the output of a linear node; each has one reader."""

    tensors: tuple[gs.Tensor, ...]
    linear: Linear


def _linear_above(draft: Draft, x: gs.Tensor, user: gs.Node) -> _Path | None:
    """Search upwards, along paths that nothing else reads, for a linear node that can take the scale."""
    paths: list[tuple[tuple[gs.Tensor, ...], gs.Node]] = [((x,), user)]
    while paths:
        tensors, reader = paths.pop()
        tensor = tensors[-1]
        maker = draft.producer(tensor)
        if maker is None or len(tensors) > _LONGEST or not draft.feeds_only(tensor, reader):
            continue
        if not is_default_domain(maker) or not draft.is_alive(maker):
            continue
        linear = read_linear(draft, maker)
        if linear is not None:
            if len(tensors) > 1 and draft.use_count(linear.weight) == 1:
                return _Path(tensors, linear)
            continue
        if maker.op in _TRANSPARENT:
            paths.append(((*tensors, maker.inputs[0]), maker))
        elif maker.op == "MatMul" and maker.inputs[0] is not maker.inputs[1]:
            paths.extend(((*tensors, source), maker) for source in maker.inputs)
    return None


def _scale(draft: Draft, node: gs.Node, path: _Path, factor: float) -> Result:
    linear, x = path.linear, path.tensors[0]
    weight = scaled(draft, linear, np.full(linear.channels, factor))
    bias = None if linear.bias is None else bias_vector(draft, linear) * factor
    dtype = draft.dtype(linear.weight)
    with np.errstate(over="ignore"):
        fits = bool(np.all(np.isfinite(weight.astype(dtype))))
    if not fits:
        refuse(f"the scaled weights leave the range of {dtype}")
    if not draft.can_replace(node.outputs[0], x):
        return False
    draft.anchor = linear.last
    new = rebuild(draft, linear, linear.node.inputs[0], weight, bias, linear.output, f"scaled by {factor:g}")
    # What lies between holds other numbers now, so it must not go by its old names.
    for tensor in path.tensors[:-1]:
        draft.rename(tensor)
    reader = draft.producer(path.tensors[-2])
    assert reader is not None
    for index, tensor in enumerate(list(reader.inputs)):
        if tensor is linear.output:
            draft.set_input(reader, index, new)
    return draft.replace(node.outputs[0], x, keep_name=True)


RULES = RuleSet.of(sink)


@passes.register("sink_scale")
@dataclass(frozen=True)
class SinkScale:
    """Move products with one number back into the weights they can be traced to."""

    claim: ClassVar[Claim] = Same()

    def run(self, model: Model, context: Context) -> Outcome:
        """Move them."""
        return tidy(model, lambda: RULES)
