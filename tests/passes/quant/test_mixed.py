"""More bits where they are needed: the order in which layers go up, and nets with one planted layer that needs it."""

from math import inf
from typing import cast

import numpy as np
import pytest

from graphrewrite.data import ArraySource
from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Builder, Model
from graphrewrite.passes.quant import InsertQdq, MixedPrecision
from graphrewrite.passes.quant.judge import Judge, Lost
from graphrewrite.passes.quant.kernels import LIGHT
from graphrewrite.passes.quant.ladder import Ladder, Rung, size_of, walk
from graphrewrite.passes.quant.mixed import Trial
from graphrewrite.passes.quant.plan import Tier
from graphrewrite.pipeline import Context, Pipeline, PipelineResult
from graphrewrite.runtime import run
from tests.passes.quant.nets import only, served


def ladder(name: str, *rungs: tuple[int, float]) -> Ladder:
    return Ladder(name, [Rung(Tier(), size, noise) for size, noise in rungs])


def test_the_largest_gain_goes_first_and_skips_what_does_not_halve_the_noise() -> None:
    ladders = [ladder("a", (1, 0.8), (1, 0.7), (4, 0.0)), ladder("b", (1, 0.9), (1, 0.3), (4, 0.0))]

    assert walk(ladders) == [
        {"a": 0, "b": 0},
        {"a": 2, "b": 0},  # 0.8 at once: its second rung keeps more than half
        {"a": 2, "b": 1},  # 0.6
        {"a": 2, "b": 2},  # 0.3
    ]


def test_with_a_size_gains_count_by_the_byte_and_what_does_not_fit_stays() -> None:
    ladders = [ladder("large", (100, 0.9), (200, 0.0)), ladder("small", (10, 0.5), (20, 0.0))]

    states = walk(ladders, largest=125)

    assert states == [{"large": 0, "small": 0}, {"large": 0, "small": 1}]
    assert [size_of(ladders, state) for state in states] == [110, 120]


def test_layers_go_down_again_the_largest_first_while_the_loss_allows() -> None:
    ladders = [
        Ladder(name, [Rung(Tier(bits=bits), size * bits, 0.0) for bits in (2, 4, 8)])
        for name, size in (("small", 1), ("large", 10))
    ]
    needs = {"small": 8, "large": 4}  # what the pair must have, or one more is lost

    class Counting:
        def lost(self, model: dict[str, Tier]) -> Lost:
            short = sum(tier.bits < needs[name] for name, tier in model.items())
            return Lost(short / 100, short / 100)

    found, lost = MixedPrecision(loss=0.005)._lowered(
        {"small": 2, "large": 2}, Lost(0.0, 0.0), ladders, cast(Judge, Counting()), cast(Trial, dict)
    )
    assert (found, lost.most) == ({"small": 2, "large": 1}, 0.0)
    found, lost = MixedPrecision(loss=0.01)._lowered(
        {"small": 2, "large": 2}, Lost(0.0, 0.0), ladders, cast(Judge, Counting()), cast(Trial, dict)
    )
    assert (found, lost.most) == ({"small": 2, "large": 0}, 0.01)  # what may be lost goes to the larger


def samples(apart: float = 0.0) -> np.ndarray:
    """Pictures of four channels; the first two stand far off zero and differ by little."""
    x = np.random.default_rng(0).standard_normal((16, 4, 8, 8)).astype(np.float32)
    x[:, :2] = apart + x[:, :2] * (0.1 if apart else 1.0)
    return x


def net(odd: str = "") -> Model:
    """A chain of convolutions; the weights of `odd` have an outlier for an input that is always zero."""
    b = Builder(opset=17, seed=1)
    y = b.input(["N", 4, 8, 8], "x")
    for name in "abcd":
        inputs = 4 if name == "a" else 8
        weight = b.rng.standard_normal((8, inputs, 3, 3)).astype(np.float32) / 6
        if name == "b":
            weight[3] = 0  # so that the fourth channel that c reads is always zero
        if name == odd:
            weight[:, 3] = 300
        y = b.relu(b.op("Conv", y, b.constant(weight), name=name, pads=[1] * 4))
    return b.model(b.conv(y, 4, 8, name="last"))


def far() -> Model:
    """A first layer that takes the difference of two large numbers."""
    b = Builder(opset=17, seed=1)
    difference = np.zeros((8, 4, 1, 1), np.float32)
    difference[:, 0], difference[:, 1] = 1, -1
    y = b.op("Conv", b.input(["N", 4, 8, 8], "x"), b.constant(difference), name="first")
    for name in "bcd":
        y = b.relu(b.conv(y, 8, 8, name=name))
    return b.model(b.conv(y, 4, 8, name="last"))


def mixed(model: Model, step: MixedPrecision, x: np.ndarray) -> PipelineResult:
    return Pipeline((step,)).run(model, Context(data=ArraySource({"x": x})))


def plain(model: Model, x: np.ndarray) -> PipelineResult:
    return Pipeline((InsertQdq(),)).run(model, Context(data=ArraySource({"x": x})))


def rows(result: PipelineResult) -> dict[str, dict[str, object]]:
    found = cast("list[dict[str, object]]", result.report.steps[-1].details["layers"])
    return {str(row["name"]): row for row in found}


def noise(model: Model, result: PipelineResult, x: np.ndarray) -> float:
    exact, found = only(run(model, {"x": x})), only(run(result.model, {"x": x}, optimize=True))
    return float(np.square(found - exact).sum() / np.square(exact).sum())


def test_the_one_layer_whose_weights_need_it_is_left_in_floats() -> None:
    model, x = net("c"), samples()

    result = mixed(model, MixedPrecision(loss=1e-3), x)

    found = rows(result)
    assert [name for name, row in found.items() if row["left"]] == ["c"]
    sensitive = {name: cast(float, row["sensitivity"]) for name, row in found.items()}
    assert sensitive["c"] > 100 * max(value for name, value in sensitive.items() if name != "c")
    assert "by itself it costs" in str(found["c"]["left"])
    assert served(result.model)["QLinearConv"] == 4
    assert noise(model, result, x) <= 1.2e-3 < 0.01 < noise(model, plain(model, x), x)


def test_the_one_layer_that_reads_too_coarsely_gets_sixteen_bits() -> None:
    model, x = far(), samples(apart=50.0)

    result = mixed(model, MixedPrecision(loss=1e-3), x)

    found = rows(result)
    assert [name for name, row in found.items() if row.get("activations") == "uint16"] == ["first"]
    assert not any(row["left"] for row in found.values())
    assert noise(model, result, x) <= 1.2e-3 < 2e-3 < noise(model, plain(model, x), x)


def test_a_net_that_loses_nothing_much_stays_as_it_is() -> None:
    result = mixed(net(), MixedPrecision(loss=0.01), samples())

    assert all(not row["left"] and row["activations"] == "uint8" for row in rows(result).values())
    assert "0 of 5 layers have more bits" in " ".join(note.text for note in result.notes)


def test_layers_that_stay_in_floats_anyway_are_no_part_of_what_another_one_costs() -> None:
    b = Builder(opset=17, seed=1)
    y = b.relu(b.conv(b.input(["N", 4, 8, 8], "x"), 8, 4, name="first"))
    y = b.relu(b.op("Conv", y, b.weight(8, 1, 3, 3), name="single", group=8, pads=[1] * 4))
    model, x = b.model(b.conv(b.op("HardSwish", y), 4, 8, name="last")), samples()

    result = mixed(model, MixedPrecision(InsertQdq(correct_bias=False), loss=0.01), x)

    found = rows(result)
    assert found["single"]["left"] == LIGHT
    step = InsertQdq(only=("first",), correct_bias=False)
    alone = Pipeline((step,)).run(model, Context(data=ArraySource({"x": x})))
    assert found["first"]["sensitivity"] == pytest.approx(noise(model, alone, x), rel=1e-3)


def test_bytes_go_to_the_weights_that_need_them() -> None:
    model, x = net(), samples()
    weights = {"a": 288, "b": 576, "c": 576, "d": 576, "last": 288}
    fewest = sum(weights.values()) // 2
    step = InsertQdq(weight_bits=4)

    result = mixed(model, MixedPrecision(step, inf, fewest + 288), x)

    found = rows(result)
    bits = {name: row["bits"] for name, row in found.items()}
    assert set(bits.values()) == {4, 8}
    assert sum(weights[name] * cast(int, bits[name]) // 8 for name in weights) <= fewest + 288
    assert noise(model, result, x) < noise(model, mixed(model, MixedPrecision(step, inf, fewest), x), x)


def test_what_cannot_be_held_is_said() -> None:
    step = MixedPrecision(InsertQdq(weight_bits=2), loss=1e-6, largest=600)

    result = mixed(net(), step, samples())

    warned = [note.text for note in result.notes if note.kind == "warning"]
    assert len(warned) == 1 and "600 bytes leave no room" in warned[0]


@pytest.mark.parametrize("settings", [{"loss": -1.0}, {"loss": inf}, {"largest": -1}, {"samples": 0}])
def test_bad_settings_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(InvalidConfig, match="MixedPrecision"):
        MixedPrecision(**settings)  # type: ignore[arg-type]
