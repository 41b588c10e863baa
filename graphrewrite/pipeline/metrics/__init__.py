"""What a `Bounded` claim measures on data; one file per metric."""

from collections.abc import Iterator
from typing import Protocol

import numpy as np

from graphrewrite.data import DataSource
from graphrewrite.ir import Model
from graphrewrite.registry import Registry
from graphrewrite.runtime import Feeds


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


metrics: Registry[Metric] = Registry("metric", package=__name__, of=Metric)

__all__ = ["Metric", "batches_for", "metrics"]
