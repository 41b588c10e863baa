"""FDDA as a whole: where it rounds, what it learns from, what it writes."""

import numpy as np
import pytest

from graphrewrite.bridge.transforms import SpanQuantize
from graphrewrite.data import ArraySource
from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Builder, Model
from graphrewrite.passes.recipes.fdda import QuantizeFdda, joined
from graphrewrite.passes.synth.synthesisers.fdda import Fdda
from graphrewrite.passes.tidy import Tidy
from graphrewrite.pipeline import Context, Pipeline
from graphrewrite.runtime import run
from tests.passes.quant.nets import served


def net() -> Model:
    b = Builder(opset=17, seed=1)
    y = b.relu(b.batchnorm(b.conv(b.input(["N", 1, 6, 6], "image"), 4, 1, name="one"), 4))
    y = b.relu(b.batchnorm(b.conv(y, 6, 4, name="two"), 6))
    return b.model(b.linear(b.op("Flatten", b.op("GlobalAveragePool", y)), 3, 6, name="head"))


def few(model: Model) -> ArraySource:
    images = np.random.default_rng(0).standard_normal((6, 1, 6, 6)).astype(np.float32)
    (scores,) = run(model, {"image": images}).values()
    return ArraySource({"image": images}, np.asarray(scores).argmax(axis=1))


def bits_of(step: QuantizeFdda) -> list[tuple[int, bool]]:
    """Return bits of every place, and whether it is a weight, in the order of the graph."""
    student = Pipeline([Tidy()]).run(net()).model
    found = step.places(student)
    return [
        (each.bits, name in student.weights) for name, each in found.items() if isinstance(each, SpanQuantize)
    ]


def test_weights_are_rounded_and_what_layers_read_but_the_image() -> None:
    assert bits_of(QuantizeFdda(2, 4)) == [(2, True), (2, True), (4, False), (2, True), (4, False)]


def test_ends_may_keep_more_bits() -> None:
    assert bits_of(QuantizeFdda(2, 4, end_bits=8)) == [
        (8, True),
        (2, True),
        (4, False),
        (8, True),
        (8, False),
    ]


def test_real_samples_are_repeated_to_as_many_as_were_made() -> None:
    real = ArraySource({"x": np.array([[1.0], [2.0]])}, np.array([0, 1]))
    made = ArraySource({"x": np.array([[5.0], [6.0], [7.0]])}, np.array([2, 0, 1]))

    found = joined(real, made)

    assert np.asarray(found.arrays["x"]).ravel().tolist() == [1, 2, 1, 5, 6, 7]
    assert found.labels is not None and found.labels.tolist() == [0, 1, 0, 2, 0, 1]


def test_what_comes_out_holds_codes_of_so_many_bits_and_runs() -> None:
    model = net()
    step = QuantizeFdda(3, 3, synthesiser=Fdda(epochs=1, steps=1, batch=4, width=8), samples=6, epochs=1)

    result = Pipeline([step]).run(model, Context(data=few(model)))

    out, feeds = result.model, {"image": few(model).arrays["image"]}
    assert not out.nodes("BatchNormalization")
    layers = [*out.nodes("Conv"), *out.nodes("Gemm")]
    weights = [
        np.asarray(each) for each in run(out, feeds, [node.inputs[1].name for node in layers]).values()
    ]
    assert len(weights) == 3
    assert all(len(np.unique(row)) <= 8 for weight in weights for row in weight)
    assert served(out)["QGemm"] == 1
    assert result.notes[-1].text == "1 layers compute in them: head"
    assert len(out.nodes("QuantizeLinear")) == 2
    assert "6 samples and 6 made" in result.notes[-2].text


def test_without_images_it_says_so() -> None:
    with pytest.raises(InvalidConfig, match="no images to begin with"):
        QuantizeFdda().run(net(), Context())


def test_an_old_operator_set_is_left_alone() -> None:
    b = Builder(opset=12, seed=0)
    model = b.model(b.batchnorm(b.conv(b.input(["N", 1, 6, 6], "image"), 4, 1, name="one"), 4))

    assert not Pipeline([QuantizeFdda()]).run(model, Context()).changed


@pytest.mark.parametrize(
    "fields", [{"weight_bits": 1}, {"end_bits": 9}, {"samples": 0}, {"epochs": 0}], ids=str
)
def test_settings_that_cannot_be_are_refused(fields: dict[str, int]) -> None:
    with pytest.raises(InvalidConfig):
        QuantizeFdda(**fields)  # type: ignore[arg-type]
