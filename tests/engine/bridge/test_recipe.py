"""Recipes: the same after JSON, refused where they cannot be, and the course of their rates by hand."""

import json
import math
from pathlib import Path

import pytest
import torch

from graphrewrite.bridge import EarlyStop, Optimiser, Recipe, Stage
from graphrewrite.bridge.optimisers import Group
from graphrewrite.bridge.schedules import Constant, Cosine, Linear, Schedule, Steps
from graphrewrite.bridge.transforms import Mask, Sign, StepQuantize
from graphrewrite.errors import InvalidConfig, UnknownNameError
from graphrewrite.passes.losses.cross_entropy import CrossEntropy
from graphrewrite.passes.losses.feature_match import FeatureMatch
from graphrewrite.passes.losses.soft_labels import SoftLabels
from graphrewrite.serial import Json


def full() -> Recipe:
    """Return a recipe with every field set to something of its own."""
    first = Stage(
        epochs=3,
        rate=0.1,
        losses=(CrossEntropy(0.1), SoftLabels(2.0, weight=0.5)),
        schedule=Steps((0.25,), 0.5),
        warmup=0.5,
        transforms={"*.weight": Sign(), "relu*": StepQuantize(4, signed=False), "conv": Mask()},
        trainable=("a*", "b"),
        frozen=("ab",),
        undecayed=("a.bias",),
        transform_rate=0.1,
        keep_zeros=("*",),
        norms="frozen",
    )
    second = Stage(losses=(FeatureMatch({"x": "y"}, "unit"),), schedule=Linear(0.1))
    return Recipe(
        (first, second),
        Optimiser("RMSprop", {"alpha": 0.9, "centered": True}),
        batch=32,
        accumulate=4,
        precision="bf16",
        clip=1.0,
        ema=0.99,
        early_stop=EarlyStop(2, 0.01),
        trainable=("scale",),
        seed=7,
    )


def test_a_recipe_is_the_same_after_json(tmp_path: Path) -> None:
    recipe = full()
    file = tmp_path / "recipe.json"
    file.write_text(json.dumps(recipe.to_json()))
    assert Recipe.load(file) == recipe


def test_a_misspelt_field_and_an_unknown_loss_are_named() -> None:
    document = full().to_json()
    with pytest.raises(InvalidConfig, match="did you mean accumulate"):
        Recipe.from_json({**document, "acumulate": 1})
    stage: Json = {"losses": [{"name": "cross_entropi"}]}
    with pytest.raises(UnknownNameError, match="cross_entropy"):
        Recipe.from_json({"stages": [stage]})


def test_a_file_that_is_no_recipe_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match="cannot be read"):
        Recipe.load(tmp_path / "absent.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(InvalidConfig, match="not JSON"):
        Recipe.load(tmp_path / "bad.json")


LOSS = (CrossEntropy(),)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Recipe(()), "stages is empty"),
        (lambda: Recipe((Stage(losses=LOSS),), batch=0), "batch of 0"),
        (lambda: Recipe((Stage(losses=LOSS),), batch=4, accumulate=5), "5 passes"),
        (lambda: Recipe((Stage(losses=LOSS),), precision="fp8"), "fp8"),  # type: ignore[arg-type]
        (lambda: Recipe((Stage(losses=LOSS),), clip=0.0), "clip is 0"),
        (lambda: Recipe((Stage(losses=LOSS),), ema=1.0), "ema is 1"),
        (lambda: Recipe((Stage(losses=LOSS),), seed=-1), "seed is -1"),
        (lambda: Stage(), "losses is empty"),
        (lambda: Stage(0, losses=LOSS), "epochs is 0"),
        (lambda: Stage(rate=math.nan, losses=LOSS), "rate is nan"),
        (lambda: Stage(2, warmup=3, losses=LOSS), "warmup is 3"),
        (lambda: Stage(losses=LOSS, norms="off"), "norms is 'off'"),  # type: ignore[arg-type]
        (lambda: Stage(losses=LOSS, frozen="conv*"), "write \\('conv\\*',\\)"),  # type: ignore[arg-type]
        (lambda: EarlyStop(0), "patience=0"),
        (lambda: Optimiser("sgd", {"lr": 1.0}), "Stage.rate"),
        (lambda: Steps((1.5,)), "makes no course"),
        (lambda: Cosine(2.0), "floor is 2"),
        (lambda: StepQuantize(1), "bits is 1"),
    ],
)
def test_what_cannot_be_is_refused(make: object, message: str) -> None:
    assert callable(make)
    with pytest.raises(InvalidConfig, match=message):
        make()


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        (Constant(), [1, 1, 1, 1]),
        (Linear(), [1, 0.75, 0.5, 0.25]),
        (Linear(0.5), [1, 0.875, 0.75, 0.625]),
        (Cosine(), [1, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2]),
        (Steps((0.5, 0.75), 0.1), [1, 1, 0.1, 0.01]),
    ],
)
def test_rates_run_over_the_stage(schedule: Schedule, rates: list[float]) -> None:
    stage = Stage(2, 1.0, LOSS, schedule)
    assert [stage.rate_at(step, 2) for step in range(4)] == pytest.approx(rates)


def test_the_rate_rises_first_and_then_runs_over_what_is_left() -> None:
    stage = Stage(3, 4.0, LOSS, Linear(), warmup=1.0)
    # Three steps of a rise to the fourth, then a line over the other six of nine.
    want = [1, 2, 3, 4, 4 * 5 / 6, 4 * 4 / 6, 2, 4 * 2 / 6, 4 / 6]
    assert [stage.rate_at(step, 3) for step in range(9)] == pytest.approx(want)


def test_any_optimiser_of_torch_is_had_by_its_name() -> None:
    weight, step = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(()))
    groups = [Group([weight]), Group([]), Group([step], decays=False, factor=0.1)]
    made = Optimiser("sgd", {"momentum": 0.9, "weight_decay": 0.1}).make(groups, 0.5)
    assert isinstance(made, torch.optim.SGD)
    assert [group["weight_decay"] for group in made.param_groups] == [0.1, 0.0]
    assert [group["lr"] for group in made.param_groups] == [0.5, 0.05]
    assert isinstance(Optimiser("NAdam").make([Group([weight])], 0.5), torch.optim.NAdam)


@pytest.mark.parametrize(
    ("optimiser", "error", "message"),
    [
        (Optimiser("adamm"), UnknownNameError, "adam"),
        (Optimiser("Optimizer"), UnknownNameError, "no optimiser"),
        (Optimiser("sgd", {"momentun": 1}), InvalidConfig, "momentun"),
        (Optimiser("sgd", {"momentum": -1}), InvalidConfig, "momentum"),
        (Optimiser("LBFGS"), InvalidConfig, "one gradient"),
    ],
)
def test_an_optimiser_that_cannot_be_is_refused(
    optimiser: Optimiser, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        optimiser.make([Group([torch.nn.Parameter(torch.ones(2))])], 0.5)
