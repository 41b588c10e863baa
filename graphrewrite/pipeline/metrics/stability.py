"""How alike a classifier's answers are within a class: what a student could learn beyond the label itself."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from graphrewrite.data import DataSource
from graphrewrite.errors import InvalidData
from graphrewrite.ir import Array, Model
from graphrewrite.pipeline.metrics import first_outputs, labels_of, metrics

_CLOSE = 1e-3  # rows of probabilities add up to one within this


@metrics.register("stability")
@dataclass(frozen=True)
class Stability:
    """How much less of the differences within a class is left after a rewrite (Shen et al. 2021): a rise of S.

    S is `stability` of the first output, scores or probabilities [samples, classes], against the labels of the data. A
    teacher whose S has risen tells a student less beyond the label. `batch` is the number of samples per run.
    """

    batch: int = 64

    asks: ClassVar[tuple[str, ...]] = ("data", "labels")

    def measure(self, before: Model, after: Model, data: DataSource, threads: int = 0) -> float:
        """Return S of the rewritten model minus S of the model before, in (-1, 1).

        Raises:
            InvalidData: there are no class labels, or the first output scores no classes.
        """
        found = [stability(*answers(model, data, self.batch, threads)) for model in (before, after)]
        return found[1] - found[0]


def answers(
    model: Model, data: DataSource, batch: int = 64, threads: int = 0
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Return the probabilities [samples, classes] that a classifier gives, and the class of each sample.

    The first output is taken as it is where its rows are probabilities, else through a softmax.

    Raises:
        InvalidData: there are no class labels, or the first output scores no classes.
    """
    labels = labels_of(data, "the stability of a classifier").reshape(-1)
    scores = np.concatenate(list(first_outputs(model, data, batch, threads)))
    labels = labels[: len(scores)]  # a fixed batch may leave a rest
    classes = scores.shape[1] if scores.ndim == 2 else 0
    if not classes or labels.dtype.kind not in "iu" or not 0 <= labels.min() <= labels.max() < classes:
        raise InvalidData(
            f"the output {model.outputs[0].name!r} has the shape {list(scores.shape)} and the labels are "
            f"{labels.dtype} up to {max(labels.tolist())}; expected scores [samples, classes] and class numbers below "
            "the classes; check the labels, or give a classifier"
        )
    return _probabilities(scores), labels.astype(np.int64)


def stability(probabilities: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Return S = 1 - mean over classes of the mean squared distance from the class's mean answer (Shen et al. 2021).

    `probabilities` is [samples, classes], `labels` the class number of each sample. S lies in (0, 1]: at 1 all samples
    of a class get the same answer. Classes without a sample are left out. Each class counts the same, however many
    samples it has.

    Raises:
        InvalidData: the sizes do not fit, or there is no sample.
    """
    answers, classes = np.asarray(probabilities, np.float64), np.asarray(labels)
    if answers.ndim != 2 or classes.shape != answers.shape[:1] or not len(answers):
        raise InvalidData(
            f"the stability of answers {list(answers.shape)} with labels {list(classes.shape)} is not defined; "
            "expected probabilities [samples, classes] and one label for each of one sample or more; check both"
        )
    spreads = []
    for label in np.unique(classes):
        own = answers[classes == label]
        spreads.append(np.square(own - own.mean(axis=0)).sum(axis=1).mean())
    return 1.0 - float(np.mean(spreads))


def _probabilities(scores: Array) -> npt.NDArray[np.float64]:
    """Return rows that add up to one: the scores themselves where they do, else their softmax."""
    values = scores.astype(np.float64)
    if values.min() >= 0 and np.abs(values.sum(axis=1) - 1).max() <= _CLOSE:
        return values
    powers = np.exp(values - values.max(axis=1, keepdims=True))
    found: npt.NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return found
