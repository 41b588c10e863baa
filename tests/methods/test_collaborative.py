"""Channels and rank removed together beside either alone, by the same machinery and for equally much."""

from functools import lru_cache
from typing import Any, cast

import numpy as np
import pytest

from graphrewrite.bridge.recalibrate import recalibrated
from graphrewrite.ir import Model
from graphrewrite.passes.factor import Collaborative
from graphrewrite.pipeline import Context, Outcome
from graphrewrite.runtime import run
from tests.methods.residual import held_out, trained, training

pytestmark = pytest.mark.slow

SEEDS = range(5)
WAYS: dict[str, tuple[str, ...]] = {
    "both": ("channel", "component"),
    "channel": ("channel",),
    "component": ("component",),
}


@lru_cache
def reduced(way: str, seed: int, rates: str = "sensitivity") -> Outcome:
    """Return the trained net of a seed with 70 % of its multiply-accumulates counted as gone."""
    step = Collaborative(0.7, WAYS[way], step=0.03, rates=rates)  # type: ignore[arg-type]
    return step.run(trained(seed).clone(), Context(data=training(300), seed=seed))


def lost(outcome: Outcome) -> float:
    """Return the information loss that the method makes small, of all layers."""
    return float(sum(row["lost"] for row in cast("list[dict[str, Any]]", outcome.details["layers"])))


def cross_entropy(model: Model) -> float:
    """Return the mean over the held-out scans, with norms measured anew on 300 others."""
    source = held_out()
    assert source.labels is not None
    ready = recalibrated(model, training(300))
    scores = np.asarray(run(ready, dict(source.arrays), ["scores"])["scores"], np.float64)
    scores -= scores.max(axis=1, keepdims=True)
    logs = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    return float(-logs[np.arange(len(logs)), source.labels].mean())


def test_less_is_lost_together() -> None:
    """The loss the method estimates, on the mean over seeds; and less than with the same rate for every layer."""
    mean = {way: np.mean([lost(reduced(way, seed)) for seed in SEEDS]) for way in WAYS}
    uniform = np.mean([lost(reduced("both", seed, "uniform")) for seed in SEEDS])

    assert mean["both"] < min(mean["channel"], mean["component"]), mean
    assert mean["both"] < uniform, (mean, uniform)


def test_the_true_loss_follows_once_norms_are_measured_anew() -> None:
    mean = {way: np.mean([cross_entropy(reduced(way, seed).model) for seed in SEEDS]) for way in WAYS}

    assert mean["both"] < min(mean["channel"], mean["component"]), mean
