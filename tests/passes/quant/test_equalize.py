"""Channels evened out: nothing changes in floats, and a net that one scale ruined comes through."""

import numpy as np
import pytest

from graphrewrite.data import ArraySource
from graphrewrite.errors import InvalidConfig, VerificationError
from graphrewrite.ir import Array, Builder, Model
from graphrewrite.passes.quant import EqualizeChannels, InsertQdq, equalize
from graphrewrite.passes.quant.equalize import Held
from graphrewrite.passes.quant.grid import Floats
from graphrewrite.pipeline import Context, Pass, Pipeline, PipelineResult
from graphrewrite.runtime import run


def unbalanced(spread: float) -> Model:
    """Draw stem, depthwise and pointwise convolutions whose channels were scaled by powers of ten on purpose."""
    b = Builder(opset=17, seed=2)
    x = b.input(["N", 3, 10, 10], "x")
    factors = np.logspace(-spread / 2, spread / 2, 16)[b.rng.permutation(16)]
    sizes = {1: (16, 3, 3, 3), 2: (16, 1, 3, 3), 3: (4, 16, 1, 1)}
    weights = {
        key: b.rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:])) for key, shape in sizes.items()
    }
    column = factors.reshape(-1, 1, 1, 1)
    weights = {
        1: weights[1] * column,
        2: weights[2] / column**2,
        3: weights[3] * factors.reshape(1, -1, 1, 1),
    }
    wide = {key: b.constant(values.astype(np.float32)) for key, values in weights.items()}
    bias = b.constant((0.1 * factors).astype(np.float32))
    y = b.relu(b.op("Conv", x, wide[1], bias, pads=[1, 1, 1, 1]))
    y = b.op("MaxPool", b.relu(b.op("Conv", y, wide[2], group=16)), kernel_shape=[2, 2])
    return b.model(b.op("Conv", y, wide[3]))


def signal(steps: tuple[Pass, ...], model: Model) -> float:
    """Return the signal to noise of what steps make of a model, in dB."""
    x = np.random.default_rng(0).standard_normal((16, 3, 10, 10)).astype(np.float32)
    result = Pipeline(steps).run(model, Context(data=ArraySource({"x": x}))).model
    exact, other = (_output(each, x).astype(np.float64) for each in (model, result))
    return float(10 * np.log10(np.square(exact).sum() / np.square(other - exact).sum()))


def _output(model: Model, x: Array) -> Array:
    (values,) = run(model, {"x": x}).values()
    return values


def test_a_net_that_one_scale_ruins_comes_through() -> None:
    model, step = unbalanced(4.0), InsertQdq(per_channel=False)

    alone, both = signal((step,), model), signal((EqualizeChannels(), step), model)

    assert alone < 15 and both > alone + 15


def test_ranges_are_alike_on_both_sides_afterwards() -> None:
    result = Pipeline((EqualizeChannels(turns=50),)).run(unbalanced(3.0))

    assert result.report.steps[-1].verified.how == "same"
    first, second, third = (node.inputs[1].values for node in result.model.nodes("Conv"))
    made = np.abs(first).max(axis=(1, 2, 3)), np.abs(second).max(axis=(1, 2, 3))
    read = np.abs(second).max(axis=(1, 2, 3)), np.abs(third).max(axis=(0, 2, 3))
    np.testing.assert_allclose(made[0], read[0], rtol=0.03)
    np.testing.assert_allclose(made[1], read[1], rtol=0.03)


def test_a_balanced_net_is_left_alone() -> None:
    once = Pipeline((EqualizeChannels(turns=99),)).run(unbalanced(1.0)).model

    assert not Pipeline((EqualizeChannels(),)).run(once).changed


def test_what_rounding_does_not_gain_by_is_left_alone() -> None:
    x = np.random.default_rng(0).standard_normal((16, 3, 10, 10)).astype(np.float32)

    def after(spread: float, per_channel: bool) -> PipelineResult:
        step = EqualizeChannels(step=InsertQdq(per_channel=per_channel))
        return Pipeline((step,)).run(unbalanced(spread), Context(data=ArraySource({"x": x})))

    assert Pipeline((EqualizeChannels(),)).run(unbalanced(0.5)).changed
    assert after(3.0, per_channel=False).changed
    alone = after(0.5, per_channel=True)
    assert not alone.changed and "less than 1" in alone.notes[0].text


def test_what_keeps_a_pair_as_it_is_is_told() -> None:
    b = Builder(opset=17)
    x = b.input(["N", 3, 8, 8], "x")
    y = b.op(
        "Clip", b.conv(x, 8, 3, name="one"), b.constant(np.float32(0)), b.constant(np.float32(6)), name="six"
    )
    y = b.conv(y, 8, 8, name="two")
    model = b.model(b.add(b.conv(y, 8, 8, name="three"), y))

    result = Pipeline((EqualizeChannels(),)).run(model)

    assert not result.changed
    assert {note.subject: note.text for note in result.notes} == {
        "the whole model": "no two layers gain by it",
        "one": "Clip 'six' stands behind it, which no factor passes",
        "two": "its result is read in several places: Add, Conv",
        "three": f"Add {model.graph.nodes[-1].name!r} stands behind it, which no factor passes",
    }


def test_within_a_residual_block_channels_are_evened_out() -> None:
    b = Builder(opset=17, seed=2)
    x = b.input(["N", 3, 10, 10], "x")
    stem = b.relu(b.conv(x, 8, 3, name="stem"))
    spread = np.logspace(-2, 2, 8).astype(np.float32)
    inner = b.constant(b.rng.standard_normal((8, 8, 3, 3)).astype(np.float32) * spread.reshape(-1, 1, 1, 1))
    outer = b.constant(b.rng.standard_normal((8, 8, 3, 3)).astype(np.float32) / spread.reshape(-1, 1, 1))
    y = b.relu(b.op("Conv", stem, inner, pads=[1, 1, 1, 1], name="inner"))
    model = b.model(b.add(stem, b.op("Conv", y, outer, pads=[1, 1, 1, 1], name="outer")))
    step = InsertQdq(per_channel=False)

    result = Pipeline((EqualizeChannels(),)).run(model)

    assert [note.subject for note in result.notes if note.kind == "done"] == ["inner"]
    assert signal((EqualizeChannels(), step), model) > signal((step,), model) + 15


def test_a_factor_that_one_side_misses_breaks_the_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    right = equalize.even_out

    def wrong(first: Held, second: Held) -> Floats:
        factors = right(first, second)
        first.weight[0] *= 1.01
        return factors

    monkeypatch.setattr(equalize, "even_out", wrong)
    with pytest.raises(VerificationError):
        Pipeline((EqualizeChannels(turns=1),)).run(unbalanced(3.0))


def test_no_turns_are_refused() -> None:
    with pytest.raises(InvalidConfig, match=r"EqualizeChannels\.turns"):
        EqualizeChannels(turns=0)
