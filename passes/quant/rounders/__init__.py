"""Which of the two codes next to a weight it gets: one rounder per file, found by name."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

from graphrewrite.data import DataSource
from graphrewrite.ir import Model
from graphrewrite.passes.quant.write import Plan
from graphrewrite.pipeline import Context
from graphrewrite.registry import Registry


class Task(NamedTuple):
    """What a rounder has to work on.

    `model` is in floats, as calibrated; `plan` has every weight at its nearest code and biases corrected where asked;
    `simulated` writes a plan out in floats, on a copy; `batch` is how many samples run together.
    `corrects_bias` says whether biases may make up for what rounding takes.
    """

    model: Model
    plan: Plan
    simulated: Callable[[Plan], Model]
    data: DataSource
    context: Context
    batch: int
    corrects_bias: bool


class Rounder(Protocol):
    """Chooses codes of weights; scales, and what is rounded at all, are settled before."""

    def round(self, task: Task) -> Plan:
        """Return the plan with other codes for its weights and biases, in the same steps."""
        ...


rounders: Registry[Rounder] = Registry("rounder", package=__name__, of=Rounder)

__all__ = ["Rounder", "Task", "rounders"]
