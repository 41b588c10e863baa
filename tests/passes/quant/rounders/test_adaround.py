"""AdaRound in a graph: the same steps, codes beside the weights, and more of the signal than nearest rounding keeps."""

from dataclasses import replace

import numpy as np
import pytest

from graphrewrite.data import ArraySource
from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Array, Builder, Model
from graphrewrite.passes.quant import InsertQdq
from graphrewrite.passes.quant.grid import Singles, Stored
from graphrewrite.passes.quant.rounders import Rounder, Task
from graphrewrite.passes.quant.rounders.adaround import AdaRound
from graphrewrite.passes.quant.rounders.nearest import Nearest
from graphrewrite.passes.quant.sites import Site
from graphrewrite.passes.quant.write import Plan
from graphrewrite.pipeline import Context, Pipeline, PipelineResult
from graphrewrite.pipeline.quality import quality

STEP = InsertQdq(weight_bits=3)
FAST = AdaRound(steps=60, rows=1024)


def net() -> Model:
    """A net of convolutions, one depthwise and one with a shortcut, and two products."""
    b = Builder(opset=17, seed=3)
    x = b.input(["N", 3, 10, 10], "x")
    stem = b.relu(b.conv(x, 16, 3, name="stem"))
    deep = b.op(
        "Clip",
        b.conv(stem, 16, 16, group=16, name="deep"),
        b.constant(np.float32(0)),
        b.constant(np.float32(6)),
    )
    joined = b.relu(b.add(stem, b.conv(deep, 16, 16, kernel=1, name="point")))
    flat = b.op("Flatten", b.op("AveragePool", joined, kernel_shape=[5, 5], strides=[5, 5]))
    return b.model(
        b.op("MatMul", b.relu(b.linear(flat, 24, 64, name="hidden")), b.weight(24, 5), name="head")
    )


def samples(seed: int) -> ArraySource:
    """Pictures whose neighbouring pixels are alike."""
    drawn = np.random.default_rng(seed).standard_normal((64, 3, 12, 12))
    smooth = sum(drawn[:, :, i : i + 10, j : j + 10] for i in range(3) for j in range(3))
    return ArraySource({"x": np.asarray(smooth / 3, np.float32)})


def quantised(rounder: Rounder) -> PipelineResult:
    step = InsertQdq(weight_bits=3, rounder=rounder)
    return Pipeline((step,)).run(net(), Context(data=samples(0), seed=1))


def signal(result: PipelineResult) -> float:
    return quality(net(), result.model, samples(1).batches(64)).agreement[0].snr


def held(rounder: Rounder, step: InsertQdq = STEP, slot: int = 1) -> dict[str, Stored]:
    """Return an input of layers by their names, as a plan has it."""
    found: dict[str, Stored] = {}

    class Kept:
        def round(self, task: Task) -> Plan:
            plan = rounder.round(task)
            nodes = task.model.graph.nodes
            found.update((nodes[each.node].name, each.stored) for each in plan.operands if each.slot == slot)
            return plan

    replace(step, rounder=Kept()).run(net(), Context(data=samples(0), seed=1))
    return found


def test_more_of_the_signal_is_kept_than_by_nearest_rounding() -> None:
    nearest, learned = quantised(Nearest()), quantised(AdaRound(steps=200, rows=1024))

    assert signal(learned) > signal(nearest) + 1
    assert learned.report.steps[-1].verified.error == 0.0


@pytest.mark.parametrize("even", [False, True])
def test_steps_stay_and_codes_are_at_most_one_away(even: bool) -> None:
    step = InsertQdq(weight_bits=3, even_levels=even)
    nearest, learned = held(Nearest(), step), held(FAST, step)

    assert nearest.keys() == learned.keys() == {"stem", "deep", "point", "hidden", "head"}
    for name, stored in learned.items():
        np.testing.assert_array_equal(stored.steps, nearest[name].steps)
        away = np.abs(stored.codes.astype(int) - nearest[name].codes)
        assert 0 < away.max() <= stored.apart, name


def test_the_same_seed_gives_the_same_codes() -> None:
    one, two = held(FAST), held(FAST)

    assert all((one[name].codes == two[name].codes).all() for name in one)


def test_biases_move_only_where_they_may() -> None:
    kept = InsertQdq(weight_bits=3, correct_bias=False)
    exact, moved = held(FAST, kept, slot=2), held(FAST, slot=2)

    # In front of the first layer scales are those of nearest rounding, so its bias has the same unit in all of them.
    np.testing.assert_array_equal(exact["stem"].codes, held(Nearest(), kept, slot=2)["stem"].codes)
    assert (exact["stem"].codes != moved["stem"].codes).any()


def test_codes_of_another_layer_spoil_it(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Site.replaced

    def mixed(self: Site, plan: Plan, codes: Array, more: Singles) -> Plan:
        return right(self, plan, codes[:, ::-1], more)

    best = signal(quantised(FAST))
    monkeypatch.setattr(Site, "replaced", mixed)
    assert signal(quantised(FAST)) < best - 10


@pytest.mark.parametrize("fields", [{"steps": 0}, {"rows": True}])
def test_impossible_settings_are_refused(fields: dict[str, int]) -> None:
    with pytest.raises(InvalidConfig, match=r"AdaRound\.\w+ is"):
        AdaRound(**fields)
