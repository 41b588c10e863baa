"""Evening out the ranges of channels between two layers, so that one scale for a whole tensor fits all of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Array, Model
from graphrewrite.match import Draft, is_default_domain
from graphrewrite.passes.quant.grid import Floats
from graphrewrite.passes.quant.plan import name_of
from graphrewrite.passes.tidy.reading import integer, source
from graphrewrite.pipeline import Claim, Context, Note, Outcome, Same, passes

# What a positive factor passes through, channel by channel.
_PASSED = frozenset({"AveragePool", "GlobalAveragePool", "LeakyRelu", "MaxPool", "Relu"})
_CLOSE = 1.01  # factors nearer to 1 are not worth another turn


class _Pair(NamedTuple):
    """Two convolutions, the first read by the second only."""

    first: gs.Node
    second: gs.Node


@passes.register("equalize_channels")
@dataclass(frozen=True)
class EqualizeChannels:
    """Divide channels between two convolutions by factors that make their ranges alike on both sides.

    A filter of the first and what the second does with it keep their product: factors sqrt(first / second) of the
    largest weights of either (Nagel et al. 2019, equation 11), in turns over all pairs until they are near 1. Between
    the two stand operators only that a positive factor passes through, such as Relu and pooling; Relu6 is none.

    Args:
        turns: over all pairs at most.

    The claim is that outputs stay the same: nothing is rounded here.
    """

    turns: int = 20

    claim: ClassVar[Claim] = Same(1e-4)

    def __post_init__(self) -> None:
        if isinstance(self.turns, bool) or self.turns < 1:
            raise InvalidConfig(
                f"EqualizeChannels.turns is {self.turns!r}; expected a whole number of at least 1"
            )

    def run(self, model: Model, context: Context) -> Outcome:
        """Even out every pair there is."""
        draft = Draft(model)
        pairs = list(_pairs(draft))
        held = {id(node): Held.read(draft, node) for pair in pairs for node in pair}
        factors = {
            id(node): np.ones(len(each.weight)) for node in _nodes(pairs) for each in (held[id(node)],)
        }
        for _ in range(self.turns):
            largest = 1.0
            for pair in pairs:
                found = even_out(held[id(pair.first)], held[id(pair.second)])
                factors[id(pair.first)] *= found
                largest = max(largest, float(np.maximum(found, 1 / found).max()))
            if largest < _CLOSE:
                break
        moved = [pair for pair in pairs if np.abs(np.log(factors[id(pair.first)])).max() > np.log(_CLOSE)]
        if not moved:
            return Outcome(model, False, (Note("skipped", "the whole model", "no two layers gain by it"),))
        for node in _nodes(moved):
            held[id(node)].write(draft, node)
        draft.close()
        notes = [
            Note("done", name_of(pair.first), f"divided by {each.min():.3g} to {each.max():.3g}")
            for pair in moved
            for each in (factors[id(pair.first)],)
        ]
        return Outcome(model, True, tuple(notes))


class Held:
    """A convolution's weight [outputs, inputs of a group, ...] and bias [outputs], changed in place."""

    def __init__(self, weight: Floats, bias: Floats | None, groups: int) -> None:
        self.weight, self.bias, self.groups = weight, bias, groups

    @classmethod
    def read(cls, draft: Draft, node: gs.Node) -> "Held":
        """Copy what a convolution holds."""
        weight, bias = _constant(draft, node, 1), _constant(draft, node, 2)
        assert weight is not None
        added = None if bias is None else bias.astype(np.float64)
        return cls(weight.astype(np.float64), added, integer(node, "group", 1))

    def by_input(self) -> Floats:
        """View the weight as [groups, outputs of a group, inputs of a group, positions]."""
        return self.weight.reshape(self.groups, -1, self.weight.shape[1], self.weight[0, 0].size)

    def write(self, draft: Draft, node: gs.Node) -> None:
        """Give a convolution what is held now."""
        for slot, values in ((1, self.weight), (2, self.bias)):
            if values is not None:
                old = node.inputs[slot]
                made = draft.add_constant(values.astype(np.float32), old.name, (old, "equalized from"))
                draft.set_input(node, slot, made)


def even_out(first: Held, second: Held) -> Floats:
    """Divide the outputs of `first` by factors [channels] and multiply them in `second`; return the factors."""
    made = np.abs(first.weight).reshape(len(first.weight), -1).max(axis=1)
    read = np.abs(second.by_input()).max(axis=(1, 3)).reshape(-1)
    is_used = (made > 0) & (read > 0)
    factors = np.sqrt(np.where(is_used, made, 1.0) / np.where(is_used, read, 1.0))
    first.weight /= factors.reshape(-1, *[1] * (first.weight.ndim - 1))
    if first.bias is not None:
        first.bias /= factors
    grouped = second.by_input()
    grouped *= factors.reshape(second.groups, 1, -1, 1)
    return factors


def _pairs(draft: Draft) -> Iterator[_Pair]:
    for node in draft.nodes():
        if not _is_layer(draft, node):
            continue
        behind = draft.sole_user(node.outputs[0])
        while behind is not None and behind.op in _PASSED and is_default_domain(behind):
            behind = draft.sole_user(behind.outputs[0]) if len(behind.outputs) == 1 else None
        if behind is not None and _is_layer(draft, behind):
            yield _Pair(node, behind)


def _is_layer(draft: Draft, node: gs.Node) -> bool:
    if node.op != "Conv" or not is_default_domain(node):
        return False
    weight = _constant(draft, node, 1)
    if weight is None or weight.dtype != np.float32 or not weight.size or not np.isfinite(weight).all():
        return False
    return source(node, 2) is None or _constant(draft, node, 2) is not None


def _constant(draft: Draft, node: gs.Node, slot: int) -> Array | None:
    tensor = source(node, slot)
    return None if tensor is None else draft.constant(tensor)


def _nodes(pairs: list[_Pair]) -> list[gs.Node]:
    """Return the nodes of pairs, each once."""
    return list({id(node): node for pair in pairs for node in pair}.values())


__all__ = ["EqualizeChannels"]
