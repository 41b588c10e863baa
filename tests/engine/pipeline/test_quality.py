"""Accuracy and agreement."""

import math

import numpy as np
import pytest

from graphrewrite.data import ArraySource
from graphrewrite.ir import Builder, Model
from graphrewrite.pipeline.quality import accuracy, agreement, batches, quality


def scorer(weight: list[list[float]], batch: int | str = "n") -> Model:
    b = Builder()
    x = b.input([batch, 2], name="x")
    return b.model(b.op("MatMul", x, b.constant(np.array(weight, dtype=np.float32)), name="scores"))


@pytest.mark.parametrize(("correct", "total"), [(8, 10), (595, 600), (1, 3)])
def test_the_interval_holds_every_share_the_data_does_not_rule_out(correct: int, total: int) -> None:
    # Wilson's bounds are the two p with |share - p| = 1.96 standard deviations of a share whose true value is p.
    found = accuracy(correct, total)
    for bound in (found.low, found.high):
        assert abs(correct / total - bound) == pytest.approx(
            1.959964 * math.sqrt(bound * (1 - bound) / total)
        )
    assert found.low < correct / total < found.high


def test_the_interval_stays_inside_zero_and_one() -> None:
    assert accuracy(10, 10).high == pytest.approx(1.0)
    assert accuracy(0, 10).low == pytest.approx(0.0)


def test_agreement_is_worked_out_by_hand() -> None:
    found = agreement([np.array([3.0, 4.0])], [np.array([3.0, 3.0])], "y")
    assert found is not None
    assert found.gap == 1.0
    assert found.error == pytest.approx(1 / 4)
    assert found.snr == pytest.approx(10 * math.log10(25 / 1))
    assert found.cosine == pytest.approx((9 + 12) / (5 * math.sqrt(18)))
    assert found.same_top is None


def test_equal_outputs_have_no_noise() -> None:
    found = agreement([np.ones((2, 3))], [np.ones((2, 3))])
    assert found is not None
    assert (found.error, found.snr, found.same_top) == (0.0, math.inf, 1.0)
    assert found.cosine == pytest.approx(1.0)


def test_values_that_are_not_finite_are_passed_over() -> None:
    found = agreement([np.array([math.nan, 2.0, math.inf])], [np.array([math.nan, 1.0, 0.0])])
    assert found is not None
    assert (found.gap, found.error) == (1.0, 0.5)


def test_nothing_is_said_of_other_shapes_and_of_text() -> None:
    assert agreement([np.ones(2)], [np.ones(3)]) is None
    assert agreement([np.array(["a"])], [np.array(["a"])]) is None


def test_accuracy_counts_the_largest_score_over_all_batches() -> None:
    before, after = scorer([[1, 0], [0, 1]]), scorer([[1, 0], [1, 1]])
    # The first model says class 1 where x1 > x0; the second adds x1 to both scores: class 1 where 0 > x0.
    x = np.array([[1, 2], [2, 1], [-1, 3], [1, 5]] * 20, dtype=np.float32)
    source = ArraySource({"x": x}, np.array([1, 0, 1, 1] * 20))
    found = quality(before, after, batches(before, source), source.labels)
    assert found.before is not None and found.after is not None
    assert (found.before.correct, found.after.correct, found.before.total) == (80, 40, 80)
    assert found.agreement[0].same_top == pytest.approx(0.5)


def test_a_fixed_batch_gets_full_batches_only() -> None:
    model = scorer([[1, 0], [0, 1]], batch=4)
    x = np.arange(18, dtype=np.float32).reshape(9, 2)
    source = ArraySource({"x": x}, np.ones(9, dtype=np.int64))
    found = quality(model, model, batches(model, source), source.labels)
    assert found.samples == 8
    assert found.before is not None and found.before.correct == 8


def test_why_there_is_no_accuracy_is_said() -> None:
    model = scorer([[1, 0], [0, 1]])
    feeds = [{"x": np.ones((3, 2), dtype=np.float32)}]
    assert quality(model, model, feeds).why_not == "the samples have no class labels"
    b = Builder()
    flat = b.model(b.op("ReduceSum", b.input(["n", 2], name="x"), keepdims=0))
    assert "no output" in quality(flat, flat, feeds, np.zeros(3, dtype=np.int64)).why_not
