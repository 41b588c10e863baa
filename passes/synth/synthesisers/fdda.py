"""FDDA: images whose statistics are those of their class, deep in the net."""

from dataclasses import dataclass
from typing import ClassVar

from graphrewrite.data import ArraySource, DataSource
from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Model
from graphrewrite.passes.synth.synthesisers import Progress, synthesisers


@synthesisers.register("fdda")
@dataclass(frozen=True)
class Fdda:
    """Fine-grained data distribution alignment: a generator matches norms, deep ones by class (Zhong et al. 2021).

    A step takes two batches. Images of mixed classes are to be what the model says they are, and to have the running
    statistics of all norms. Images of one class are to have the statistics that the real images of this class have in
    the deep norms, and these with noise on top, which keeps them from being all alike.

    Args:
        epochs: of `steps` steps; the rate falls to a tenth after a quarter, a half and three quarters of them.
        steps: in an epoch.
        batch: images in a batch.
        rate: Adam's.
        mixed: factor of the cross-entropy of the mixed batch.
        single: factor of the cross-entropy of the batch of one class.
        norms: factor of the distance to the running statistics.
        distorted: factor of the distance to the statistics of the class with noise on top.
        centred: factor of the distance to the statistics of the class.
        noise_mean: deviation of the noise on means.
        noise_variance: deviation of the noise on variances.
        width: channels inside the generator.
        scores: tensor the labels are about, where the first output is no longer scores (a softmax, say).

    Needs at least one labelled image for each class to be drawn; classes of which the model gets no image right are
    left out. The model must still have its batch norms.
    """

    epochs: int = 400
    steps: int = 200
    batch: int = 16
    rate: float = 0.001
    mixed: float = 0.5
    single: float = 0.5
    norms: float = 0.2
    distorted: float = 0.9
    centred: float = 0.01
    noise_mean: float = 0.5
    noise_variance: float = 1.0
    width: int = 128
    scores: str = ""

    asks: ClassVar[tuple[str, ...]] = ("data", "labels", "torch")

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("steps", 1), ("width", 2)):
            if getattr(self, name) < least:
                raise InvalidConfig(
                    f"Fdda.{name} is {getattr(self, name)}; expected {least} or more; correct it"
                )
        if self.batch < 2:
            raise InvalidConfig(f"Fdda.batch is {self.batch}; norms need two images or more; correct it")
        if not self.rate > 0:
            raise InvalidConfig(f"Fdda.rate is {self.rate}; it must be positive; try 0.001")
        for name in ("mixed", "single", "norms", "distorted", "centred", "noise_mean", "noise_variance"):
            if not getattr(self, name) >= 0:
                raise InvalidConfig(f"Fdda.{name} is {getattr(self, name)}; expected 0 or more; correct it")

    def rate_at(self, epoch: int) -> float:
        """Return the rate of an epoch, counted from 0."""
        return self.rate * 0.1 ** min(3, 4 * epoch // self.epochs)

    def synthesise(
        self, model: Model, source: DataSource, samples: int, seed: int = 0, progress: Progress | None = None
    ) -> ArraySource:
        """Return images whose classes take turns, with their labels.

        Raises:
            InvalidConfig: the model has no batch norms, or more inputs than an image.
            InvalidData: images are not [n, channels, height, width], labels are no classes of the model's.
        """
        from graphrewrite.passes.synth.images.fit import drawn

        return drawn(self, model, source, samples, seed, progress)
