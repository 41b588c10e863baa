"""Variational distillation: few labels through a narrow layer, and what two views make it forget."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pytest

from graphrewrite.bridge import Recipe, Stage, finetune
from graphrewrite.bridge.losses import Loss
from graphrewrite.ir import Builder, Model
from graphrewrite.ir.beside import twice
from graphrewrite.passes.losses.cross_entropy import CrossEntropy
from graphrewrite.passes.losses.soft_labels import SoftLabels
from graphrewrite.passes.losses.vcd import Vcd
from graphrewrite.passes.losses.vml import Vml
from graphrewrite.passes.losses.vsd import Vsd
from graphrewrite.runtime import run
from tests.engine.bridge.train.digits import INPUT, accuracy, brief, net, scans, training

pytestmark = pytest.mark.slow

SEEDS = range(6)
LABELS = 200


def narrowed(seed: int, size: int) -> Model:
    """64 numbers, rectified, called wide, then a few called narrow, then scores."""
    b = Builder(seed=seed)
    wide = b.relu(b.linear(b.input(["N", 64], INPUT), 64, 64))
    narrow = b.linear(wide, size, 64)
    scores = b.linear(narrow, 10, size)
    wide.name, narrow.name, scores.name = "wide", "narrow", "scores"
    return b.model(scores)


def recipe(seed: int, *losses: Loss) -> Recipe:
    """40 epochs of Adam."""
    return brief(Stage(40, 0.005, losses), seed=seed)


@lru_cache
def teacher(seed: int) -> Model:
    """A net without a narrow layer, of the same 200 labels."""
    return finetune(net(seed + 9), recipe(seed, CrossEntropy(0.1)), training(LABELS))


WAYS: dict[str, tuple[Loss, ...]] = {
    "labels": (CrossEntropy(0.1),),
    "teacher": (CrossEntropy(0.1), SoftLabels(1.0, weight=2.0)),
    "vsd": (CrossEntropy(0.1), Vsd("wide")),
    "vsd of z": (CrossEntropy(0.1), Vsd("wide", "narrow")),
}


@pytest.mark.parametrize("way", WAYS)
def test_few_labels_through_a_narrow_layer(way: str) -> None:
    # No order is asserted: the four are within each other's spread, as the guide tells.
    found = []
    for seed in SEEDS:
        model = finetune(narrowed(seed, 4), recipe(seed, *WAYS[way]), training(LABELS), teacher(seed))
        found.append(100 * accuracy(model))
    print(f"{way}: {np.mean(found):.2f} %, deviation {np.std(found, ddof=1):.2f}, {np.round(found, 1)}")
    assert np.mean(found) > 60


Images = npt.NDArray[np.float32]
Kinds = npt.NDArray[np.int64]


def striped(images: Images, seed: int) -> tuple[Images, Kinds]:
    """A view: stripes of one of four kinds, which say nothing of the label, and which kind."""
    rows, columns = np.indices((8, 8))
    patterns = np.stack([rows % 2, columns % 2, (rows + columns) % 2, (rows // 2) % 2]).reshape(4, 64)
    kinds = np.random.default_rng(seed).integers(0, 4, len(images))
    return images + 0.5 * (patterns[kinds] - 0.5).astype(np.float32), kinds


@dataclass(frozen=True)
class Probed:
    """Right labels in percent, and how often a linear probe reads the kind of stripes out of the narrow layer."""

    labels: float
    kinds: float


@lru_cache
def probed(seed: int, way: str) -> Probed:
    """Train on two views of 400 scans, and look at new views of the held-out ones."""
    from sklearn.linear_model import LogisticRegression

    images, labels, train = scans()
    chosen = np.random.default_rng(seed).permutation(train)[:400]
    views = {INPUT: striped(images[chosen], seed)[0], f"b/{INPUT}": striped(images[chosen], seed + 100)[0]}
    scores = ("scores", "b/scores")
    more: dict[str, tuple[Loss, ...]] = {
        "labels": (),
        "vcd": (Vcd(("wide", "b/wide"), scores),),
        "vcd and vml": (Vcd(("wide", "b/wide"), scores), Vml(scores)),
    }
    both = (*(CrossEntropy(0.1, tensor=name) for name in scores), *more[way])
    model = finetune(twice(narrowed(seed, 8), "b/"), recipe(seed, *both), views, labels=labels[chosen])
    rest = np.setdiff1d(np.arange(len(images)), train)
    shown, kinds = striped(images[rest], seed + 200)
    found = run(model, {INPUT: shown, f"b/{INPUT}": shown}, ["narrow", "scores"])
    half = len(rest) // 2
    probe = LogisticRegression(max_iter=2000).fit(found["narrow"][:half], kinds[:half])
    right = np.asarray(found["scores"]).argmax(axis=1) == labels[rest]
    return Probed(100 * float(right.mean()), 100 * float(probe.score(found["narrow"][half:], kinds[half:])))


@pytest.mark.parametrize("way", ["vcd", "vcd and vml"])
def test_two_views_forget_what_only_one_of_them_has(way: str) -> None:
    plain = [probed(seed, "labels") for seed in range(5)]
    found = [probed(seed, way) for seed in range(5)]
    for name, rows in (("labels", plain), (way, found)):
        print(name, [(round(row.labels, 1), round(row.kinds, 1)) for row in rows])
    assert np.mean([row.kinds for row in found]) < np.mean([row.kinds for row in plain])
    assert np.mean([row.labels for row in found]) > np.mean([row.labels for row in plain]) - 1
