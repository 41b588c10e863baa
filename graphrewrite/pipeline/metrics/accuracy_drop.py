"""How much classification accuracy a rewrite costs."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from graphrewrite.data import DataSource
from graphrewrite.errors import InvalidData
from graphrewrite.ir import Model
from graphrewrite.pipeline.metrics import batches_for, metrics
from graphrewrite.runtime import run_session, session


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
        labels = data.labels
        if labels is None or len(labels) != len(data):
            raise InvalidData(
                f"accuracy needs one label per sample; the data has {0 if labels is None else len(labels)} for "
                f"{len(data)} samples; pass data with labels"
            )
        return _accuracy(before, data, labels, self.batch, threads) - _accuracy(
            after, data, labels, self.batch, threads
        )


def _accuracy(
    model: Model,
    data: DataSource,
    labels: npt.NDArray[np.generic],
    batch: int,
    threads: int,
) -> float:
    started = session(model, threads=threads)
    name = model.outputs[0].name
    found = [
        run_session(started, feeds, [name])[name].argmax(axis=-1).reshape(-1)
        for feeds in batches_for(model, data, batch)
    ]
    if not found:
        raise InvalidData(
            f"{len(data)} samples do not fill one batch of the size the model takes; expected at least one batch; "
            "pass more data"
        )
    chosen = np.concatenate(found)
    return float(np.mean(chosen == np.asarray(labels).reshape(-1)[: len(chosen)]))
