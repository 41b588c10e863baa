"""A small net, samples with the answers it gives itself, and a search over its widths."""

import itertools
from collections.abc import Iterator

import numpy as np

from graphrewrite.data import ArraySource
from graphrewrite.ir import Model
from graphrewrite.passes.channels import RemoveChannels
from graphrewrite.passes.channels.budgets import Widths
from graphrewrite.passes.search import Choice, Goal, Plan, Space
from graphrewrite.passes.search.policies import Policy
from graphrewrite.passes.search.policies.random import Random
from graphrewrite.pipeline import Pipeline
from graphrewrite.runtime import run
from tests.passes.channels.nets import tower

WIDTHS = (0.25, 0.5, 1.0)
GROUPS = ("w_1[0]", "w_8[0]")


def net() -> Model:
    """Two convolutions and a head."""
    return tower((8, 8), seed=26)


def answered(count: int = 48, seed: int = 0) -> ArraySource:
    """Samples labelled by the net itself: it gets all of them right."""
    rng = np.random.default_rng(seed)
    # A brightness of each sample's own: the mean over noise alone would be the same for all of them.
    pixels = rng.standard_normal((count, 3, 6, 6)) + 4 * rng.standard_normal((count, 3, 1, 1))
    model, x = net(), {"x": pixels.astype(np.float32)}
    return ArraySource(x, run(model, x)[model.outputs[0].name].argmax(axis=1))


def widths() -> Space:
    """Return the space of the widths of both convolutions, three each."""
    step = RemoveChannels(budget=Widths(1.0), absorb=False)
    fields = {f"0.budget.shares.{name}": Choice(WIDTHS) for name in GROUPS}
    return Space(Pipeline((step,), verify="structure"), fields)


def plan(policy: Policy | None = None, evaluations: int = 9, macs: float = 0.6) -> Plan:
    """Return a search for accuracy below a share of the MACs."""
    return Plan(widths(), policy or Random(4), Goal("accuracy", {"macs": macs}), evaluations)


def everything() -> Iterator[tuple[float, float]]:
    """Yield all pairs of widths."""
    yield from itertools.product(WIDTHS, repeat=2)
