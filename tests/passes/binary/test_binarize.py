"""Dense convolutions become sums of signs with one size per filter."""

import numpy as np
import pytest

from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Builder, Model
from graphrewrite.passes.binary import BinarizeConv, LowerBinaryConv
from graphrewrite.pipeline import Context, Pipeline
from graphrewrite.runtime import run


def residual() -> Model:
    b = Builder(seed=1)
    x = b.input(["N", 8, 6, 6], "x")
    stem = b.relu(b.conv(x, out=16, into=8, name="stem"))
    inner = b.relu(b.batchnorm(b.conv(stem, out=16, into=16, name="inner", bias=False), 16))
    back = b.batchnorm(b.conv(inner, out=16, into=16, name="back"), 16)
    flat = b.op("Flatten", b.op("GlobalAveragePool", b.relu(b.add(stem, back))), axis=1)
    return b.model(b.linear(flat, out=4, into=16, name="head"))


def binarized(model: Model, step: BinarizeConv | None = None) -> Model:
    return Pipeline([step or BinarizeConv()]).run(model, Context()).model


def sign_convs(model: Model) -> int:
    return sum(
        set(np.unique(model.weights[node.inputs[1].name])) == {-1.0, 1.0} for node in model.nodes("Conv")
    )


def test_a_filter_becomes_its_signs_times_its_mean_size() -> None:
    """Two filters of 2 x 2 weights, by hand: sizes 2 and 0.75, and 0 counts as +."""
    b = Builder(seed=2)
    x = b.input([1, 1, 2, 2], "x")
    weight = np.array([[[[1, -3], [0, 4]]], [[[-1, 1], [-0.5, 0.5]]]], np.float32)
    model = b.model(b.op("Conv", x, b.constant(weight), b.constant(np.array([0.5, -0.5], np.float32))))

    after = binarized(model, BinarizeConv(ends=True, least_signs=1))

    # Signs of x: + - + +; sums 1 + 1 + 1 + 1 = 4 and -1 - 1 - 1 + 1 = -2.
    fed = {"x": np.array([[[[3, -1], [0, 0.1]]]], np.float32)}
    (y,) = run(after, fed).values()
    assert y.reshape(2).tolist() == [4 * 2 + 0.5, -2 * 0.75 - 0.5]


def test_the_ends_and_small_filters_stay() -> None:
    result = Pipeline([BinarizeConv()]).run(residual(), Context())

    assert sign_convs(result.model) == 2
    assert {note.subject: note.text for note in result.notes if note.kind == "skipped"} == {
        "stem": "it is the first layer"
    }


def test_the_ends_too() -> None:
    assert sign_convs(binarized(residual(), BinarizeConv(ends=True))) == 3


def test_small_filters_stay() -> None:
    result = Pipeline([BinarizeConv(least_signs=145)]).run(residual(), Context())

    assert not result.changed
    assert "a filter has 144 weights, fewer than 145" in [note.text for note in result.notes]


def test_skip() -> None:
    model = binarized(residual(), BinarizeConv(skip=("inn*",)))

    assert sign_convs(model) == 1 and "inner" in [node.name for node in model.nodes("Conv")]


def test_a_net_without_convolutions_is_told_so() -> None:
    b = Builder(seed=0)
    result = Pipeline([BinarizeConv()]).run(b.model(b.linear(b.input(["N", 4], "x"), 4, 4)), Context())
    assert not result.changed
    assert [note.text for note in result.notes] == ["it has no convolution, and only these become binary"]


def test_a_skip_pattern_that_names_nothing_is_an_error() -> None:
    with pytest.raises(InvalidConfig, match="'nothing'"):
        BinarizeConv(skip=("nothing",)).run(residual(), Context())


def test_least_signs_is_checked() -> None:
    with pytest.raises(InvalidConfig, match="least_signs"):
        BinarizeConv(least_signs=0)


def test_signs_are_taken_before_a_rectifier() -> None:
    """What comes out of one is never negative, and its sign says nothing."""
    model = binarized(residual())

    readers = {node.inputs[0].inputs[0].op for node in model.nodes("GreaterOrEqual")}
    assert readers == {"Conv", "BatchNormalization"}


def test_twice_is_once() -> None:
    once = binarized(residual())

    again = Pipeline([BinarizeConv()]).run(once, Context())

    assert not again.changed
    assert [n.text for n in again.notes if n.text.startswith("it is binary")] == ["it is binary already"] * 2


def test_what_comes_out_can_be_lowered() -> None:
    model = Pipeline([BinarizeConv(), LowerBinaryConv()]).run(residual(), Context()).model

    assert [node.op for node in model.graph.nodes if node.domain == "graphrewrite"] == [
        "BinaryConvToBits",
        "BinaryConvFromBits",
    ]
