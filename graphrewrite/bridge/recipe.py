"""What a training run is, as a value: frozen, comparable, and the same after a trip through JSON."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast

from graphrewrite.bridge.losses import Loss
from graphrewrite.bridge.optimisers import Optimiser
from graphrewrite.bridge.schedules import Cosine, Schedule
from graphrewrite.bridge.transforms.base import WeightTransform
from graphrewrite.errors import InvalidConfig
from graphrewrite.serial import Json, from_json, parse, to_json

PRECISIONS = ("fp32", "bf16", "fp16")


@dataclass(frozen=True)
class Stage:
    """A stretch of training under one set of rules; each stage starts its optimiser anew.

    Attributes:
        epochs: how often every sample is seen.
        rate: the learning rate that the schedule scales.
        losses: what is made small: the sum of these, each with its own weight.
        schedule: the course of the rate.
        warmup: epochs in which the rate rises from 0 along a line; the schedule runs over what is left.
        transforms: name or pattern of weights and activations -> what stands between them and their readers.
        trainable: names or patterns of the weights to train; others are left alone.
        frozen: names or patterns of weights to leave alone although `trainable` fits them.
        keep_zeros: names or patterns of weights whose zeros stay exactly zero.
        undecayed: names or patterns of weights that the optimiser's decay leaves alone; what transforms learn never
            decays.
        transform_rate: what the rate is multiplied by for what transforms learn: thresholds, steps, slopes.
        norms: whether batch norms measure their batch, or use and keep the statistics they have.
    """

    epochs: int = 1
    rate: float = 0.001
    losses: tuple[Loss, ...] = ()
    schedule: Schedule = field(default_factory=Cosine)
    warmup: float = 0.0
    transforms: Mapping[str, WeightTransform] = field(default_factory=dict)
    trainable: tuple[str, ...] = ("*",)
    frozen: tuple[str, ...] = ()
    keep_zeros: tuple[str, ...] = ()
    undecayed: tuple[str, ...] = ()
    transform_rate: float = 1.0
    norms: Literal["train", "frozen"] = "train"

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise InvalidConfig(
                f"Stage.epochs is {self.epochs}; it must be 1 or more; leave the stage out instead"
            )
        if not (math.isfinite(self.rate) and self.rate > 0):
            raise InvalidConfig(f"Stage.rate is {self.rate}; it must be a positive number; try 0.001")
        if not 0 <= self.warmup <= self.epochs:
            raise InvalidConfig(
                f"Stage.warmup is {self.warmup} epochs of {self.epochs}; it must lie in between; shorten it"
            )
        if not self.losses:
            raise InvalidConfig(
                "Stage.losses is empty; there must be something to make small; "
                "name a loss of graphrewrite.passes.losses"
            )
        if not (math.isfinite(self.transform_rate) and self.transform_rate >= 0):
            raise InvalidConfig(
                f"Stage.transform_rate is {self.transform_rate}; it is a factor from 0 up; 1 is the weights' rate"
            )
        for name in ("trainable", "frozen", "keep_zeros", "undecayed"):
            _check_names(f"Stage.{name}", getattr(self, name))
        if self.norms not in ("train", "frozen"):
            raise InvalidConfig(f'Stage.norms is {self.norms!r}; it must be "train" or "frozen"; correct it')

    def rate_at(self, step: int, per_epoch: int) -> float:
        """Return the rate of a step, counted from the start of the stage."""
        rising = round(self.warmup * per_epoch)
        if step < rising:
            return self.rate * (step + 1) / (rising + 1)
        left = self.epochs * per_epoch - rising
        return self.rate * self.schedule.factor((step - rising) / left)


def _check_names(field: str, names: object) -> None:
    if isinstance(names, str):
        raise InvalidConfig(f"{field} is the text {names!r}; expected several names; write ({names!r},)")


@dataclass(frozen=True)
class EarlyStop:
    """End a stage when `patience` epochs in a row were not better than the best by more than `least`."""

    patience: int = 5
    least: float = 0.0

    def __post_init__(self) -> None:
        if self.patience < 1 or self.least < 0:
            raise InvalidConfig(
                f"EarlyStop(patience={self.patience}, least={self.least}) cannot be; expected one epoch or more and no "
                "negative gain; correct it"
            )


@dataclass(frozen=True)
class Recipe:
    """A whole training run.

    Attributes:
        stages: run one after the other, each from the weights the one before ended with.
        optimiser: makes the steps.
        batch: samples in a step, over all processes and passes together; the last of an epoch may be smaller.
        accumulate: passes a step is cut into, to save memory; batch norms measure each on its own.
        precision: "fp32", or what most operators compute in; weights stay as they are.
        clip: longest gradient, all parameters taken as one vector; what losses learn is a vector of its own.
        ema: how much of the running average of the weights is kept at a step (0.999); the average is evaluated, and
            what the run returns.
        early_stop: when to end a stage before its time; needs validation data.
        trainable: weights to train that the bridge would leave alone by itself (single numbers, for instance).
        seed: of the order of the samples and of everything drawn.
    """

    stages: tuple[Stage, ...]
    optimiser: Optimiser = field(default_factory=Optimiser)
    batch: int = 64
    accumulate: int = 1
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    clip: float | None = None
    ema: float | None = None
    early_stop: EarlyStop | None = None
    trainable: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.stages:
            raise InvalidConfig("Recipe.stages is empty; expected one stage or more; add a Stage")
        if self.batch < 1 or not 1 <= self.accumulate <= self.batch:
            raise InvalidConfig(
                f"Recipe has a batch of {self.batch} in {self.accumulate} passes; both must be 1 or more, and no pass "
                "empty; correct them"
            )
        if self.precision not in PRECISIONS:
            raise InvalidConfig(
                f"Recipe.precision is {self.precision!r}; it must be one of {', '.join(PRECISIONS)}; correct it"
            )
        if self.clip is not None and not self.clip > 0:
            raise InvalidConfig(
                f"Recipe.clip is {self.clip}; it is a length, so it must be positive; leave it out instead"
            )
        if self.ema is not None and not 0 <= self.ema < 1:
            raise InvalidConfig(
                f"Recipe.ema is {self.ema}; it must be a share from 0 to 1, such as 0.999; correct it"
            )
        _check_names("Recipe.trainable", self.trainable)
        if not 0 <= self.seed < 2**63:
            raise InvalidConfig(f"Recipe.seed is {self.seed}; it must be a number from 0 up; take another")

    def to_json(self) -> dict[str, Json]:
        """Return the recipe as JSON; losses, schedules and transforms by their registered names."""
        return cast("dict[str, Json]", to_json(self))

    @staticmethod
    def from_json(document: Json) -> "Recipe":
        """Build a recipe from what `to_json` gave.

        Raises:
            InvalidConfig: a field is unknown, missing or impossible.
            UnknownNameError: there is no loss, schedule or transform of a name.
        """
        return cast(Recipe, from_json(document, Recipe))

    @staticmethod
    def load(path: str | Path) -> "Recipe":
        """Read a recipe from a JSON file.

        Raises:
            InvalidConfig: the file cannot be read, or is no recipe.
        """
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidConfig(
                f"the recipe {str(path)!r} cannot be read ({error}); expected a JSON file; check the path"
            ) from error
        return Recipe.from_json(parse(text, f"the recipe {str(path)!r}"))
