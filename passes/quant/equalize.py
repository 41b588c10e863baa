"""Evening out the ranges of channels between two layers, so that one scale for a whole tensor fits all of them."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Array, Model
from graphrewrite.match import Draft, is_default_domain
from graphrewrite.passes.quant.factors import PASSED
from graphrewrite.passes.quant.grid import Floats
from graphrewrite.passes.quant.insert_qdq import InsertQdq
from graphrewrite.passes.quant.plan import name_of
from graphrewrite.passes.quant.trial import Trial, nearer
from graphrewrite.passes.tidy.reading import integer, source
from graphrewrite.pipeline import Claim, Context, Note, Outcome, Same, passes

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
    the two stand operators only that a positive factor passes through, such as Relu and pooling; Relu6 is none, but
    `open_bounds` may make a Relu of it. What is in the way of others is told.

    Args:
        turns: over all pairs at most.
        step: what will round the model; with it, and samples, channels stay as they are unless `gain` is reached.
        gain: dB that the outputs of the rounded model must come nearer to those in floats.

    The claim is that outputs stay the same: nothing is rounded here.
    """

    turns: int = 20
    step: InsertQdq | None = None
    gain: float = 1.0

    claim: ClassVar[Claim] = Same(1e-4)

    def __post_init__(self) -> None:
        if isinstance(self.turns, bool) or self.turns < 1:
            raise InvalidConfig(
                f"EqualizeChannels.turns is {self.turns!r}; expected a whole number of at least 1"
            )

    def run(self, model: Model, context: Context) -> Outcome:
        """Even out every pair there is, if the rounded model is to gain by it."""
        draft = Draft(model)
        found = {name_of(node): _follow(draft, node) for node in draft.nodes() if _is_layer(draft, node)}
        pairs = [pair for pair in found.values() if isinstance(pair, _Pair)]
        left = [Note("skipped", name, why) for name, why in found.items() if isinstance(why, str)]
        held = {id(node): Held.read(draft, node) for pair in pairs for node in pair}
        factors = {
            id(node): np.ones(len(each.weight)) for node in _nodes(pairs) for each in (held[id(node)],)
        }
        for _ in range(self.turns):
            largest = 1.0
            for pair in pairs:
                more = even_out(held[id(pair.first)], held[id(pair.second)])
                factors[id(pair.first)] *= more
                largest = max(largest, float(np.maximum(more, 1 / more).max()))
            if largest < _CLOSE:
                break
        moved = [pair for pair in pairs if np.abs(np.log(factors[id(pair.first)])).max() > np.log(_CLOSE)]
        if not moved:
            return Outcome(
                model, False, (Note("skipped", "the whole model", "no two layers gain by it"), *left)
            )
        trial = None if self.step is None else Trial.of(model, self.step, context)
        alone = 0.0 if trial is None else trial.noise(model)
        for node in _nodes(moved):
            held[id(node)].write(draft, node)
        draft.close()
        if trial is not None and (gained := nearer(alone, trial.noise(model))) < self.gain:
            why = f"the outputs of the rounded model come {gained:+.1f} dB nearer by it, less than {self.gain:g}"
            return Outcome(trial.before, False, (Note("skipped", "the whole model", why), *left))
        notes = [
            Note("done", name_of(pair.first), f"divided by {each.min():.3g} to {each.max():.3g}")
            for pair in moved
            for each in (factors[id(pair.first)],)
        ]
        return Outcome(model, True, (*notes, *left))


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


def _follow(draft: Draft, first: gs.Node) -> _Pair | str:
    """Return a convolution with the one that reads it and nobody else does, or what is in the way."""
    tensor = first.outputs[0]
    while True:
        if draft.is_output(tensor):
            return "an output of the model hangs on its result"
        behind = draft.sole_user(tensor)
        if behind is None:
            readers = ", ".join(sorted({user.op for user in draft.users(tensor)})) or "nothing"
            return f"its result is read in several places: {readers}"
        if _is_layer(draft, behind) and behind.inputs[0] is tensor:
            return _Pair(first, behind)
        if behind.op not in PASSED or not is_default_domain(behind) or len(behind.outputs) > 1:
            return f"{behind.op} {name_of(behind)!r} stands behind it, which no factor passes"
        tensor = behind.outputs[0]


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
