"""Bends in front of rectifiers: nothing changes at first, and what stands below zero can be learned."""

import numpy as np
import pytest

from graphrewrite.bridge import Optimiser
from graphrewrite.data import ArraySource
from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Builder, Model
from graphrewrite.passes.quant.bend import BendRectifiers
from graphrewrite.passes.quant.quantizers.n2uq import N2uq
from graphrewrite.passes.recipes.qat import QuantizeAware
from graphrewrite.passes.train import Distill
from graphrewrite.pipeline import Context, Pass, Pipeline
from graphrewrite.runtime import run
from tests.passes.quant.learning import feed


def net() -> Model:
    """Rectifiers behind a convolution, a sum, and before an output."""
    b = Builder(seed=0)
    stem = b.conv(b.input(["N", 1, 8, 8], "x"), 4, 1, name="stem")
    total = b.add(stem, b.conv(b.relu(stem), 4, 4, name="inner"))
    return b.model(b.relu(b.conv(b.relu(total), 2, 4, name="last")))


def test_rectifiers_that_layers_read_are_bent_and_outputs_stay() -> None:
    before = net()
    result = Pipeline([BendRectifiers()]).run(before)
    after = result.model

    assert [note.kind for note in result.notes] == ["done", "done"]
    assert (len(after.nodes("PRelu")), len(after.nodes("Relu"))) == (2, 3)
    # Two shifts behind bends; one before, at the sum, where no layer has a bias.
    assert len(after.nodes("Add")) - len(before.nodes("Add")) == 3
    (old,), (new,) = (run(model, {"x": feed()}).values() for model in (before, after))
    assert np.array_equal(np.asarray(old), np.asarray(new))


def test_shifts_and_slopes_do_what_they_say() -> None:
    b = Builder(seed=0)
    b.graph.outputs.append(b.relu(b.input(["N", 2], "x")))
    model = b.model(b.linear(b.graph.outputs.pop(), 1, 2, name="last"))
    found = Pipeline([BendRectifiers(slope=0.5)]).run(model).model
    rectified = found.nodes("Relu")[0].outputs[0].name
    before, slope, behind = (
        next(name for name in found.weights if name.endswith(end)) for end in ("before", "slope", "behind")
    )
    assert np.asarray(found.weights[slope]).tolist() == [0.5, 0.5]
    found.weights[before] = np.array([1, 0], np.float32)
    found.weights[behind] = np.array([0, 3], np.float32)
    x = np.array([[-2, -4], [-0.5, -8], [2, 1]], np.float32)
    # First channel: x + 1, halved below zero, then cut at zero. Second: halved below zero, 3 more, cut at zero.
    assert np.asarray(run(found, {"x": x}, [rectified])[rectified]).tolist() == [[0, 1], [0.5, 0], [3, 4]]


def test_what_is_bent_is_not_bent_again() -> None:
    once = Pipeline([BendRectifiers()]).run(net()).model
    assert not Pipeline([BendRectifiers()]).run(once).changed


def test_rectifiers_of_unknown_width_are_left_and_told() -> None:
    b = Builder(seed=0)
    model = b.model(b.op("MatMul", b.relu(b.input(["N", "C"], "x")), b.constant(np.ones((3, 2), np.float32))))
    result = Pipeline([BendRectifiers()]).run(model)
    assert not result.changed and "not known" in result.notes[0].text


def test_slopes_that_cannot_be_are_refused() -> None:
    with pytest.raises(InvalidConfig, match="from 0 to 1"):
        BendRectifiers(-0.1)


def test_a_bent_net_is_trained_and_deployed() -> None:
    x = np.concatenate([feed(32), feed(32, seed=1)])
    training = Distill(8, 0.05, optimiser=Optimiser("adam"))
    steps: list[Pass] = [BendRectifiers(), QuantizeAware(N2uq(2), training, first_bits=2, last_bits=2)]
    result = Pipeline(steps).run(net(), Context(data=ArraySource({"x": x})))

    assert result.report.steps[-1].verified.error == 0.0
    weights = {name: np.asarray(each, np.float32) for name, each in result.model.weights.items()}
    for end in ("slope", "behind", "before"):
        assert any(np.ptp(each) > 0 for name, each in weights.items() if name.endswith(end)), end
