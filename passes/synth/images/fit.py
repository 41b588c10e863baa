"""Training a generator against what the norms of a model say."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from graphrewrite.data import ArraySource, DataSource
from graphrewrite.errors import InvalidConfig, InvalidData
from graphrewrite.ir import Model
from graphrewrite.passes.synth.images.generator import NOISE, Generator
from graphrewrite.passes.synth.images.norms import Observed, Statistics
from graphrewrite.passes.synth.synthesisers import Progress

if TYPE_CHECKING:
    from graphrewrite.passes.synth.synthesisers.fdda import Fdda


@dataclass(frozen=True)
class Known:
    """What the real images tell.

    Attributes:
        images: [n, channels, height, width].
        labels: [n].
        classes: how many scores the model gives.
        centres: statistics of each class that the model gets an image of right.
    """

    images: torch.Tensor
    labels: torch.Tensor
    classes: int
    centres: Mapping[int, Statistics]


class Teacher:
    """A frozen classifier and where its images, scores and norms are.

    Raises:
        InvalidConfig: it has several inputs, no norms, or no tensor of scores.
    """

    def __init__(self, model: Model, scores: str = "") -> None:
        if len(model.inputs) != 1:
            raise InvalidConfig(
                f"the model has {len(model.inputs)} inputs; expected one, the image; draw samples for it by other means"
            )
        self.image = str(model.inputs[0].name)
        self._scores = scores or str(model.outputs[0].name)
        self._observed = Observed(model, [scores] if scores else [])
        self.stored = self._observed.stored

    def __call__(self, images: torch.Tensor) -> tuple[torch.Tensor, Statistics]:
        """Return scores [n, classes] and the statistics of what each norm reads."""
        found, seen = self._observed({self.image: images})
        return found[self._scores], seen


def first_deep(norms: int) -> int:
    """Return the number of the first norm, counted from 0, that is held to statistics of a class."""
    return max(0, (norms + 1) // 2 - 2)


def known(teacher: Teacher, source: DataSource) -> Known:
    """Return what real images tell: the statistics of each class, over all its images.

    Raises:
        InvalidData: they are no images, have no labels, or others than the model's classes.
    """
    (batch,) = source.batches(len(source))
    images = torch.tensor(np.asarray(batch[teacher.image], np.float32))
    if images.ndim != 4:
        raise InvalidData(
            f"the samples have the shape {list(images.shape)}; expected images [n, channels, height, width]; "
            "give other data"
        )
    if source.labels is None:
        raise InvalidData(
            "the images have no labels, and their statistics are taken by class; expected a class for each; "
            "put `labels` into the file"
        )
    labels = torch.tensor(np.asarray(source.labels))
    with torch.no_grad():
        scores, _ = teacher(images)
        if scores.ndim != 2:
            raise InvalidData(
                f"the scores have the shape {list(scores.shape)}; expected [n, classes]; name another tensor"
            )
        classes = scores.shape[1]
        if labels.shape != (len(images),) or labels.is_floating_point() or not _all_below(labels, classes):
            raise InvalidData(
                f"labels {labels.dtype} {list(labels.shape)} do not fit {classes} scores; expected one whole number "
                f"from 0 to {classes - 1} for each of {len(images)} images; correct them"
            )
        right = scores.argmax(dim=1) == labels
        centres = {
            int(each): teacher(images[labels == each])[1]
            for each in labels.unique()
            if bool(right[labels == each].any())
        }
    if not centres:
        raise InvalidData(
            f"the model gets none of the {len(images)} images right; expected at least one; check labels and scaling"
        )
    return Known(images, labels, classes, centres)


def drawn(
    method: "Fdda", model: Model, source: DataSource, samples: int, seed: int, progress: Progress | None
) -> ArraySource:
    """Train a generator by a method and return what it draws; the caller's random numbers stay as they are."""
    if samples < 1:
        raise InvalidConfig(f"{samples} samples were asked for; expected 1 or more; correct it")
    teacher = Teacher(model, method.scores)
    given = known(teacher, source)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        generator = trained(method, teacher, given, progress)
        labels = torch.tensor([*given.centres]).repeat(-(-samples // len(given.centres)))[:samples]
        with torch.no_grad():
            # Norms measure their batch as they did in training: batches of the same size, of mixed classes.
            parts = [generator(torch.randn(len(part), NOISE), part) for part in _parts(labels, method.batch)]
    return ArraySource({teacher.image: torch.cat(parts).numpy()}, labels.numpy())


def trained(method: "Fdda", teacher: Teacher, given: Known, progress: Progress | None = None) -> Generator:
    """Return a generator, still in training mode, trained on torch's present random numbers."""
    over = (0, 2, 3)
    deviation = given.images.std(dim=over, correction=0).clamp_min(1e-6)
    mean = given.images.mean(dim=over)
    generator = Generator(given.classes, given.images.shape[1:], mean, deviation, method.width)
    optimiser = torch.optim.Adam(generator.parameters(), method.rate, betas=(0.5, 0.999))
    classes = torch.tensor([*given.centres])
    for epoch in range(method.epochs):
        for group in optimiser.param_groups:
            group["lr"] = method.rate_at(epoch)
        if progress is not None:
            progress("fdda", epoch, method.epochs)
        for _ in range(method.steps):
            optimiser.zero_grad()
            loss(method, teacher, generator, given, classes).backward()
            optimiser.step()
    return generator


def loss(
    method: "Fdda", teacher: Teacher, generator: Generator, given: Known, classes: torch.Tensor
) -> torch.Tensor:
    """Return what is made small in a step: a batch of mixed classes, and one of a class drawn at random."""
    labels = classes[torch.randint(len(classes), (method.batch,))]
    scores, seen = teacher(generator(torch.randn(method.batch, NOISE), labels))
    mixed = method.mixed * functional.cross_entropy(scores, labels)
    mixed = mixed + method.norms * seen.distance(teacher.stored)
    one = classes[torch.randint(len(classes), ())]
    labels = one.repeat(method.batch)
    scores, seen = teacher(generator(torch.randn(method.batch, NOISE), labels))
    deep = first_deep(len(seen.means))
    seen, centre = seen.last(deep), given.centres[int(one)].last(deep)
    distorted = centre.shaken(method.noise_mean, method.noise_variance)
    single = method.single * functional.cross_entropy(scores, labels)
    return (
        mixed + single + method.distorted * seen.distance(distorted) + method.centred * seen.distance(centre)
    )


def _parts(labels: torch.Tensor, batch: int) -> tuple[torch.Tensor, ...]:
    """Return labels in batches of nearly the same size, none of a single image where there are two."""
    count = max(1, len(labels) // batch)
    return torch.tensor_split(labels, count)


def _all_below(labels: torch.Tensor, classes: int) -> bool:
    return bool(((labels >= 0) & (labels < classes)).all())
