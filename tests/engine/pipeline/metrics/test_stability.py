"""The stability of a classifier's answers against loops, and what must and must not move it."""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from graphrewrite.data import ArraySource
from graphrewrite.errors import InvalidData
from graphrewrite.ir import Builder, Model
from graphrewrite.pipeline.metrics import metrics
from graphrewrite.pipeline.metrics.stability import answers, stability

Rows = npt.NDArray[np.float64]
Classes = npt.NDArray[np.int64]


def drawn(samples: int, classes: int, seed: int) -> tuple[Rows, Classes]:
    """Answers that spread less in higher classes, of which there are fewer samples."""
    rng = np.random.default_rng(seed)
    labels = np.sort(np.minimum(rng.integers(0, classes, samples), rng.integers(0, classes, samples)))
    return np.stack([rng.dirichlet(np.full(classes, 1.0 + 4 * label)) for label in labels]), labels


def by_loops(rows: Rows, labels: Classes) -> float:
    """The formula once more, one number at a time."""
    present = sorted(set(labels.tolist()))
    total = 0.0
    for label in present:
        own = [row for row, other in zip(rows.tolist(), labels.tolist(), strict=True) if other == label]
        mean = [sum(row[k] for row in own) / len(own) for k in range(rows.shape[1])]
        inner = 0.0
        for row in own:
            for k, value in enumerate(row):
                inner += (value - mean[k]) ** 2
        total += inner / len(own)
    return 1 - total / len(present)


@pytest.mark.parametrize("seed", range(4))
def test_it_equals_loops(seed: int) -> None:
    rows, labels = drawn(40, 3 + seed, seed)
    assert stability(rows, labels) == pytest.approx(by_loops(rows, labels), abs=1e-12)


def over_samples(rows: Rows, labels: Classes) -> float:
    """A wrong reading: the mean over samples, not over classes."""
    means = np.stack([rows[labels == label].mean(axis=0) for label in labels])
    return 1 - float(np.square(rows - means).sum(axis=1).mean())


def with_lengths(rows: Rows, labels: Classes) -> float:
    """Another: lengths that are not squared."""
    spreads = []
    for label in np.unique(labels):
        own = rows[labels == label]
        spreads.append(np.linalg.norm(own - own.mean(axis=0), axis=1).mean())
    return 1 - float(np.mean(spreads))


@pytest.mark.parametrize("wrong", [over_samples, with_lengths])
def test_the_loops_tell_wrong_readings_apart(wrong: Callable[[Rows, Classes], float]) -> None:
    rows, labels = drawn(40, 3, 0)
    assert abs(wrong(rows, labels) - by_loops(rows, labels)) > 1e-3


def test_one_answer_for_each_class_is_stability_one() -> None:
    rows, labels = drawn(5, 5, 1)
    repeated = np.repeat(rows, 4, axis=0)
    assert stability(repeated, np.repeat(np.arange(5), 4)) == 1.0
    assert len(labels) == 5


def test_noise_within_classes_lowers_it_steadily() -> None:
    rng = np.random.default_rng(2)
    labels = np.repeat(np.arange(4), 50)
    centre = np.full((200, 4), 0.25)
    noise = rng.standard_normal((200, 4))
    for label in range(4):
        noise[labels == label] -= noise[labels == label].mean(axis=0)
    noise -= noise.mean(axis=1, keepdims=True)
    found = [stability(centre + size * noise, labels) for size in (0.0, 0.01, 0.02, 0.04, 0.08)]
    assert found == sorted(found, reverse=True) and len(set(found)) == 5


def test_more_samples_of_one_class_do_not_move_it() -> None:
    rows, labels = drawn(30, 3, 3)
    first = labels == 0
    more_rows = np.concatenate([rows, *[rows[first]] * 7])
    more_labels = np.concatenate([labels, *[labels[first]] * 7])
    assert stability(more_rows, more_labels) == pytest.approx(stability(rows, labels), abs=1e-12)
    assert over_samples(more_rows, more_labels) != pytest.approx(over_samples(rows, labels), abs=1e-3)


@pytest.mark.parametrize(
    ("rows", "labels"),
    [(np.zeros((2, 3)), np.zeros(3)), (np.zeros(3), np.zeros(3)), (np.zeros((0, 3)), np.zeros(0))],
)
def test_what_is_no_answer_is_refused(rows: Rows, labels: Classes) -> None:
    with pytest.raises(InvalidData, match="not defined"):
        stability(rows, labels)


def scaled(factor: float, with_softmax: bool = False) -> Model:
    """Hands on its input of 3 scores times a factor."""
    b = Builder()
    y = b.op("Mul", b.input(["N", 3], "x"), b.constant(np.array(factor, np.float32)))
    return b.model(b.op("Softmax", y, axis=1) if with_softmax else y)


def scores() -> ArraySource:
    rng = np.random.default_rng(4)
    return ArraySource({"x": rng.standard_normal((30, 3)).astype(np.float32)}, rng.integers(0, 3, 30))


def test_answers_are_probabilities_whether_or_not_the_model_ends_in_a_softmax() -> None:
    plain, labels = answers(scaled(1.0), scores())
    soft, _ = answers(scaled(1.0, with_softmax=True), scores())
    np.testing.assert_allclose(plain, soft, atol=1e-6)
    row = scores().arrays["x"][7]
    powers = [math.exp(value) for value in np.asarray(row).tolist()]
    np.testing.assert_allclose(plain[7], np.array(powers) / sum(powers), atol=1e-6)
    assert labels.shape == (30,)


def test_as_a_metric_it_is_the_rise() -> None:
    # Scores near zero are near 1/3 for every sample: as alike as can be.
    metric = metrics.make("stability")
    rise = metric.measure(scaled(1.0), scaled(0.01), scores())
    want = stability(*answers(scaled(0.01), scores())) - stability(*answers(scaled(1.0), scores()))
    assert rise == pytest.approx(want) and rise > 0.05
    assert metric.measure(scaled(1.0), scaled(1.0), scores()) == 0.0


@pytest.mark.parametrize(
    ("labels", "message"),
    [(None, "one label per sample"), (np.full(30, 3), "up to 3"), (np.linspace(0, 1, 30), "float64")],
)
def test_labels_that_are_no_classes_are_refused(labels: npt.NDArray[np.generic] | None, message: str) -> None:
    with pytest.raises(InvalidData, match=message):
        answers(scaled(1.0), ArraySource(dict(scores().arrays), labels))
