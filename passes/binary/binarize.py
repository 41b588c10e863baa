"""Making binary convolutions out of dense ones: where a binary net begins, before it is trained."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs

from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Model
from graphrewrite.ir.garbage import paused
from graphrewrite.match import Draft
from graphrewrite.match.view import is_default_domain
from graphrewrite.passes.binary.layers import Layer, layer_at
from graphrewrite.passes.patterns import as_tuples, matching
from graphrewrite.passes.tidy.reading import single, source
from graphrewrite.pipeline import Claim, Context, Free, Note, Outcome, passes
from graphrewrite.pipeline.base import Json

_WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM", "GRU", "RNN"})
# GreaterOrEqual came with this operator set.
_OLDEST_OPSET = 12


@passes.register("binarize")
@dataclass(frozen=True)
class BinarizeConv:
    """Give convolutions weights of +1 and -1, one size per filter, and inputs of +1 and -1.

    A filter becomes its signs times the mean of its absolute values, which is the nearest such filter (Rastegari and
    others, 2016); a weight of 0 counts as +. The input becomes + where it is at least 0; behind a rectifier the sign
    is taken before it, since all that comes out of one is +. Biases stay. Everything is written in standard operators.

    Args:
        ends: binarize the first and the last convolutions too: those that no layer with weights comes before, or after.
        least_signs: leave filters with fewer weights as they are, depthwise ones above all: so few signs say little.
        skip: patterns (`*` is any text) of convolutions or weights to leave as they are.

    What comes out computes something else, and is meant to be trained: only that it runs is promised.
    """

    ends: bool = False
    least_signs: int = 64
    skip: tuple[str, ...] = ()

    claim: ClassVar[Claim] = Free()

    def __post_init__(self) -> None:
        if isinstance(self.least_signs, bool) or self.least_signs < 1:
            raise InvalidConfig(
                f"BinarizeConv.least_signs is {self.least_signs!r}; expected a whole number of at least 1; "
                "1 leaves no convolution out"
            )
        as_tuples(self, "skip")

    @paused()
    def run(self, model: Model, context: Context) -> Outcome:
        """Binarize what is not left out."""
        if model.opset < _OLDEST_OPSET:
            why = (
                f"operator set {model.opset} compares no floats with >=; convert to {_OLDEST_OPSET} or newer"
            )
            return Outcome(model, False, (Note("skipped", "the whole model", why),))
        draft = Draft(model)
        writer = _Writer(draft)
        notes: list[Note] = []
        rows: list[Json] = []
        left = self._left_by_name(draft)
        for node in _convolutions(draft):
            reason = left.get(id(node)) or self._reason(draft, node)
            if reason is not None:
                notes.append(Note("skipped", _name(node), reason))
                continue
            rows.append(writer.write(node))
        draft.close()
        if rows:
            notes.insert(0, Note("done", "convolutions", f"{len(rows)} binarized"))
        return Outcome(model, bool(rows), tuple(notes), details={"layers": rows})

    def _left_by_name(self, draft: Draft) -> dict[int, str]:
        names: dict[str, list[gs.Node]] = {}
        for node in _convolutions(draft):
            for name in {_name(node), node.inputs[1].name}:
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


def _name(node: gs.Node) -> str:
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


@dataclass
class _Writer:
    draft: Draft
    signs: dict[int, gs.Tensor] = field(default_factory=dict)  # by the tensor they are of

    def write(self, node: gs.Node) -> Json:
        draft = self.draft
        draft.anchor = node
        weight = draft.constant(node.inputs[1])
        assert weight is not None
        like, shape = node.outputs[0], draft.shape(node.outputs[0])
        filters = weight.astype(np.float64).reshape(len(weight), -1)
        size = np.asarray(np.abs(filters).mean(axis=1), np.float32)
        stored = np.where(weight.astype(np.float32) >= 0, np.float32(1), np.float32(-1))
        origin = (node.inputs[1], "the signs of") if isinstance(node.inputs[1], gs.Constant) else None
        kernel = draft.add_constant(stored, f"{node.inputs[1].name}_signs", origin)
        bias = None if source(node, 2) is None else draft.constant(node.inputs[2])
        out = draft.op(
            "Conv", self._signs(node.inputs[0]), kernel, like=like, shape=shape, attrs=dict(node.attrs)
        )
        out = draft.op("Mul", out, self._each(size, node, "size"), like=like, shape=shape)
        if bias is not None:
            planes = self._each(np.asarray(bias, np.float32), node, "bias")
            out = draft.op("Add", out, planes, like=like, shape=shape)
        told: Json = {"name": _name(node), "filters": len(size), "signs": int(np.prod(weight.shape[1:]))}
        draft.replace(node.outputs[0], out)
        return told

    def _signs(self, tensor: gs.Tensor) -> gs.Tensor:
        x = self._before_rectifier(tensor)
        if id(x) not in self.signs:
            draft = self.draft
            zero = draft.add_constant(np.array(0, np.float32), "zero")
            reached = draft.op("GreaterOrEqual", x, zero)
            draft.describe(reached, draft.shape(x), np.dtype(np.bool_))
            plus, minus = (draft.add_constant(np.array(value, np.float32), "sign") for value in (1, -1))
            self.signs[id(x)] = draft.op("Where", reached, plus, minus, like=tensor)
        return self.signs[id(x)]

    def _before_rectifier(self, tensor: gs.Tensor) -> gs.Tensor:
        maker = self.draft.producer(tensor)
        if maker is None or not is_default_domain(maker):
            return tensor
        least = source(maker, 1)
        clips = maker.op == "Clip" and least is not None and single(self.draft, least) == 0
        rectified: gs.Tensor = maker.inputs[0] if maker.op == "Relu" or clips else tensor
        return rectified

    def _each(self, values: npt.NDArray[np.float32], node: gs.Node, what: str) -> gs.Constant:
        return self.draft.add_constant(values.reshape(-1, 1, 1), f"{_name(node)}_{what}")
