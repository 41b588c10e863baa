"""Leader and students in one graph, and the leader alone again."""

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest

from graphrewrite.bridge.recipe import Recipe, Stage
from graphrewrite.data import ArraySource
from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Model
from graphrewrite.ir.beside import beside
from graphrewrite.passes.losses.cross_entropy import CrossEntropy
from graphrewrite.passes.recipes.ffsd import Ffsd, drawn_anew, taken_out
from graphrewrite.passes.train import FineTune
from graphrewrite.passes.train.stages import last_maps
from graphrewrite.pipeline import Context, Pipeline
from graphrewrite.pipeline.manager import PipelineResult
from graphrewrite.serial import from_json, to_json
from tests.methods.residual import net


def small(seed: int = 0) -> Model:
    """Three resolutions of few channels."""
    return net(seed, (2, 4, 6))


def context(samples: int = 16) -> Context:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((samples, 1, 16, 16)).astype(np.float32)
    return Context(data=ArraySource({"image": x}, rng.integers(0, 10, samples)), seed=3)


def sizes(model: Model) -> dict[str, tuple[int, ...]]:
    return {name: weight.shape for name, weight in model.weights.items()}


@lru_cache
def after(**fields: float) -> PipelineResult:
    """Two steps of training by the recipe."""
    step = replace(Ffsd(epochs=1, rate=0.1, batch=8), **fields)  # type: ignore[arg-type]
    return Pipeline([step]).run(small(), context())


def gap(one: Model, other: Model) -> float:
    """The largest difference of two models' numbers."""
    return max(
        float(np.abs(np.float64(weight) - np.float64(other.weights[name])).max())
        for name, weight in one.weights.items()
    )


def test_the_leader_comes_back_as_the_graph_that_went_in() -> None:
    model, result = small(), after()
    assert [(node.name, node.op) for node in result.model.nodes()] == [
        (node.name, node.op) for node in model.nodes()
    ]
    assert sizes(result.model) == sizes(model)
    assert [tensor.name for tensor in result.model.outputs] == ["scores"]
    assert all(
        not np.array_equal(weight, result.model.weights[name]) for name, weight in model.weights.items()
    )
    details = result.report.steps[0].details
    assert details["maps"] == [*last_maps(model)] and details["weights"] == [*model.weights]


def test_with_all_weights_at_zero_the_leader_learns_as_by_labels_alone() -> None:
    stage = Stage(1, 0.1, (CrossEntropy(tensor="scores"),), Ffsd().schedule)
    alone = FineTune(Recipe((stage,), Ffsd().optimiser, 8))
    want = Pipeline([alone]).run(small(), context()).model
    assert gap(want, after(distill=0.0, fusion=0.0, diversity=0.0, decoding=0.0).model) < 1e-5
    assert gap(want, after().model) > 1e-2
    assert gap(want, after(fusion=0.0, diversity=0.0, decoding=0.0).model) > 1e-3


def test_students_are_drawn_anew_by_a_share_and_keep_their_deviation() -> None:
    model = net()
    name = next(name for name, weight in model.weights.items() if weight.shape == (64, 64, 3, 3))
    old = np.float64(model.weights[name])
    rng = np.random.default_rng(0)
    for share in (0.0, 0.3, 1.0):
        new = np.float64(drawn_anew(model, share, rng).weights[name])
        assert new.std() == pytest.approx(old.std(), rel=0.02)
        # What is left of the old is its share of the new: the correlation is sqrt(1 - share^2).
        assert np.corrcoef(old.ravel(), new.ravel())[0, 1] == pytest.approx(np.sqrt(1 - share**2), abs=0.02)
    vectors = [name for name, weight in model.weights.items() if weight.ndim == 1]
    drawn = drawn_anew(model, 1.0, rng)
    assert all(np.array_equal(model.weights[name], drawn.weights[name]) for name in vectors)
    assert model.weights[name].tobytes() == net().weights[name].tobytes()


def test_the_part_with_the_model_s_own_names_is_taken_out() -> None:
    one, other = small(1), small(2)
    whole = beside({"": one, "b/": other})
    back = taken_out(whole, other)  # the same graph with other numbers
    assert all(np.array_equal(back.weights[name], weight) for name, weight in one.weights.items())


def test_one_student_teaches_too() -> None:
    last = last_maps(small())[-1:]
    result = Pipeline([Ffsd(students=1, epochs=1, batch=16, maps=last)]).run(small(), context())
    assert result.changed and result.report.steps[0].details["maps"] == [*last]


def test_it_is_text_and_back() -> None:
    step = Ffsd(students=3, maps=("a", "b"), fusion=1.0)
    assert from_json(to_json(step, Ffsd), Ffsd) == step
    recipe = step.recipe(("a", "b"), "z")
    assert Recipe.from_json(recipe.to_json()) == recipe


@pytest.mark.parametrize(
    "fields", [{"students": 0}, {"apart": 1.5}, {"epochs": 0}, {"temperature": 0.0}, {"ramp": -1.0}]
)
def test_impossible_settings_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(InvalidConfig):
        Ffsd(**fields)  # type: ignore[arg-type]
