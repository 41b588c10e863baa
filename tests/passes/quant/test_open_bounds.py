"""Bounds that samples never reach: gone where asked, so that channels behind them can be evened out."""

import numpy as np
import pytest

from graphrewrite.data import ArraySource
from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Builder, Model
from graphrewrite.passes.quant import EqualizeChannels, OpenBounds
from graphrewrite.pipeline import Context, Pipeline
from graphrewrite.runtime import run


def net(high: float, opset: int = 17) -> Model:
    """Two convolutions of one pixel with a Clip between them that reads exactly what x holds, and half of it."""
    b = Builder(opset=opset)
    x = b.input(["N", 1, 2, 2], "x")
    y = b.op("Conv", x, b.constant(np.array([1, 0.5], np.float32).reshape(2, 1, 1, 1)), name="first")
    if opset < 11:
        y = b.op("Clip", y, name="bound", min=0.0, max=high)
    else:
        y = b.op("Clip", y, b.constant(np.float32(0)), b.constant(np.float32(high)), name="bound")
    return b.model(
        b.op("Conv", y, b.constant(np.array([1, 9], np.float32).reshape(1, 2, 1, 1)), name="second")
    )


SAMPLES = ArraySource({"x": np.linspace(-1, 5.3, 16, dtype=np.float32).reshape(4, 1, 2, 2)})


@pytest.mark.parametrize("opset", [9, 17])
def test_a_bound_that_nothing_comes_near_becomes_a_relu(opset: int) -> None:
    model = net(6.0, opset)

    result = Pipeline((OpenBounds(),)).run(model, Context(data=SAMPLES))

    assert [node.op for node in result.model.graph.nodes] == ["Conv", "Relu", "Conv"]
    assert result.notes[-1].text == "reaches 5.3 of 6: a Relu now"
    feeds = next(SAMPLES.batches(4))
    for name, values in run(model, feeds).items():
        np.testing.assert_array_equal(run(result.model, feeds)[name], values)


@pytest.mark.parametrize(("high", "share"), [(5.8, 0.9), (5.0, 1.0), (6.0, 0.8)])
def test_a_bound_that_a_sample_comes_near_stays(high: float, share: float) -> None:
    result = Pipeline((OpenBounds(share),)).run(net(high), Context(data=SAMPLES))

    assert not result.changed and result.notes[-1].text == f"reaches 5.3 of {high:g}"


def test_channels_are_evened_out_behind_it() -> None:
    context = Context(data=SAMPLES)

    assert not Pipeline((EqualizeChannels(),)).run(net(6.0), context).changed
    even = Pipeline((OpenBounds(), EqualizeChannels())).run(net(6.0), context)

    # sqrt(1 / 1) = 1 and sqrt(0.5 / 9): both sides hold sqrt(0.5 * 9) then.
    first, second = (node.inputs[1].values.reshape(-1) for node in even.model.nodes("Conv"))
    np.testing.assert_allclose(first, [1, np.sqrt(4.5)], rtol=1e-6)
    np.testing.assert_allclose(second, [1, np.sqrt(4.5)], rtol=1e-6)


def test_samples_and_possible_settings_are_asked_for() -> None:
    with pytest.raises(InvalidConfig, match="there is no data"):
        Pipeline((OpenBounds(),)).run(net(6.0))
    for fields in ({"share": 0.0}, {"share": 1.1}, {"batch": 0}):
        with pytest.raises(InvalidConfig, match=r"OpenBounds\.\w+ is"):
            OpenBounds(**fields)
