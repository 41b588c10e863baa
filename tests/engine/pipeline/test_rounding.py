"""A model that answers rounding with chaos: right rewrites of it are told from wrong ones, or from nothing at all.

The chaos is the logistic map y -> 4y(1 - y), which doubles a small error at every step: 20 steps lose six digits of
float32's seven and leave nine of float64's; 60 steps lose all of both.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from graphrewrite.ir import Builder, Model
from graphrewrite.passes.channels import Ratio, RemoveChannels
from graphrewrite.pipeline import Claim, Context, Outcome, Pipeline, Same, StepError
from graphrewrite.pipeline.rounding import Pair, judge
from graphrewrite.pipeline.verify import compare
from graphrewrite.runtime import run, sample_inputs

HIDDEN = 48


@pytest.fixture(autouse=True)
def evidence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    yield


def chaotic(steps: int, exact: bool = True) -> Model:
    """x -> 48 hidden units -> 6 values in (0, 1) -> `steps` of the logistic map; not `exact`: float32 kernels only."""
    b = Builder(seed=4)
    x = b.input(["N", 32], "x")
    hidden = b.relu(b.linear(x, out=HIDDEN, into=32, name="a"))
    y = b.op("Sigmoid", b.linear(hidden, out=6, into=HIDDEN, name="b"))
    if not exact:
        y = b.op("BiasGelu", y, b.constant(np.zeros(6, np.float32)), domain="com.microsoft")
        y = b.op("Sigmoid", y)
    one, four = b.constant(np.array([1], np.float32)), b.constant(np.array([4], np.float32))
    for _ in range(steps):
        y = b.op("Mul", b.op("Mul", y, four), b.op("Sub", one, y))
    return b.model(y)


@dataclass(frozen=True)
class Reordered:
    """Reorders the hidden units, which changes nothing but the order of sums; `wrong` scales one of them."""

    wrong: float = 1.0

    claim: ClassVar[Claim] = Same()

    def run(self, model: Model, context: Context) -> Outcome:
        order = np.random.default_rng(0).permutation(HIDDEN)
        first, second = model.nodes("Gemm")
        for node, names in ((first, (1, 2)), (second, (1,))):
            for slot in names:
                name = node.inputs[slot].name
                values = model.weights[name]
                axis = values.shape.index(HIDDEN)
                model.weights[name] = np.take(values, order, axis=axis)
        scaled = model.weights[second.inputs[1].name].copy()
        scaled[:, 0] = np.multiply(scaled[:, 0], np.float32(self.wrong))
        model.weights[second.inputs[1].name] = scaled
        return Outcome(model, True)


def test_the_model_is_as_chaotic_as_it_says() -> None:
    """Were it not, the tests below would pass without a judge."""
    model = chaotic(20)
    other = Reordered().run(model.clone(), Context()).model
    feeds = sample_inputs(model)

    assert max(compare(run(model, feeds), run(other, feeds)).values()) > 1e-2


def test_a_right_rewrite_of_a_chaotic_model_is_judged_in_double() -> None:
    (step,) = Pipeline([Reordered()]).run(chaotic(20)).report.steps

    assert step.verified.error is not None and step.verified.error < 1e-6
    assert step.verified.rounding.startswith("within the model's own rounding: 0.")
    assert "in float64" in step.verified.rounding


def test_a_calm_model_is_not_judged_at_all() -> None:
    (step,) = Pipeline([Reordered()]).run(chaotic(1)).report.steps

    assert step.verified.rounding == ""


@pytest.mark.parametrize("wrong", [1.5, 1.01, 1.0001])
def test_a_wrong_rewrite_of_a_chaotic_model_is_refused(wrong: float) -> None:
    with pytest.raises(StepError, match="broke its promise.*in float64 they differ by") as error:
        Pipeline([Reordered(wrong)]).run(chaotic(20))

    assert error.value.stage == "claim"


@pytest.mark.parametrize("wrong", [1.0, 1.5])
def test_what_not_even_double_decides_is_refused_as_such(wrong: float) -> None:
    with pytest.raises(StepError, match="not decidable: .*even in float64"):
        Pipeline([Reordered(wrong)]).run(chaotic(70))


@pytest.mark.parametrize("wrong", [1.0, 1.5])
def test_without_double_a_loud_model_is_not_decidable(wrong: float) -> None:
    with pytest.raises(StepError, match="not decidable: .*cannot be computed in float64"):
        Pipeline([Reordered(wrong)]).run(chaotic(24, exact=False))


def test_without_double_a_little_noise_is_measured() -> None:
    """Nine doublings: the error is some 1e-5, above the tolerance given here and below twenty times the noise."""
    model = chaotic(9, exact=False)
    feeds = [sample_inputs(model)]
    right, wrong = (Reordered(factor).run(model.clone(), Context()).model for factor in (1.0, 1.1))
    errors = [compare(run(model, feeds[0]), run(other, feeds[0])) for other in (right, wrong)]

    verdicts = [
        judge(Pair(model, other, feeds), error, 1e-7)
        for other, error in zip((right, wrong), errors, strict=True)
    ]

    assert [verdict.kind for verdict in verdicts] == ["rounding", "defect"]
    assert verdicts[0].rtol < 1e-2


def test_a_cut_of_a_chaotic_model_is_proved_and_a_wrong_one_is_not() -> None:
    model = chaotic(20)
    cut = RemoveChannels(budget=Ratio(0.5))

    proved = Pipeline([cut]).run(model.clone()).report.steps[0].verified

    assert proved.how == "reference" and proved.error is not None and proved.error < 1e-6

    @dataclass(frozen=True)
    class Wrong(RemoveChannels):
        def run(self, model: Model, context: Context) -> Outcome:
            outcome = super().run(model, context)
            name = outcome.model.nodes("Gemm")[1].inputs[1].name
            values = outcome.model.weights[name]
            axis = values.shape.index(HIDDEN // 2)
            outcome.model.weights[name] = np.roll(values, 1, axis=axis)  # the right units, in the wrong order
            return outcome

    with pytest.raises(StepError, match="in float64 they differ by"):
        Pipeline([Wrong(budget=Ratio(0.5))]).run(model)
