"""What is said of a model before anything is learned from it."""

import numpy as np
import pytest

from graphrewrite.data import ArraySource
from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Builder, Model
from graphrewrite.passes.train.teacher import check_teacher


def told(rows: list[list[float]]) -> tuple[Model, ArraySource]:
    """A classifier that gives the probabilities it is fed; all samples but the first are of class 0."""
    b = Builder()
    model = b.model(b.op("Identity", b.input(["N", 3], "x")))
    labels = np.zeros(len(rows), np.int64)
    labels[0] = 1
    return model, ArraySource({"x": np.array(rows, np.float32)}, labels)


SMOOTHED = [[0.1, 0.8, 0.1], *[[0.8, 0.1, 0.1]] * 9]
SURE = [[0.01, 0.98, 0.01], *[[0.98, 0.01, 0.01]] * 9]


def test_accuracy_stability_and_confidence_are_counted() -> None:
    # Class 0: half of its answers at 0.75 and half at 0.5, so every number is off its mean by 1/8 or 1/16.
    model, data = told([[0.5, 0.25, 0.25], *[[0.75, 0.125, 0.125]] * 2, *[[0.5, 0.25, 0.25]] * 2])
    facts = check_teacher(model, data)
    assert (facts.accuracy.correct, facts.accuracy.total) == (4, 5)
    assert facts.stability == pytest.approx(1 - (1 / 64 + 2 / 256) / 2, abs=1e-9)
    assert facts.confidence == pytest.approx((3 * 0.5 + 2 * 0.75) / 5)
    assert not facts.warnings


@pytest.mark.parametrize(
    ("rows", "temperature", "is_warned"),
    [(SMOOTHED, 4.0, True), (SMOOTHED, 1.0, False), (SURE, 4.0, False)],
)
def test_a_smoothed_teacher_is_not_to_be_softened_much(
    rows: list[list[float]], temperature: float, is_warned: bool
) -> None:
    facts = check_teacher(*told(rows), temperature)
    assert [("smoothed labels" in text) for text in facts.warnings] == [True] * is_warned


def test_a_teacher_no_better_than_chance_is_named() -> None:
    facts = check_teacher(*told([[0.6, 0.2, 0.2], *[[0.2, 0.6, 0.2]] * 9]))
    assert facts.accuracy.correct == 0 and "chance" in facts.warnings[0]


def test_a_temperature_has_to_be_positive() -> None:
    with pytest.raises(InvalidConfig, match="positive"):
        check_teacher(*told(SURE), 0.0)
