"""The main job on the shipped models: half of the MACs go, and what is left still reads digits."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest

from graphrewrite import models
from graphrewrite.data import DataSource, load
from graphrewrite.dims import ChannelGroup
from graphrewrite.ir import Model
from graphrewrite.passes.channels import MacsBelow, ParamsBelow, RemoveChannels
from graphrewrite.passes.channels.criteria import criteria
from graphrewrite.passes.channels.evidence import AnyNeed, Criterion, Evidence, Scores, needs_of
from graphrewrite.passes.channels.reconstruct import reconstructions
from graphrewrite.pipeline import Context, Pipeline
from graphrewrite.runtime import run
from tests.passes.channels.nets import cut, details

pytest.importorskip("sklearn")
LEAST_SQUARES = reconstructions.make("least_squares")


@cache
def prepared(name: str) -> tuple[Model, DataSource, DataSource]:
    model, card = Model.load(models.shipped(name)), models.card(name)
    return model, load(card.calibration, model), load(card.test, model)


def accuracy(model: Model, test: DataSource) -> float:
    (scores,) = run(model, next(iter(test.batches(600))), threads=1).values()
    assert test.labels is not None and len(scores) == 600
    return float((scores.argmax(axis=1) == test.labels).mean())


def pruned(name: str, **options: object) -> tuple[float, float]:
    """Return accuracy and share of MACs at half the MACs, scored by l2."""
    model, data, test = prepared(name)
    step = RemoveChannels(budget=MacsBelow(0.5), **options)  # type: ignore[arg-type]
    made = Pipeline([step], verify="structure").run(model, Context(data=data, threads=1))
    told = details(made)
    return accuracy(made.model, test), told["macs_after"] / told["macs_before"]  # type: ignore[operator]


# Measured: 0.985 and 0.988 with least squares; 0.30 and 0.29 as cut.
@pytest.mark.parametrize("name", models.names())
def test_half_the_macs_with_least_squares_keep_the_accuracy(name: str) -> None:
    reached, share = pruned(name, reconstruct=LEAST_SQUARES)

    assert reached > 0.95
    assert 0.45 < share <= 0.5


@pytest.mark.parametrize("name", models.names())
def test_without_it_they_do_not(name: str) -> None:
    reached, _ = pruned(name, absorb=False)

    assert reached < 0.8


@dataclass(frozen=True)
class UpsideDown:
    """A criterion's scores turned round: what it thinks least of stays."""

    criterion: Criterion

    def needs(self, group: ChannelGroup) -> tuple[AnyNeed, ...]:
        return needs_of(self.criterion, group)

    def score(self, group: ChannelGroup, evidence: Evidence) -> Scores:
        score = self.criterion.score(group, evidence)
        return np.asarray(score.max() + score.min() - score)


# Measured with least squares: 0.988 and 0.985 against 0.660 and 0.943.
@pytest.mark.parametrize("name", models.names())
def test_kernel_entropy_beats_itself_upside_down(name: str) -> None:
    """The shares are chosen freely. `hrank` does not pass this on every net: the guide to methods has the figures."""
    kse = criteria.make("kse")
    right, wrong = (
        pruned(name, criterion=each, reconstruct=LEAST_SQUARES)[0] for each in (kse, UpsideDown(kse))
    )

    assert right > 0.97
    assert right > wrong + 0.02


@pytest.mark.parametrize("name", models.names())
def test_the_proof_holds_on_random_images_and_on_two_batches(name: str) -> None:
    model, data, _ = prepared(name)

    (step,) = cut(
        model, RemoveChannels(reconstruct=LEAST_SQUARES), Context(data=data, threads=1)
    ).report.steps

    assert step.verified.how == "reference" and len(step.verified.worlds) == 2
    assert step.verified.error is not None and step.verified.error < 1e-5
    assert step.verified.movement is not None and step.verified.movement > 0.1


@pytest.mark.parametrize("name", models.names())
def test_parameters_are_held_to_the_digit_with_the_biases_that_compensation_adds(name: str) -> None:
    model, data, _ = prepared(name)

    told = details(
        Pipeline([RemoveChannels(budget=ParamsBelow(0.5))], verify="off").run(
            model, Context(data=data, threads=1)
        )
    )

    assert told["compensated"]
    assert 0.48 < told["params_after"] / told["params_before"] <= 0.5  # type: ignore[operator]


def test_eights_are_eights() -> None:
    model, data, test = prepared("digits_resnet")
    step = RemoveChannels(multiple=8, reconstruct=LEAST_SQUARES)

    made = Pipeline([step], verify="structure").run(model, Context(data=data, threads=1)).model

    for conv in made.nodes("Conv"):
        before = next(node for node in model.nodes("Conv") if node.name == conv.name)
        out, old = made.weights[conv.inputs[1].name].shape[0], model.weights[before.inputs[1].name].shape[0]
        assert out % 8 == 0 or out == old
    assert accuracy(made, test) > 0.95
