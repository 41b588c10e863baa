"""How much classification accuracy a rewrite costs."""

from dataclasses import dataclass

import numpy as np

from graphrewrite.data import DataSource
from graphrewrite.ir import Array, Model
from graphrewrite.pipeline.metrics import first_outputs, labels_of, metrics


@metrics.register("accuracy_drop")
@dataclass(frozen=True)
class AccuracyDrop:
    """Accuracy before minus accuracy after, by the argmax over the last axis of the first output.

    `batch` is the number of samples per run.
    """

    batch: int = 64

    def measure(self, before: Model, after: Model, data: DataSource, threads: int = 0) -> float:
        """Return the drop in [-1, 1].

        Raises:
            InvalidData: the data has no labels, or not one per sample.
        """
        labels = labels_of(data, "accuracy").reshape(-1)
        return _accuracy(before, data, labels, self.batch, threads) - _accuracy(
            after, data, labels, self.batch, threads
        )


def _accuracy(model: Model, data: DataSource, labels: Array, batch: int, threads: int) -> float:
    chosen = np.concatenate(
        [found.argmax(axis=-1).reshape(-1) for found in first_outputs(model, data, batch, threads)]
    )
    return float(np.mean(chosen == labels[: len(chosen)]))
