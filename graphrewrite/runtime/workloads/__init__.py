"""Layers to measure: one form of a layer per entry, a file per family."""

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

from graphrewrite.cost.speeds import Work
from graphrewrite.ir import Model
from graphrewrite.ir.custom import declare
from graphrewrite.registry import Registry


@runtime_checkable
class Workload(Protocol):
    """A form in which a layer can be run."""

    def sizes(self) -> Iterator[Work]:
        """Yield the layers to measure; inputs and outputs are equal, so that layers can follow each other."""
        ...

    def chain(self, work: Work, layers: int, seed: int) -> Model:
        """Return a model of so many such layers in a row, each with weights of its own."""
        ...


workloads: Registry[Workload] = Registry("workload", package=__name__, of=Workload)


def declared(model: Model, op: str) -> Model:
    """Return the model with the function body of one of our operators in it."""
    declare(model, op)
    return model


__all__ = ["Work", "Workload", "declared", "workloads"]
