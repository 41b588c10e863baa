"""FFSD with few labels: the leader against labels alone and against deep mutual learning of as many nets."""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest

from graphrewrite.bridge import Recipe, Stage, finetune
from graphrewrite.bridge.losses import Loss
from graphrewrite.data import ArraySource
from graphrewrite.ir import Array, Model
from graphrewrite.ir.beside import beside
from graphrewrite.passes.losses.cross_entropy import CrossEntropy
from graphrewrite.passes.losses.mutual_learning import MutualLearning
from graphrewrite.passes.recipes.ffsd import Ffsd, drawn_anew, taken_out
from graphrewrite.passes.train.stages import last_maps
from graphrewrite.pipeline import Context
from graphrewrite.runtime import run
from tests.engine.bridge.train.digits import INPUT, scans
from tests.methods.residual import accuracy, enlarged, held_out, net

pytestmark = pytest.mark.slow

SEEDS = range(8)
LABELS = 200
STEP = Ffsd(apart=1.0, epochs=40, rate=0.05, batch=64)  # from scratch, as published


def start(seed: int) -> Model:
    """A net of 4, 8 and 16 channels that has seen nothing."""
    return net(seed, (4, 8, 16))


def samples(seed: int) -> ArraySource:
    """200 of the scans for training, others for each seed."""
    _, labels, train = scans()
    chosen = np.random.default_rng(seed).permutation(train)[:LABELS]
    return ArraySource({INPUT: enlarged(chosen)}, labels[chosen])


def by_labels(seed: int) -> Model:
    """Labels alone."""
    stage = Stage(STEP.epochs, STEP.rate, (CrossEntropy(),), STEP.schedule)
    return finetune(start(seed), Recipe((stage,), STEP.optimiser, STEP.batch, seed=seed), samples(seed))


def by_each_other(seed: int) -> Model:
    """Deep mutual learning of three nets, as many as a leader and two students; the first is kept."""
    prefixes = ("", *STEP.prefixes())
    scores = tuple(f"{prefix}scores" for prefix in prefixes)
    losses: list[Loss] = [CrossEntropy(tensor=name) for name in scores]
    losses.append(MutualLearning(scores, STEP.temperature))
    stage = Stage(STEP.epochs, STEP.rate, tuple(losses), STEP.schedule)
    recipe = Recipe((stage,), STEP.optimiser, STEP.batch, seed=seed)
    return taken_out(finetune(together(seed), recipe, samples(seed)), start(seed))


def together(seed: int) -> Model:
    """The net of a seed beside two that are drawn anew."""
    rng = np.random.default_rng(seed)
    others = {prefix: drawn_anew(start(seed), 1.0, rng) for prefix in STEP.prefixes()}
    return beside({"": start(seed), **others})


def by_fusion(seed: int) -> Model:
    """The leader."""
    return STEP.run(start(seed), Context(data=samples(seed), seed=seed)).model


@lru_cache
def reached(way: Callable[[int], Model]) -> Array:
    """Return the accuracy in percent for each seed."""
    found = np.array([accuracy(way(seed)) for seed in SEEDS])
    print(f"{way.__name__}: {found.mean():.2f} %, {np.round(found, 1)}")
    return found


def test_the_leader_is_better_than_the_net_by_labels_alone() -> None:
    gained = np.float64(reached(by_fusion)) - np.float64(reached(by_labels))
    print(f"gained {gained.mean():+.2f} points, deviation {gained.std(ddof=1):.2f}")
    assert gained.mean() > 0


def test_mutual_learning_alone_is_better_than_labels_alone() -> None:
    # How the leader compares with it is told in the guide.
    assert (np.float64(reached(by_each_other)) - np.float64(reached(by_labels))).mean() > 0


def likeness(seed: int, diversity: float) -> float:
    """Return the mean correlation of where the two students look, over held-out samples, after 20 epochs."""
    step = replace(STEP, diversity=diversity, epochs=20)
    maps = last_maps(start(seed))
    recipe = replace(step.recipe(maps, "scores"), seed=seed)
    whole = finetune(together(seed), recipe, samples(seed))
    names = [f"{prefix}{maps[-1]}" for prefix in step.prefixes()]
    found = run(whole, dict(held_out().arrays), names)
    looks = [np.square(np.asarray(found[name], np.float64)).mean(axis=1) for name in names]
    one, other = (rows.reshape(len(rows), -1) - rows.mean(axis=(1, 2))[:, None] for rows in looks)
    both = (one * other).sum(axis=1)
    alone = np.sqrt(np.square(one).sum(axis=1) * np.square(other).sum(axis=1))
    return float(np.mean(both[alone > 0] / alone[alone > 0]))


def test_diversity_leads_students_to_look_elsewhere() -> None:
    # At a weight of 1: the published 1e-5 moves nothing in a net this small, as the guide tells.
    plain, led = ([likeness(seed, weight) for seed in range(2)] for weight in (0.0, 1.0))
    print(f"correlation {np.round(plain, 3)} without, {np.round(led, 3)} with diversity")
    assert np.mean(led) < np.mean(plain)
