"""Pruning in rounds: a little is removed, the model recovers, and again, until the budget is met."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal, cast

from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Model
from graphrewrite.passes.channels import RemoveChannels
from graphrewrite.passes.train.distill import Distill
from graphrewrite.pipeline import Claim, Context, Free, Outcome, Pass, Pipeline
from graphrewrite.pipeline.registry import passes


@passes.register("prune_loop")
@dataclass(frozen=True)
class PruneLoop:
    """Remove channels in rounds, each followed by training, which may learn from the model before all of them.

    Args:
        steps: in how many rounds.
        schedule: what stays after round k of n, of a budget f: f^(k/n) ("geometric", the same share of what is there
            goes each time) or 1 - (1 - f) k/n ("linear", the same share of the original).
        remove: how channels are chosen; its budget is that of all rounds together.
        finetune: how the model recovers after each round.

    It stands for its rounds: a pipeline runs, checks and keeps each removal and each training as a step of its own, so
    that a run with a folder continues in the round where it was interrupted. The budget of a round is a fraction of
    what the model before it has; what an earlier round removed beyond its budget stays removed.
    """

    steps: int = 3
    schedule: Literal["geometric", "linear"] = "geometric"
    remove: RemoveChannels = field(default_factory=RemoveChannels)
    finetune: Pass = field(default_factory=Distill)

    claim: ClassVar[Claim] = Free()
    asks: ClassVar[tuple[str, ...]] = ("data", "torch")

    def __post_init__(self) -> None:
        if isinstance(self.steps, bool) or self.steps < 1:
            raise InvalidConfig(f"PruneLoop.steps is {self.steps!r}; expected one round or more, such as 3")
        if self.schedule not in ("geometric", "linear"):
            raise InvalidConfig(f"PruneLoop.schedule is {self.schedule!r}; expected 'geometric' or 'linear'")
        shares = getattr(
            self.remove.budget, "shares", {}
        )  # of the original, each: no round knows what went before
        if shares or not isinstance(getattr(self.remove.budget, "fraction", None), float):
            raise InvalidConfig(
                f"PruneLoop cannot divide {type(self.remove.budget).__name__} into rounds; expected a budget with a "
                "fraction, such as MacsBelow(0.3)"
            )

    def fractions(self) -> list[float]:
        """Return what stays of the original after each round."""
        goal: float = self.remove.budget.fraction  # type: ignore[attr-defined]
        course: dict[str, Callable[[float], float]] = {
            "geometric": lambda done: cast(float, goal**done),
            "linear": lambda done: 1 - (1 - goal) * done,
        }
        return [course[self.schedule]((number + 1) / self.steps) for number in range(self.steps)]

    def parts(self) -> tuple[Pass, ...]:
        """Return the steps it stands for."""
        left = [1.0, *self.fractions()]
        made: list[Pass] = []
        for before, after in zip(left[:-1], left[1:], strict=True):
            budget = replace(self.remove.budget, fraction=after / before)  # type: ignore[type-var]
            made += [replace(self.remove, budget=budget), self.finetune]
        return tuple(made)

    def run(self, model: Model, context: Context) -> Outcome:
        """Run the steps; in a pipeline the pipeline does that itself."""
        return Pipeline(self.parts()).run(model, context)
