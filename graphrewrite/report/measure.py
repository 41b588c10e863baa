"""Latency of models side by side, in the form that tables and pages show."""

from collections.abc import Sequence

import numpy as np

from graphrewrite.data.stats import fixed_batch
from graphrewrite.ir import Array, Model
from graphrewrite.report.record import Latency
from graphrewrite.report.text import plural
from graphrewrite.runtime import Feeds
from graphrewrite.runtime.bench import latency


def timed(
    models: Sequence[tuple[str, Model]], feeds: Feeds | Sequence[Feeds], threads: int = 0, budget: float = 2.0
) -> tuple[list[Latency], str]:
    """Time models in turns for about `budget` seconds; return their latencies, and how they were measured in words."""
    found = latency(models, feeds, threads=threads, budget=budget)
    cores = plural(threads, "thread") if threads else "one thread per core"
    told = f"{found[0].inputs}, {cores}, {found[0].runtime}, {found[0].machine}"
    return [Latency(entry.median, entry.p95, entry.ratio, len(entry.seconds)) for entry in found], told


def single(model: Model, feeds: Feeds, size: int = 1) -> dict[str, Array]:
    """Return a batch of `size` samples taken in turn from `feeds`; a fixed batch stays as it is."""
    if fixed_batch(model) is not None or not all(np.ndim(array) for array in feeds.values()):
        return dict(feeds)
    return {name: array[np.arange(size) % len(array)] for name, array in feeds.items()}
