"""Handing layers of signs to the operators that multiply signs by signs."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from graphrewrite.custom_ops.spec import OLDEST_OPSET
from graphrewrite.ir import Model
from graphrewrite.ir.garbage import paused
from graphrewrite.match import Draft, Refusal
from graphrewrite.passes.binary.chains import (
    Step,
    Sums,
    Turn,
    all_sums,
    line,
    shift_behind,
    steps_behind,
    table,
    turn,
)
from graphrewrite.passes.binary.layers import Layer, layers_of
from graphrewrite.passes.binary.plain import make_plain
from graphrewrite.passes.binary.signs import Floats
from graphrewrite.passes.binary.worth import why_slower
from graphrewrite.passes.binary.write import Plan, write
from graphrewrite.passes.when import check_when
from graphrewrite.pipeline import Claim, Context, Note, Outcome, SameAs, passes
from graphrewrite.pipeline.base import Json
from graphrewrite.runtime.speeds import known_speeds


@passes.register("lower_binary")
@dataclass(frozen=True)
class LowerBinaryConv:
    """Turn convolutions and matrix products of signs, written in standard operators, into BinaryConv and BinaryMatMul.

    A layer is lowered where its weights are of one size per output and its input is chosen from a number and its
    negative by comparing a tensor with one threshold per channel. What stands behind it is folded in as far as it
    works on each number by itself: products, sums and batch norms into scale and bias; and where nothing but the signs
    of further binary layers reads the result, everything (RPReLU too) into one threshold per channel, and the signs
    stay packed in words from layer to layer. Both are found by running the nodes in between on every sum the layer can
    give, so integers and signs are exact.

    Args:
        zero_is_plus: lower signs by the operator Sign too, as if its value at 0 were 1 and not 0; the reference is the
            graph with its signs read that way. Without, they are lowered where no sum gives 0.
        when: "faster" lowers a layer only where measured speeds foretell a gain (see LowerBlockSparse); "always" lowers
            all, for files that are to be small or to run elsewhere.

    The claim is equality with the graph before, in which sizes and biases of sign weights stand behind their layers and
    what straight-through estimators left is taken away: (signs - v) + v, and sizes that differ by rounding.
    """

    zero_is_plus: bool = False
    when: str = "faster"

    claim: ClassVar[Claim] = SameAs(1e-5, "the layers of signs in standard operators")

    def __post_init__(self) -> None:
        check_when("LowerBinaryConv", self.when)

    @paused()
    def run(self, model: Model, context: Context) -> Outcome:
        """Lower every layer that can be and gains by it."""
        if model.opset < OLDEST_OPSET:
            why = f"operator set {model.opset} is too old for function bodies; convert to {OLDEST_OPSET} or newer"
            return Outcome(model, False, (Note("skipped", "the whole model", why),))
        original = model.clone()
        make_plain(model, self.zero_is_plus)
        reference = model.clone()
        draft = Draft(model)
        found = list(layers_of(draft))
        layers = [each for each in found if isinstance(each, Layer)]
        slower = self._slower(draft, layers)
        chosen = _Choice(draft, model, [each for each in layers if id(each) not in slower])
        for plan in chosen.plans:
            write(draft, plan)
        draft.close()
        refusals = [each for each in found if isinstance(each, Refusal)] + [
            *slower.values(),
            *chosen.refusals,
        ]
        notes = [Note("skipped", _label(each), f"not lowered: {each.reason}") for each in refusals]
        if not chosen.plans:
            return Outcome(original, False, tuple(notes))
        counts = Counter(plan.operator for plan in chosen.plans)
        text = ", ".join(f"{count} {op}" for op, count in sorted(counts.items()))
        notes.insert(0, Note("done", "binary layers", text))
        rows: list[Json] = [plan.told() for plan in chosen.plans]
        return Outcome(model, True, tuple(notes), lambda: reference, {"layers": rows})

    def _slower(self, draft: Draft, layers: Sequence[Layer]) -> dict[int, Refusal]:
        """Return, by identity, the layers that are not worth it, and why."""
        if self.when == "always":
            return {}
        speeds = known_speeds()
        why = {id(each): (why_slower(draft, speeds, each), each.node) for each in layers}
        return {key: Refusal(text, node) for key, (text, node) in why.items() if text is not None}


def _label(refusal: Refusal) -> str:
    node = refusal.node
    return "" if node is None else str(node.name or node.outputs[0].name)


@dataclass
class _Choice:
    """Decides, layer by layer in the order of the graph, what each becomes."""

    draft: Draft
    model: Model
    layers: Sequence[Layer]
    plans: list[Plan] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._shifted: set[int] = set()
        self._readers: dict[int, list[Layer]] = {}
        for layer in self.layers:
            self._readers.setdefault(id(layer.signs.x), []).append(layer)
        fed: dict[int, Plan] = {}  # by tensor: the layer that will hand over its signs as bits
        for layer in self.layers:
            source = fed.get(id(layer.signs.x))
            if source is None and layer.signs.threshold is None:
                why = "its input is made by Sign, which gives 0 at 0; allow that to count as + with zero_is_plus"
                self.refusals.append(Refusal(why, layer.node))
                continue
            plan = self._plan(layer, source)
            self.plans.append(plan)
            if plan.turn is not None:
                fed[id(plan.end)] = plan

    def _plan(self, layer: Layer, source: Plan | None) -> Plan:
        steps = list(steps_behind(self.draft, layer))
        end = steps[-1].tensor if steps else layer.node.outputs[0]
        readers = self._bit_readers(layer, end)
        sums = all_sums(layer)
        if readers:
            found = self._turn(layer, steps, sums, readers)
            if isinstance(found, Turn):
                return Plan(layer, source, end, tuple(steps), turn=found)
        affine = []
        for step in steps:
            if not step.is_affine:
                break
            affine.append(step)
        end = affine[-1].tensor if affine else layer.node.outputs[0]
        found_line = line(layer, affine, table(self.model, layer, affine, sums), sums)
        behind = shift_behind(self.draft, layer, end)
        if behind is None or id(behind[0]) in self._shifted:
            return Plan(layer, source, end, tuple(affine), line=found_line)
        shift, added = behind
        self._shifted.add(id(shift))  # a sum of two layers takes it into one of them
        moved = replace(found_line, bias=found_line.bias + added, exact=np.zeros(len(layer.scale), bool))
        return Plan(layer, source, end, tuple(affine), line=moved, shift=shift)

    def _turn(self, layer: Layer, steps: Sequence[Step], sums: Sums, readers: Sequence[Layer]) -> Turn | str:
        values = table(self.model, layer, steps, sums)
        level = readers[0].signs.threshold
        if level is None:
            if (values[_reachable(layer, sums)] == 0).any():
                return "a sum gives 0, of which Sign makes 0"
            level = np.zeros(1, np.float32)
        return turn(values, sums, level)

    def _bit_readers(self, layer: Layer, tensor: object) -> list[Layer]:
        """Return the layers that read the signs of a tensor, if nothing else reads it and all mean the same signs."""
        readers = self._readers.get(id(tensor), [])
        if not readers or any(each.kind != layer.kind for each in readers):
            return []
        between = {id(node): node for each in readers for node in each.signs.nodes}
        allowed = {**between, **{id(each.node): each.node for each in readers}}
        x = readers[0].signs.x
        for seen in (x, *(out for node in between.values() for out in node.outputs)):
            if self.draft.is_output(seen):
                return []
            users = self.draft.users(seen)
            if any(id(user) not in (between if seen is x else allowed) for user in users):
                return []
        first = readers[0].signs.threshold
        return list(readers) if all(_same(each.signs.threshold, first) for each in readers) else []


def _same(one: Floats | None, other: Floats | None) -> bool:
    if one is None or other is None:
        return one is other
    return bool(np.array_equal(np.broadcast_to(one, np.broadcast_shapes(one.shape, other.shape)), other))


def _reachable(layer: Layer, sums: Sums) -> npt.NDArray[np.bool_]:
    """Tell which sums can occur: all of K signs have the same parity, unless some hang over the edge."""
    if layer.window is not None and any(layer.window.pads):
        return np.ones(len(sums), bool)
    return np.asarray((sums - layer.most) % 2 == 0)


__all__ = ["LowerBinaryConv"]
