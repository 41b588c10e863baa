"""Masks that are learned from data, and how a model under one is held to what it was made from."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from graphrewrite.bridge.statistics import part
from graphrewrite.bridge.weights import STATISTICS, Stored, readers, stored
from graphrewrite.ir import Model
from graphrewrite.passes.sparse.masks import Mask
from graphrewrite.passes.sparse.train import LearnFrom
from graphrewrite.pipeline import Context


@runtime_checkable
class Learned(Mask, Protocol):
    """A mask that looks at what the model does; `keep` is where it starts."""

    def taught_by(self, learn_from: LearnFrom) -> "Learned":
        """Return the same mask that learns from labels, targets, or a teacher."""
        ...

    def learned(self, model: Model, shares: Mapping[str, float], context: Context) -> Model:
        """Return a copy in which the share of each of these weights is zero, and nothing else has changed.

        Norms may have measured their statistics anew under the mask.

        Raises:
            InvalidConfig: the context lacks what it learns from.
        """
        ...


def masked_as(model: Model, after: Model, names: Mapping[str, float]) -> Model:
    """Return `model` with zeros where `after` has them in the weights of these names, and with its norms' statistics.

    The slow reference of a learned mask: survivors are the numbers of `model`, not those of `after`.
    """
    copy, theirs = model.clone(), stored(after)
    if theirs.keys() - stored(copy).keys():
        part(copy)  # statistics that were stored once with something else
    for name, entry in stored(copy).items():
        if name in names:
            entry.replace(entry.array * (theirs[name].array != 0))
        elif name in theirs and _is_statistic(entry):
            entry.replace(theirs[name].array.copy())
    return copy


def _is_statistic(entry: Stored) -> bool:
    reads = [slot in STATISTICS.get(node.op, ()) for node, slot, _ in readers(entry.tensor)]
    return bool(reads) and all(reads)
