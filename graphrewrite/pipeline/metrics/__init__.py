"""What a `Bounded` claim measures on data; one file per metric."""

from collections.abc import Iterator
from typing import Protocol

import numpy as np

from graphrewrite.data import DataSource
from graphrewrite.errors import InvalidData
from graphrewrite.ir import Array, Model
from graphrewrite.registry import Registry
from graphrewrite.runtime import Feeds, run_session, session


class Metric(Protocol):
    """A number that says how much worse a rewritten model is; smaller is better."""

    def measure(self, before: Model, after: Model, data: DataSource, threads: int = 0) -> float:
        """Return the metric over all samples."""
        ...


def batches_for(model: Model, data: DataSource, size: int) -> Iterator[Feeds]:
    """Yield batches of `size` samples; of a model with a fixed batch, only full batches of that size."""
    fixed = {dim for tensor in model.inputs for dim in (tensor.shape or [])[:1] if isinstance(dim, int)}
    for feeds in data.batches(max(fixed, default=size)):
        if not fixed or all(len(np.asarray(array)) in fixed for array in feeds.values()):
            yield feeds


def labels_of(data: DataSource, what: str) -> Array:
    """Return the labels of the samples, for `what`, which needs one for each.

    Raises:
        InvalidData: there are none, or not one per sample.
    """
    labels = data.labels
    if labels is None or len(labels) != len(data):
        raise InvalidData(
            f"{what} needs one label per sample; the data has {0 if labels is None else len(labels)} for "
            f"{len(data)} samples; pass data with labels"
        )
    return np.asarray(labels)


def first_outputs(model: Model, data: DataSource, size: int, threads: int = 0) -> Iterator[Array]:
    """Yield the model's first output for one batch of samples after the other, in the order of the data.

    Raises:
        InvalidData: there is not even one batch of the size the model takes.
    """
    started = session(model, threads=threads)
    name = model.outputs[0].name
    is_empty = True
    for feeds in batches_for(model, data, size):
        is_empty = False
        yield run_session(started, feeds, [name])[name]
    if is_empty:
        raise InvalidData(
            f"{len(data)} samples do not fill one batch of the size the model takes; expected at least one batch; "
            "pass more data"
        )


metrics: Registry[Metric] = Registry("metric", package=__name__, of=Metric)

__all__ = ["Metric", "batches_for", "first_outputs", "labels_of", "metrics"]
