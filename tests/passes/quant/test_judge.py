"""What is lost, by hand."""

import numpy as np
import pytest

from graphrewrite.data import ArraySource
from graphrewrite.ir import Builder, Model
from graphrewrite.passes.quant.judge import Judge
from graphrewrite.pipeline import Context


def scaled(*factors: float) -> Model:
    """Multiply two scores by factors."""
    b = Builder(opset=17)
    return b.model(b.op("Mul", b.input(["N", 2], "x"), b.constant(np.array(factors, np.float32))))


def judge(labels: np.ndarray | None = None) -> Judge:
    x = np.array([[3.0, 4.0], [4.0, 3.0]], np.float32)
    return Judge(scaled(1, 1), ArraySource({"x": x}, labels), Context(), 1)


def test_noise_is_the_share_of_the_outputs_energy() -> None:
    assert judge().noise(scaled(1, 1), 2) == 0.0
    # 9 + 16 and 16 + 9 of energy; a tenth of the second score is off, by 0.4 and 0.3.
    assert judge().noise(scaled(1, 1.1), 2) == pytest.approx((0.16 + 0.09) / 50, rel=1e-4)
    assert judge().noise(scaled(1, 1.1), 1) == pytest.approx(0.16 / 25, rel=1e-4)  # of one sample


def test_with_labels_it_is_accuracy_that_is_lost() -> None:
    right = judge(np.array([1, 0]))

    assert right.lost(scaled(1, 1)) == (0.0, 0.0)
    one = right.lost(scaled(1, 2))  # the second sample is taken for the other class
    assert one.share == 0.5 and one.most == pytest.approx(0.5 + 1.644854 * (0.5 / 2) ** 0.5)
    without = judge().lost(scaled(1, 1.1))
    assert without.share == without.most == pytest.approx(0.005, rel=1e-4)


def test_answers_that_changed_sides_are_a_doubt_although_as_many_are_right() -> None:
    wrong = judge(np.array([0, 0]))  # the first is taken for the other class, and so is the second

    both = wrong.lost(scaled(-1, -1))

    assert both.share == 0.0 and both.most == pytest.approx(1.644854 * 0.5**0.5)
