"""Online distillation without a teacher: students that learn together, and a leader that learns from all of them."""

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from graphrewrite.bridge.losses import Loss
from graphrewrite.bridge.optimisers import Optimiser
from graphrewrite.bridge.reach import reached
from graphrewrite.bridge.recipe import Recipe, Stage
from graphrewrite.bridge.schedules import Schedule, Steps
from graphrewrite.bridge.statistics import part
from graphrewrite.bridge.weights import PARAMETER, roles, stored
from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Model
from graphrewrite.ir.beside import beside
from graphrewrite.passes.losses.attention_diversity import AttentionDiversity
from graphrewrite.passes.losses.cross_entropy import CrossEntropy
from graphrewrite.passes.losses.feature_fusion import FeatureFusion
from graphrewrite.passes.losses.mutual_learning import MutualLearning
from graphrewrite.passes.train.distill import before_softmax
from graphrewrite.passes.train.finetune import FineTune, changed_weights, check_graph
from graphrewrite.passes.train.stages import last_maps
from graphrewrite.pipeline import Claim, Context, Free, Note, Outcome
from graphrewrite.pipeline.base import Json
from graphrewrite.pipeline.registry import passes


@passes.register("ffsd")
@dataclass(frozen=True)
class Ffsd:
    """Train the model as the leader of students that are copies of it (Li et al. 2021, FFSD).

    The students learn from labels and from each other, a module fuses their last feature maps, and the leader learns
    from labels, from the fused scores and from the fused features, which decoders carry to its shallower maps (see the
    losses `mutual_learning`, `attention_diversity`, `feature_fusion`). Everything but the leader is thrown away: the
    same graph goes on with other numbers.

    Args:
        students: how many.
        maps: the feature maps that are compared, from the shallowest to the deepest; by default the last of each size.
        apart: how much of each student's filters is drawn anew, 0 to 1: sqrt(1 - apart^2) w + apart s n, with s the
            deviation of w. At 1 every student starts from scratch, as published; at 0 all would stay the same net.
        temperature: how much scores are softened.
        distill: weight of the leader's learning from the fused scores.
        fusion: weight of its learning from features.
        diversity: weight with which each student but the first is led to look elsewhere.
        decoding: weight of the decoders' own learning.
        ramp: epochs in which the last three weights grow.
        epochs: how often every sample is seen; published are 300.
        rate: learning rate at the start; published is 0.1 from scratch.
        schedule: the course of the rate.
        batch: samples in a step.
        optimiser: makes the steps, of the modules' too.
        validation: data to judge the leader's epochs by, as for `FineTune`.

    The claim is that of `FineTune`. Samples need class labels.
    """

    students: int = 2
    maps: tuple[str, ...] = ()
    apart: float = 0.1
    temperature: float = 2.0
    distill: float = 1.0
    fusion: float = 10.0
    diversity: float = 1e-5
    decoding: float = 1000.0
    ramp: float = 5.0
    epochs: int = 3
    rate: float = 0.01
    schedule: Schedule = field(default_factory=Steps)
    batch: int = 128
    optimiser: Optimiser = field(
        default_factory=lambda: Optimiser("sgd", {"momentum": 0.9, "nesterov": True, "weight_decay": 1e-4})
    )
    validation: str = ""

    claim: ClassVar[Claim] = Free()
    asks: ClassVar[tuple[str, ...]] = ("labels",)

    def __post_init__(self) -> None:
        if isinstance(self.students, bool) or self.students < 1:
            raise InvalidConfig(f"Ffsd.students is {self.students!r}; expected one or more, such as 2")
        if not 0 <= self.apart <= 1:
            raise InvalidConfig(
                f"Ffsd.apart is {self.apart}; it is the share that is drawn anew, from 0 to 1; correct it"
            )
        self.recipe(("maps",), "scores")  # what cannot be is said now

    def prefixes(self) -> tuple[str, ...]:
        """Return what stands before the names of each student."""
        return tuple(f"student{number + 1}/" for number in range(self.students))

    def recipe(self, maps: tuple[str, ...], scores: str) -> Recipe:
        """Return how leader and students, in one model, are trained; maps and scores are the leader's."""
        students = self.prefixes()
        ramp = self.ramp / self.epochs if self.epochs > 0 else 0.0
        losses: list[Loss] = [CrossEntropy(tensor=f"{prefix}{scores}") for prefix in ("", *students)]
        if self.students > 1:
            each = tuple(f"{prefix}{scores}" for prefix in students)
            # The mean over the others is taken there, the sum over students too.
            losses.append(MutualLearning(each, self.temperature))
            deepest = tuple(f"{prefix}{maps[-1]}" for prefix in students)
            losses.append(AttentionDiversity(deepest, ramp, self.diversity))
        losses.append(
            FeatureFusion(
                maps,
                students,
                scores,
                self.temperature,
                self.distill,
                self.fusion,
                self.diversity,
                self.decoding,
                ramp,
            )
        )
        stage = Stage(self.epochs, self.rate, tuple(losses), self.schedule)
        return Recipe((stage,), self.optimiser, self.batch)

    def run(self, model: Model, context: Context) -> Outcome:
        """Train.

        Raises:
            InvalidConfig: the model has no feature maps, or the context no data.
            InvalidData: data, labels or maps do not fit.
            UnsupportedOp: an operator has no torch form.
            Diverged: a loss is no finite number.
        """
        scores = before_softmax(model) or str(model.outputs[0].name)
        maps = self.maps or last_maps(model)
        rng = context.rng()
        parts = {"": model} | {prefix: drawn_anew(model, self.apart, rng) for prefix in self.prefixes()}
        done = FineTune(self.recipe(maps, scores), validation=self.validation).run(beside(parts), context)
        leader = taken_out(done.model, model)
        check_graph(model, leader)
        moved = changed_weights(model, leader)
        told = (
            f"{self.epochs} epochs with {self.students} students over {', '.join(maps)}; {len(moved)} weights have "
            "new numbers, nothing else has changed"
        )
        details: dict[str, Json] = {**done.details, "weights": [*moved], "maps": [*maps]}
        return Outcome(leader, bool(moved), (Note("done", "weights", told),), details=details)


def drawn_anew(model: Model, share: float, rng: np.random.Generator) -> Model:
    """Return a copy whose filters are in part drawn anew, at the deviation they have; single vectors stay."""
    copy = model.clone()
    entries = stored(copy)
    known = roles(entries, copy.opsets, reached=reached(copy.graph, copy.opsets))
    for name, entry in entries.items():
        if known[name].kind == PARAMETER and len(entry.shape) > 1:
            old = entry.array.astype(np.float64)
            new = np.sqrt(1 - share**2) * old + share * old.std() * rng.standard_normal(old.shape)
            entry.replace(new.astype(entry.dtype))
    return copy


def taken_out(whole: Model, model: Model) -> Model:
    """Return a copy of the model with the numbers of the part that has its names in a trained whole."""
    trained = stored(whole)
    copy = model.clone()
    parted = model.clone()
    if part(parted).keys() & trained.keys():
        copy = (
            parted  # statistics that were stored once with something else have got initializers of their own
        )
    for name, entry in stored(copy).items():
        entry.replace(trained[name].array.copy())
    return copy
