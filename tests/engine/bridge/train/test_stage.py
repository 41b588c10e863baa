"""What a stage tells its transforms and losses, and which rule each of its parameters is under."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from torch import nn

from graphrewrite.bridge import Optimiser, Recipe, Stage, finetune
from graphrewrite.bridge.losses import Batch, Needs
from graphrewrite.bridge.schedules import Constant
from graphrewrite.bridge.transforms import Lowered
from graphrewrite.ir import Array, Builder, Model


def line() -> Model:
    """Return y = x w, where w is 1 and 0."""
    b = Builder(seed=0)
    y = b.op("MatMul", b.input(["N", 2], "x"), b.constant(np.array([[1], [0]], np.float32), "w"))
    return b.model(y)


@dataclass(frozen=True)
class Watching:
    """A loss that writes down what it is told of the course, and pulls the output down."""

    weight: float = 1.0
    seen: list[float] = field(default_factory=list, compare=False)

    @property
    def needs(self) -> Needs:
        """The output only."""
        return Needs()

    def __call__(self, batch: Batch) -> torch.Tensor:
        """Return the mean output."""
        self.seen.append(batch.done)
        return batch.student[batch.outputs[0]].mean()


class Factor(nn.Module):
    """Multiplies by a learned number; remembers the places in the stage it was told."""

    def __init__(self, told: list[float]) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.ones(()))
        self.told = told

    def advance(self, done: float) -> None:
        self.told.append(done)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.factor


@dataclass(frozen=True)
class Scaled:
    """A weight times a learned number."""

    tolerance: float = 1e-6
    told: list[float] = field(default_factory=list, compare=False)

    def module(self, weight: torch.Tensor | None) -> nn.Module:
        return Factor(self.told)

    def lower(self, weight: Array | None, state: Mapping[str, Array]) -> Lowered:
        assert weight is not None
        return Lowered(weight=np.multiply(weight, state["factor"]))


X = {"x": np.ones((4, 2), np.float32)}


def test_transforms_and_losses_know_how_much_of_the_stage_lies_behind() -> None:
    loss, scaled = Watching(), Scaled()
    stage = Stage(epochs=2, rate=0.1, losses=(loss,), transforms={"w": scaled})
    finetune(line(), Recipe((stage,), batch=2), X)
    assert loss.seen == scaled.told == [0.0, 0.25, 0.5, 0.75]


def test_what_transforms_learn_has_a_rate_of_its_own() -> None:
    # The gradient of every number is 1 at first: one step of plain descent shows the rates themselves.
    stage = Stage(
        rate=0.1, losses=(Watching(),), schedule=Constant(), transforms={"w": Scaled()}, transform_rate=0.5
    )
    trained = finetune(line(), Recipe((stage,), Optimiser("sgd"), batch=4), X)
    assert trained.weights["w"].ravel().tolist() == pytest.approx([0.9 * 0.95, -0.1 * 0.95])


@pytest.mark.parametrize(("undecayed", "left"), [((), 1 - 0.1 * (1 + 0.5)), (("w",), 1 - 0.1)])
def test_decay_leaves_weights_alone_that_are_named(undecayed: tuple[str, ...], left: float) -> None:
    stage = Stage(rate=0.1, losses=(Watching(),), schedule=Constant(), undecayed=undecayed)
    trained = finetune(line(), Recipe((stage,), Optimiser("sgd", {"weight_decay": 0.5}), batch=4), X)
    assert trained.weights["w"].ravel().tolist() == pytest.approx([left, -0.1])
