"""One stage of a run: the module, its optimiser, and what a step does."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from graphrewrite.bridge.losses import Batch, Loss
from graphrewrite.bridge.module import GraphModule
from graphrewrite.bridge.numbers import tensor_of
from graphrewrite.bridge.optimisers import Group
from graphrewrite.bridge.precision import widen
from graphrewrite.bridge.recipe import Recipe, Stage
from graphrewrite.bridge.taps import tapped
from graphrewrite.bridge.train.ema import Average, copy_into
from graphrewrite.bridge.train.fault import Fault, find_fault
from graphrewrite.bridge.train.feeder import Fed, Feeder
from graphrewrite.bridge.train.learned import Learned
from graphrewrite.bridge.train.samples import Taken
from graphrewrite.bridge.train.teaching import Teacher, teacher_for
from graphrewrite.bridge.transforms.attaching import PREFIX, advance, attach, attached, matching
from graphrewrite.bridge.transforms.base import WeightTransform
from graphrewrite.bridge.transforms.mask import Mask
from graphrewrite.bridge.weights import STATISTICS
from graphrewrite.data.stats import fixed_batch
from graphrewrite.errors import InvalidConfig, InvalidData, UnknownNameError
from graphrewrite.ir import Model

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(frozen=True)
class Setting:
    """What stays the same from stage to stage."""

    model: Model
    recipe: Recipe
    accelerator: "Accelerator"
    feeder: Feeder
    teacher: Model | None


@dataclass(frozen=True)
class Losses:
    """The losses of a batch: their weighted sum, and each without its weight, by name."""

    total: torch.Tensor
    each: Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Carried:
    """What one stage hands to the next.

    Attributes:
        state: weights, statistics, and the transforms' own.
        transforms: place -> transform, of those that were attached; None when all that fits is to be taken up.
        rows: how many epochs are in the log.
        learned: what its losses learned themselves.
    """

    state: Mapping[str, torch.Tensor]
    transforms: Mapping[str, WeightTransform] | None
    rows: int = 0
    learned: Learned | None = None

    def for_places(self, places: Mapping[str, WeightTransform]) -> dict[str, torch.Tensor]:
        """Return the state of those transforms that go on as they are; others start anew."""
        kept = [
            place
            for place, transform in places.items()
            if self.transforms is None or self.transforms.get(place) == transform
        ]
        return {
            name: tensor
            for name, tensor in self.state.items()
            if any(name.startswith(f"{place}.") for place in kept)
        }


class StageRun:
    """A stage while it runs.

    Attributes:
        module: the graph; its parameters are those that are trained.
        net: the same with taps, as Accelerate wrapped it.
        average: of the weights, when the recipe asks for one.
        learned: what the stage's losses learn themselves.
    """

    def __init__(self, setting: Setting, stage: Stage, number: int, carried: Carried) -> None:
        self.setting = setting
        self.stage = stage
        self.number = number
        _check(setting, stage)
        accelerator = setting.accelerator
        self.module = GraphModule(setting.model, trainable=setting.recipe.trainable)
        widen(self.module)
        copy_into(self.module.state_dict(keep_vars=True), carried.state)
        _keep_zeros(self.module, stage)
        attach(self.module, stage.transforms)
        copy_into(self.module.state_dict(keep_vars=True), carried.for_places(self.places))
        self.module.to(accelerator.device)
        groups = _chosen(self.module, stage)
        self.teacher: Teacher | None = teacher_for(
            setting.teacher, setting.model, stage.losses, accelerator.device
        )
        taps = [name for loss in stage.losses for name in loss.needs.student]
        self._tapped = tapped(self.module, taps)
        self._read = _read(self.module, stage)
        optimiser = setting.recipe.optimiser.make(groups, stage.rate)
        self.net: nn.Module = self._tapped
        self.learned = Learned(stage.losses, self._first, setting.recipe.seed, carried.learned)
        self.net, self.optimiser = accelerator.prepare(self._tapped, optimiser)
        for group in self.learned.groups(stage.rate):
            self.optimiser.add_param_group(group)
        self.average = Average(self.live, setting.recipe.ema) if setting.recipe.ema is not None else None

    @property
    def live(self) -> dict[str, torch.Tensor]:
        """Parameters and statistics by name, as they are in this process; writing into them is what counts."""
        # Of the wrapped module, not of the one in it: FSDP puts spread weights back into place when it is asked.
        state = self._tapped.state_dict(keep_vars=True)
        return {name.removeprefix("body."): tensor for name, tensor in state.items()}

    @property
    def places(self) -> dict[str, WeightTransform]:
        """The transforms by the place their state lies under."""
        return {place: standing.transform for place, standing in attached(self.module)}

    @property
    def is_sharded(self) -> bool:
        """Whether this process holds a part of the weights only."""
        return bool(self.setting.accelerator.is_fsdp2)

    def train(self) -> None:
        """Enter training mode; batch norms stay as they are where the stage says so."""
        self.net.train()
        self.learned.nets.train()
        if self.stage.norms == "frozen":
            for node in self._tapped.body.graph.nodes:
                if (
                    node.op == "call_module"
                    and str(node.target).split(".")[-1].rsplit("_", 1)[0] in STATISTICS
                ):
                    self._tapped.body.get_submodule(str(node.target)).eval()

    def eval(self) -> None:
        """Enter evaluation mode."""
        self.net.eval()
        self.learned.nets.eval()

    def step(self, epoch: int, step: int, parts: Fed) -> dict[str, float]:
        """Take the optimiser's step number `step` of an epoch of this stage; return the losses of its samples.

        Raises:
            Diverged: a loss is no finite number.
            InvalidConfig: no gradient reaches a weight.
        """
        accelerator, setting = self.setting.accelerator, self.setting
        steps = setting.feeder.order.steps
        rate = self.stage.rate_at(epoch * steps + step, steps)
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["factor"]
        done = (epoch * steps + step) / (self.stage.epochs * steps)
        advance(self.module, done)
        self.optimiser.zero_grad()
        sums: dict[str, float] = {}
        for number, (part, taken) in enumerate(parts):
            waits = number + 1 < len(parts)
            with accelerator.no_sync(self.net) if waits else nullcontext():
                generator = torch.get_rng_state()
                found = self.losses_of(self.batch(taken, done))
                if not bool(torch.isfinite(found.total)):
                    torch.set_rng_state(generator)
                    raise self.fault(taken, found).error(self.number, epoch, step)
                if not found.total.requires_grad:
                    raise InvalidConfig(
                        f"no gradient leads from {', '.join(found.each)} to a trained weight; expected a loss of a "
                        "tensor that depends on one smoothly (class numbers do not); name another tensor in the loss"
                    )
                accelerator.backward(found.total * part.share)
            for name, value in {"loss": found.total, **found.each}.items():
                sums[name] = sums.get(name, 0.0) + float(value.detach()) * part.share
        self.learned.meet(accelerator)
        if setting.recipe.clip is not None:
            accelerator.unscale_gradients(self.optimiser)
            nn.utils.clip_grad_norm_(self.net.parameters(), setting.recipe.clip)
            if self.learned.nets:
                nn.utils.clip_grad_norm_(self.learned.nets.parameters(), setting.recipe.clip)
        self.optimiser.step()
        if self.average is not None:
            self.average.update(self.live)
        return sums

    def losses_of(self, batch: Batch) -> Losses:
        """Return the losses of what student and teacher gave."""
        names = names_of(self.stage.losses)
        handed = self.learned.handed(batch)
        each = {name: loss(own) for name, loss, own in zip(names, self.stage.losses, handed, strict=True)}
        total = torch.zeros((), device=self.setting.accelerator.device)
        for loss, value in zip(self.stage.losses, each.values(), strict=True):
            total = total + loss.weight * value
        return Losses(total, each)

    def result(self) -> dict[str, torch.Tensor]:
        """Return the weights and statistics the stage would end with now, whole and on the CPU."""
        with self.average.applied(self.live) if self.average is not None else nullcontext():
            return {name: _whole(tensor).cpu().clone() for name, tensor in self.live.items()}

    def batch(self, taken: Taken, done: float = 1.0) -> Batch:
        """Run student and teacher on some samples, when a share `done` of the stage's steps lies behind.

        Raises:
            InvalidData: the teacher's outputs have other shapes than the student's.
        """
        device = self.setting.accelerator.device
        feeds = {name: tensor_of(array).to(device) for name, array in taken.feeds.items()}
        labels = None if taken.labels is None else tensor_of(taken.labels).to(device)
        taught = self.teacher(feeds) if self.teacher is not None else {}
        student = self._run(feeds)
        outputs = self.module.record.outputs
        for name in outputs:
            if name in taught and taught[name].shape != student[name].shape:
                raise InvalidData(
                    f"the teacher's output for {name!r} has the shape {list(taught[name].shape)}, the student's "
                    f"{list(student[name].shape)}; expected a teacher with the same outputs; give another"
                )
        live = self.live if self._read else {}
        weights = {name: _gathered(live[name]) for name in self._read}
        return Batch(student, taught, labels, outputs, done, weights)

    def _first(self) -> Batch:
        """Return what the model gives of a few samples before the stage begins.

        Transforms forget them: what they start from is the first batch they are trained on.
        """
        samples = self.setting.feeder.samples
        numbers = np.arange(fixed_batch(self.setting.model) or 2) % len(samples)
        own = {name: tensor for name, tensor in self.live.items() if name.startswith(f"{PREFIX}.")}
        held = {name: tensor.detach().clone() for name, tensor in own.items()}
        self.net.eval()
        with torch.no_grad():
            found = self.batch(samples.take(numbers), 0.0)
        copy_into(own, held)
        return found

    def _run(self, feeds: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        fixed = fixed_batch(self.setting.model)
        size = next((len(tensor) for tensor in feeds.values() if tensor.ndim), 0)
        if fixed is None or fixed == size:
            found: Mapping[str, torch.Tensor] = self.net(feeds)
            return found
        try:
            found = self.net(feeds)
        except RuntimeError as error:
            raise InvalidData(
                f"the model was exported for batches of exactly {fixed} and cannot run {size} samples "
                f"({str(error).splitlines()[0]}); expected a symbolic batch, which every batch of a run fits; export "
                "the model again"
            ) from error
        return found

    def fault(self, taken: Taken, found: Losses) -> Fault:
        """Find out where the first number that is not finite arose."""
        device = self.setting.accelerator.device
        feeds = [tensor_of(taken.feeds[name]).to(device) for name in self.module.record.inputs]
        with self.setting.accelerator.autocast():
            return find_fault(self.module, self.live, feeds, found.each)

    @property
    def epochs_before(self) -> int:
        """Epochs of the stages before this one, stopped early or not."""
        return sum(stage.epochs for stage in self.setting.recipe.stages[: self.number])


def names_of(losses: Sequence[Loss]) -> list[str]:
    """Return a name for each loss: that of its class, with a number where one occurs twice."""
    names: list[str] = []
    for loss in losses:
        stem = type(loss).__name__
        again = sum(name.split("#")[0] == stem for name in names)
        names.append(f"{stem}#{again + 1}" if again else stem)
    return names


def _whole(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor that may be spread over processes, each of which must ask."""
    return _gathered(tensor.detach())


def _gathered(tensor: torch.Tensor) -> torch.Tensor:
    found: torch.Tensor = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return found


def _read(module: GraphModule, stage: Stage) -> list[str]:
    """Return the names of the weights and statistics that a stage's losses read."""
    places = module.record.places
    found: dict[str, None] = {}
    for loss in stage.losses:
        for pattern in loss.needs.weights:
            fitting = [name for name in places if fnmatchcase(name, pattern)]
            if not fitting:
                why = module.frozen.get(pattern)
                raise UnknownNameError(
                    f"{type(loss).__name__} reads weights called {pattern!r}, and the model trains none of that name"
                    + (f" (it is frozen: {why})" if why else "")
                    + f"; expected a name, or a pattern with *, of the {len(places)} there are; correct the loss"
                )
            found |= dict.fromkeys(fitting)
    return list(found)


def _check(setting: Setting, stage: Stage) -> None:
    labelled = next((loss for loss in stage.losses if loss.needs.labels), None)
    samples = setting.feeder.samples
    if labelled is not None and not samples.has_labels:
        raise InvalidData(
            f"{type(labelled).__name__} needs labels, and {samples.what} has none; expected one for each sample; "
            "give finetune(..., labels=...), or a loss that learns from a teacher alone, such as SoftLabels"
        )


def _keep_zeros(module: GraphModule, stage: Stage) -> None:
    """Mask the weights whose zeros are to stay; a vector, which may start at zero, is meant by its own name only."""
    for pattern in stage.keep_zeros:
        names = [
            name
            for name in matching(module, pattern)
            if name in module.record.places and (name == pattern or module.weight_named(name).ndim > 1)
        ]
        attach(module, dict.fromkeys(names, Mask()))


def _chosen(module: GraphModule, stage: Stage) -> list[Group]:
    """Leave the gradients of a stage's weights on and turn all others off; return those, and what transforms learn."""
    parameters = {
        name: tensor
        for name, tensor in module.state_dict(keep_vars=True).items()
        if isinstance(tensor, nn.Parameter)
    }
    prefix = f"{PREFIX}."
    others = [tensor for name, tensor in parameters.items() if name.startswith(prefix)]
    parameters = {name: tensor for name, tensor in parameters.items() if not name.startswith(prefix)}
    for field in ("trainable", "frozen", "undecayed"):
        patterns: tuple[str, ...] = getattr(stage, field)
        for pattern in patterns:
            if pattern != "*" and not any(fnmatchcase(name, pattern) for name in parameters):
                reason = module.frozen.get(pattern)
                raise UnknownNameError(
                    f"Stage.{field} names {pattern!r}, and no trained weight is called so"
                    + (f" (it is frozen: {reason})" if reason else "")
                    + f"; expected a name, or a pattern with *, of the {len(parameters)} there are; correct it"
                )
    chosen = [name for name in parameters if _fits(name, stage.trainable) and not _fits(name, stage.frozen)]
    if not chosen and not others:
        raise InvalidConfig(
            f"a stage trains nothing: of the model's {len(parameters)} weights none is trainable and not frozen; "
            "expected one or more; widen Stage.trainable"
        )
    for name, parameter in parameters.items():
        parameter.requires_grad_(name in set(chosen))
    return [
        Group([parameters[name] for name in chosen if not _fits(name, stage.undecayed)]),
        Group([parameters[name] for name in chosen if _fits(name, stage.undecayed)], decays=False),
        Group(others, decays=False, factor=stage.transform_rate),
    ]


def _fits(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
