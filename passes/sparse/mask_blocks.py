"""Making zeros: masks over the weights of a model's layers, in blocks that kernels can skip."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphrewrite.dims import Groups, groups
from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Array, Model
from graphrewrite.ir.inline import inlined
from graphrewrite.passes.patterns import as_tuples, matching
from graphrewrite.passes.sparse.layers import Layer, layers_of, unmasked
from graphrewrite.passes.sparse.learned import Learned, masked_as
from graphrewrite.passes.sparse.masks import Mask
from graphrewrite.passes.sparse.masks.one_by_n import OneByN
from graphrewrite.passes.sparse.rearrange import Orders, movable, put
from graphrewrite.passes.sparse.shares import Scope, shares
from graphrewrite.pipeline import Claim, Context, Note, Outcome, SameAs, passes
from graphrewrite.pipeline.base import Json


@passes.register("mask_blocks")
@dataclass(frozen=True)
class MaskBlocks:
    """Set the weights to zero that a pattern drops, or a mask that is learned from data.

    Args:
        mask: the pattern.
        sparsity: the share of each layer's weights (of its blocks) that goes.
        rearrange: first sort the outputs of layers by the sum of their |w|, where the channel groups let them move, so
            that strong filters share blocks; it changes no output.
        ends: mask the first and the last layer too, which hold few weights and feel it most.
        skip: patterns (`*` is any text) of weights or nodes to leave alone.
        scope: "uniform" takes the same share of every layer; "global" compares |w| over all of them, and layers of
            small weights lose more.

    Grouped and depthwise convolutions stay dense. The claim is equality with the input model whose weights, in their
    old order, are zero where the mask dropped them; a mask that is learned brings new statistics of norms, no more.
    """

    mask: Mask = OneByN()
    sparsity: float = 0.75
    rearrange: bool = True
    ends: bool = False
    skip: tuple[str, ...] = ()
    scope: Scope = "uniform"

    claim: ClassVar[Claim] = SameAs(1e-4, "the input model with the same weights zero, in their old order")

    def __post_init__(self) -> None:
        if not 0 <= self.sparsity < 1:
            raise InvalidConfig(f"MaskBlocks.sparsity is {self.sparsity}; expected a share in [0, 1)")
        if self.scope not in ("uniform", "global"):
            raise InvalidConfig(
                f"MaskBlocks.scope is {self.scope!r}; expected 'uniform' or 'global'; correct it"
            )
        as_tuples(self, "skip")

    def run(self, model: Model, context: Context) -> Outcome:
        """Rearrange, mask, and say what each layer kept.

        Raises:
            InvalidConfig: a skip pattern names nothing, or a mask that is learned lacks data.
        """
        if isinstance(self.mask, Learned):
            return self._learned(self.mask, model, context)
        found = groups(inlined(model)) if self.rearrange and self.mask.rows > 1 else None
        plain = found.analysis.model.clone() if found is not None else model
        chosen, notes = self._choose(plain)
        orders = self._orders(found, chosen, notes) if found is not None else None
        if orders is not None:
            put(plain, orders.of(plain.weights))
        share = self._shares(plain, chosen)
        told: dict[str, Json] = {}
        masked: dict[str, Array] = {}
        for layer in chosen:
            before = plain.weights[layer.weight]
            matrix = layer.matrix(before)
            kept = self.mask.keep(matrix.astype(np.float64), share[layer.weight])
            masked[layer.weight] = layer.stored(np.where(kept, matrix, 0), before)
            told[layer.name] = _told(matrix, kept)
        changed = {name: w for name, w in masked.items() if not np.array_equal(w, plain.weights[name])}
        if not changed:
            return Outcome(model, False, tuple(notes), details={"layers": told})
        put(plain, masked)
        notes.append(_counted(masked))

        def slow() -> Model:
            reference = model.clone() if found is None else found.analysis.model.clone()
            ours = {name: plain.weights[name] for name in reference.weights}
            put(reference, masked)
            if orders is not None:
                put(reference, {n: w for n, w in orders.undone(ours).items() if n in masked})
            return reference

        return Outcome(plain, True, tuple(notes), slow, {"layers": told})

    def _learned(self, mask: Learned, model: Model, context: Context) -> Outcome:
        chosen, notes = self._choose(model)
        if not chosen:
            return Outcome(model, False, tuple(notes), details={"layers": {}})
        share = self._shares(model, chosen)
        after = mask.learned(model, share, context)
        masked = {name: after.weights[name] for name in share}
        told: dict[str, Json] = {
            layer.name: _told(
                layer.matrix(model.weights[layer.weight]), layer.matrix(masked[layer.weight]) != 0
            )
            for layer in chosen
        }
        before = model.clone()
        notes.append(_counted(masked))
        return Outcome(after, True, tuple(notes), lambda: masked_as(before, after, share), {"layers": told})

    def _shares(self, model: Model, chosen: list[Layer]) -> dict[str, float]:
        weights = {layer.weight: model.weights[layer.weight].astype(np.float64) for layer in chosen}
        return shares(weights, self.sparsity, self.scope)

    def _choose(self, model: Model) -> tuple[list[Layer], list[Note]]:
        layers = list(layers_of(model))
        notes = [Note("skipped", name, why) for name, why in unmasked(model)]
        chosen = []
        for number, layer in enumerate(layers):
            names = (layer.weight, layer.name)
            if any(matching(pattern, names) for pattern in self.skip):
                notes.append(Note("skipped", layer.name, "named by a skip pattern"))
            elif not self.ends and len(layers) > 2 and number in (0, len(layers) - 1):
                notes.append(
                    Note("skipped", layer.name, "the first and the last layer stay dense (see ends)")
                )
            else:
                chosen.append(layer)
        for pattern in self.skip:
            if not matching(pattern, [name for layer in layers for name in (layer.weight, layer.name)]):
                raise InvalidConfig(
                    f"the skip pattern {pattern!r} names no layer of this model; "
                    f"its layers are {', '.join(layer.name for layer in layers[:8]) or 'none'}"
                )
        return chosen, notes

    def _orders(self, found: Groups, chosen: list[Layer], notes: list[Note]) -> Orders:
        """Return, for every group that may move and makes outputs of masked layers, the strongest units first."""
        masked = {layer.weight: layer for layer in chosen}
        weights = found.analysis.model.weights
        orders = {}
        why = movable(found)
        for number, group in enumerate(found):
            makers = [m for m in group.members if m.tensor in masked and masked[m.tensor].makes(m.axis)]
            if not makers:
                continue
            if why[number]:
                notes.append(Note("skipped", group.name, f"not rearranged: {why[number]}"))
                continue
            strength = np.zeros(group.units)
            for member in makers:
                sums = np.abs(masked[member.tensor].matrix(weights[member.tensor]).astype(np.float64)).sum(
                    axis=(1, 2)
                )
                mine = sums[member.index].sum(axis=1)
                strength += mine / (mine.mean() or 1.0)
            orders[number] = np.argsort(-strength, kind="stable")
        return Orders(found, orders)


def _counted(masked: Mapping[str, Array]) -> Note:
    dropped = sum(int(np.count_nonzero(weight == 0)) for weight in masked.values())
    total = sum(weight.size for weight in masked.values())
    return Note("done", "weights", f"{dropped:,} of {total:,} in {len(masked)} layers are zero")


def _told(matrix: Array, kept: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> dict[str, Json]:
    mass = np.abs(matrix.astype(np.float64))
    return {
        "outputs": matrix.shape[0],
        "inputs": matrix.shape[1],
        "taps": matrix.shape[2],
        "sparsity": float(1 - kept.mean()),
        "kept_mass": float(mass[kept].sum() / (mass.sum() or 1.0)),
    }


def sparsities(model: Model) -> Mapping[str, float]:
    """Return the share of zeros in the weight of every dense layer, by the layer's name."""
    return {layer.name: float(np.mean(model.weights[layer.weight] == 0)) for layer in layers_of(model)}
