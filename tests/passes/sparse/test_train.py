"""Training under zeros: the recipe it stands for, what learns, and what does not."""

import numpy as np
import pytest

from graphrewrite.bridge.recipe import Recipe, Stage
from graphrewrite.data import ArraySource
from graphrewrite.errors import InvalidConfig, InvalidData
from graphrewrite.ir import Builder, Model
from graphrewrite.passes.losses.cross_entropy import CrossEntropy
from graphrewrite.passes.losses.mse import Mse
from graphrewrite.passes.losses.soft_labels import SoftLabels
from graphrewrite.passes.sparse import MaskBlocks, TrainSparse
from graphrewrite.passes.sparse.masks.one_by_n import OneByN
from graphrewrite.passes.sparse.train import momentum
from graphrewrite.pipeline import Context, Pipeline
from graphrewrite.runtime import session

RNG = np.random.default_rng(0)
SAMPLES = {"x": RNG.standard_normal((64, 6)).astype(np.float32)}
LABELS = (SAMPLES["x"][:, 0] > 0).astype(np.int64)


def scores_of(model: Model) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Return what a model says of all samples."""
    (found,) = session(model).run(None, SAMPLES)
    return np.asarray(found, np.float32)


def net() -> Model:
    """Three products, the last with a softmax behind it."""
    b = Builder(seed=2)
    x = b.relu(b.linear(b.input(["N", 6], "x"), 16, 6, name="one"))
    x = b.relu(b.linear(x, 16, 16, name="two"))
    return b.model(b.op("Softmax", b.linear(x, 2, 16, name="three"), axis=1))


def test_it_is_the_recipe_it_says() -> None:
    stage = Stage(4, 0.02, (CrossEntropy(tensor="scores"),), keep_zeros=("*",))

    assert TrainSparse(4, 0.02, batch=32).recipe("scores") == Recipe((stage,), momentum(4e-5), 32)
    assert TrainSparse(learn_from="teacher").recipe(None).stages[0].losses == (SoftLabels(4.0),)
    assert TrainSparse(learn_from="targets").recipe(None).stages[0].losses == (Mse(),)
    assert TrainSparse(learn_from="output").recipe(None).stages[0].losses == (Mse(of="teacher"),)


@pytest.mark.parametrize("learn_from", ["labels", "teacher"])
def test_weights_learn_and_zeros_stay(learn_from: str) -> None:
    pytest.importorskip("accelerate")
    masked = MaskBlocks(OneByN(4), 0.5, rearrange=False)
    trained = TrainSparse(2, 0.1, learn_from, batch=16)  # type: ignore[arg-type]
    labels = LABELS if learn_from == "labels" else None

    result = Pipeline([masked, trained]).run(net(), Context(data=ArraySource(SAMPLES, labels)))

    start = Pipeline([masked]).run(net()).model
    moved = {name: np.mean(w != start.weights[name]) for name, w in result.model.weights.items()}
    (two,) = (node.inputs[1].name for node in start.nodes("Gemm") if node.name == "two")
    assert np.mean(start.weights[two] == 0) == 0.5
    assert np.array_equal(result.model.weights[two] == 0, start.weights[two] == 0)
    assert moved[two] > 0.4 and min(moved.values()) > 0


@pytest.mark.parametrize("learn_from", ["targets", "output"])
def test_numbers_are_learned_without_classes(learn_from: str) -> None:
    pytest.importorskip("accelerate")
    b = Builder(seed=2)
    x = b.relu(b.linear(b.input(["N", 6], "x"), 16, 6, name="one"))
    dense = b.model(b.linear(b.relu(b.linear(x, 16, 16, name="two")), 1, 16, name="three"))
    masked = Pipeline([MaskBlocks(OneByN(4), 0.5, rearrange=False)]).run(dense).model
    wanted = scores_of(dense) if learn_from == "output" else SAMPLES["x"][:, :1]

    labels = None if learn_from == "output" else wanted
    step = TrainSparse(20, 0.05, learn_from, batch=16)  # type: ignore[arg-type]
    after = step.run(masked, Context(data=ArraySource(SAMPLES, labels), original=dense)).model

    def away(model: Model) -> float:
        return float(np.square(scores_of(model) - wanted).mean())

    assert away(after) < 0.3 * away(masked)


def test_a_number_has_no_teacher_of_classes() -> None:
    # Softened scores of a single class are always 1: nothing would be learned.
    pytest.importorskip("accelerate")
    student, teacher = (
        b.model(b.linear(b.input(["N", 6], "x"), 1, 6)) for b in (Builder(seed=2), Builder(seed=3))
    )
    with pytest.raises(InvalidData, match="scores no classes"):
        TrainSparse(1, learn_from="teacher").run(
            student, Context(data=ArraySource(SAMPLES), original=teacher)
        )


def test_labels_are_missed() -> None:
    pytest.importorskip("accelerate")
    with pytest.raises(InvalidData, match="labels"):
        TrainSparse(1).run(net(), Context(data=ArraySource(SAMPLES)))


def test_impossible_options() -> None:
    with pytest.raises(InvalidConfig, match="learn_from"):
        TrainSparse(learn_from="nobody")  # type: ignore[arg-type]
    with pytest.raises(InvalidConfig, match="epochs"):
        TrainSparse(epochs=0)
