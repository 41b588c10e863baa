"""Statistics of norms measured anew: what they are, by a plain run of the model, and what stays."""

import numpy as np
import pytest

from graphrewrite.data import ArraySource
from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Builder, Model
from graphrewrite.passes.train import RecalibrateNorms
from graphrewrite.pipeline import Context, Pipeline
from graphrewrite.runtime import run

IMAGES = np.random.default_rng(0).standard_normal((20, 3, 5, 5)).astype(np.float32)
CONTEXT = Context(data=ArraySource({"x": IMAGES}))


def two_norms() -> Model:
    """Two convolutions, each with a norm behind it whose statistics are wrong; the inputs of both are outputs too."""
    b = Builder(seed=3)
    one = b.conv(b.input(["N", 3, 5, 5], "x"), 6, 3, name="one")
    two = b.conv(b.relu(b.batchnorm(one, 6, name="norm")), 4, 6, name="two")
    model = b.model(one, two, b.batchnorm(two, 4, name="last"))
    for tensor, name in zip(model.outputs, ("first", "second", "y"), strict=True):
        tensor.name = name
    return model


def statistics(model: Model, norm: str) -> tuple[np.ndarray, np.ndarray]:
    node = next(node for node in model.nodes("BatchNormalization") if node.name == norm)
    mean, variance = (model.weights[node.inputs[slot].name] for slot in (3, 4))
    return mean, variance


def of(model: Model, output: str) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and unbiased variance of each channel of an output."""
    seen = np.asarray(run(model, {"x": IMAGES}, [output])[output], np.float64)
    return seen.mean(axis=(0, 2, 3)), seen.var(axis=(0, 2, 3), ddof=0) * seen[:, 0].size / (
        seen[:, 0].size - 1
    )


def test_norms_have_the_statistics_of_what_they_see() -> None:
    """In one batch. What the second norm sees follows from the first one's batch, whose variance is the biased one."""
    model = two_norms()
    found = Pipeline([RecalibrateNorms(batch=20)]).run(model, CONTEXT).model

    for ours, seen in zip(statistics(found, "norm"), of(model, "first"), strict=True):
        np.testing.assert_allclose(ours, seen, rtol=1e-4, atol=1e-5)
    for ours, seen in zip(statistics(found, "last"), of(found, "second"), strict=True):
        np.testing.assert_allclose(ours, seen, rtol=1e-2, atol=1e-3)
    assert all(
        not np.allclose(old, seen, rtol=0.1)
        for old, seen in zip(statistics(model, "norm"), of(model, "first"), strict=True)
    )


def test_batches_count_by_their_samples() -> None:
    """Batches of 8, 8 and 4: the mean is that of all samples, which equal weights of the batches would miss."""
    model = two_norms()
    found = Pipeline([RecalibrateNorms(batch=8)]).run(model, CONTEXT).model
    by_batches = np.mean(
        [
            run(model, {"x": part})["first"].mean(axis=(0, 2, 3))
            for part in (IMAGES[:8], IMAGES[8:16], IMAGES[16:])
        ],
        axis=0,
    )

    np.testing.assert_allclose(statistics(found, "norm")[0], of(model, "first")[0], rtol=1e-4, atol=1e-6)
    assert not np.allclose(by_batches, of(model, "first")[0], rtol=1e-4, atol=1e-6)


def test_nothing_else_changes() -> None:
    model = two_norms()
    found = Pipeline([RecalibrateNorms()]).run(model, CONTEXT).model

    changed = {name for name, w in model.weights.items() if not np.array_equal(w, found.weights[name])}
    assert changed == {
        node.inputs[slot].name for node in model.nodes("BatchNormalization") for slot in (3, 4)
    }


def test_a_model_without_norms_is_left_alone() -> None:
    b = Builder()
    model = b.model(b.conv(b.input(["N", 3, 5, 5], "x"), 2, 3))
    result = Pipeline([RecalibrateNorms()]).run(model, CONTEXT)
    assert not result.changed and "no batch norms" in result.notes[0].text


def test_impossible_requests() -> None:
    with pytest.raises(InvalidConfig, match="data"):
        RecalibrateNorms().run(two_norms(), Context())
    with pytest.raises(InvalidConfig, match="2 or more"):
        RecalibrateNorms(batch=1)
