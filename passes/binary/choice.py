"""Which convolutions become binary, and where the signs of what they read are taken."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Model
from graphrewrite.match import Draft
from graphrewrite.match.view import is_default_domain
from graphrewrite.passes.binary.layers import Layer, layer_at
from graphrewrite.passes.patterns import as_tuples, matching
from graphrewrite.passes.tidy.reading import single, source
from graphrewrite.pipeline import Note

# GreaterOrEqual came with this operator set.
OLDEST_OPSET = 12
_WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM", "GRU", "RNN"})


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which convolutions become binary; passes that make them so have these fields.

    Args:
        ends: the first and the last ones too: those that no layer with weights comes before, or after.
        least_signs: leave filters with fewer weights as they are, depthwise ones above all: so few signs say little.
        skip: patterns (`*` is any text) of convolutions or weights to leave as they are.
    """

    ends: bool = False
    least_signs: int = 64
    skip: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        as_tuples(self, "skip")
        if isinstance(self.least_signs, bool) or self.least_signs < 1:
            raise InvalidConfig(
                f"{type(self).__name__}.least_signs is {self.least_signs!r}; expected a whole number of at least 1; "
                "1 leaves no convolution out"
            )

    def chosen(self, draft: Draft) -> tuple[list[gs.Node], list[Note]]:
        """Return the convolutions to change, and why others stay.

        Raises:
            InvalidConfig: a pattern names nothing.
        """
        left = self._left_by_name(draft)
        found: list[gs.Node] = []
        notes: list[Note] = []
        for node in _convolutions(draft):
            reason = left.get(id(node)) or self._reason(draft, node)
            if reason is None:
                found.append(node)
            else:
                notes.append(Note("skipped", label(node), reason))
        if not found and not notes:
            notes.append(
                Note("skipped", "the whole model", "it has no convolution, and only these become binary")
            )
        return found, notes

    def _left_by_name(self, draft: Draft) -> dict[int, str]:
        names: dict[str, list[gs.Node]] = {}
        for node in _convolutions(draft):
            for name in {label(node), node.inputs[1].name}:
                names.setdefault(name, []).append(node)
        left: dict[int, str] = {}
        for pattern in self.skip:
            found = matching(pattern, names)
            if not found:
                raise InvalidConfig(
                    f"the skip pattern {pattern!r} names no convolution and no weight of one; "
                    "see the names with: inspect --layers"
                )
            named = (node for name in found for node in names[name])
            left.update((id(node), f"named by the skip pattern {pattern!r}") for node in named)
        return left

    def _reason(self, draft: Draft, node: gs.Node) -> str | None:
        """Return why a convolution stays as it is."""
        weight = draft.constant(node.inputs[1])
        if weight is None or weight.dtype != np.float32 or weight.size == 0:
            return "its weight is no constant of float32"
        if source(node, 2) is not None and draft.constant(node.inputs[2]) is None:
            return "its bias is no constant"
        if weight.ndim != 4:
            return "it is no convolution of pictures"
        if draft.dtype(node.inputs[0]) not in (None, np.dtype(np.float32)):
            return "its input is not float32"
        if isinstance(layer_at(draft, node), Layer):
            return "it is binary already"
        if not np.isfinite(weight).all():
            return "its weight is not finite"
        signs = int(np.prod(weight.shape[1:]))
        if signs < self.least_signs:
            return f"a filter has {signs} weights, fewer than {self.least_signs}"
        if not self.ends:
            for reached, end in ((_before, "first"), (_behind, "last")):
                if not any(each.op in _WEIGHTED for each in reached(draft, node)):
                    return f"it is the {end} layer"
        return None


def _convolutions(draft: Draft) -> list[gs.Node]:
    return [node for node in draft.nodes() if node.op == "Conv" and is_default_domain(node)]


def too_old(model: Model) -> Note:
    """Return the note of a model that cannot say where signs change."""
    why = f"operator set {model.opset} compares no floats with >=; convert to {OLDEST_OPSET} or newer"
    return Note("skipped", "the whole model", why)


def label(node: gs.Node) -> str:
    """Return what reports call a convolution."""
    return str(node.name or node.outputs[0].name)


def _before(draft: Draft, node: gs.Node) -> Iterator[gs.Node]:
    """Yield the nodes whose results a node works on, its weight left aside."""
    return _walk([node.inputs[0]], lambda tensor: list(tensor.inputs), lambda each: list(each.inputs))


def _behind(draft: Draft, node: gs.Node) -> Iterator[gs.Node]:
    """Yield the nodes that work on a node's results."""
    return _walk(list(node.outputs), draft.users, lambda each: list(each.outputs))


def _walk(
    tensors: list[gs.Tensor],
    nodes_at: Callable[[gs.Tensor], list[gs.Node]],
    tensors_at: Callable[[gs.Node], list[gs.Tensor]],
) -> Iterator[gs.Node]:
    seen: set[int] = set()
    stack = list(tensors)
    while stack:
        for node in nodes_at(stack.pop()):
            if id(node) not in seen:
                seen.add(id(node))
                yield node
                stack.extend(tensors_at(node))


def before_rectifier(draft: Draft, tensor: gs.Tensor) -> gs.Tensor:
    """Return what a rectifier that makes a tensor reads, or the tensor: all that comes out of one is +."""
    maker = rectifier_of(draft, tensor)
    return tensor if maker is None else maker.inputs[0]


def rectifier_of(draft: Draft, tensor: gs.Tensor) -> gs.Node | None:
    """Return the node that makes a tensor by leaving out what is below 0, if one does."""
    maker = draft.producer(tensor)
    if maker is None or not is_default_domain(maker):
        return None
    least = source(maker, 1)
    clips = maker.op == "Clip" and least is not None and single(draft, least) == 0
    return maker if maker.op == "Relu" or clips else None
