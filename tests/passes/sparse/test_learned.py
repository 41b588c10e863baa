"""Masks that are learned: what they change and what they must not, and how shares are divided between layers."""

from dataclasses import replace

import numpy as np
import pytest

from graphrewrite.bridge.statistics import part
from graphrewrite.data import ArraySource
from graphrewrite.errors import InvalidConfig, VerificationError
from graphrewrite.ir import Builder, Model
from graphrewrite.passes.sparse import MaskBlocks
from graphrewrite.passes.sparse.layers import layers_of
from graphrewrite.passes.sparse.masks.lottery_jackpot import LotteryJackpot
from graphrewrite.passes.sparse.masks.magnitude import Magnitude
from graphrewrite.passes.sparse.masks.one_by_n import OneByN
from graphrewrite.passes.sparse.shares import shares
from graphrewrite.pipeline import Context, Pipeline

RNG = np.random.default_rng(0)
IMAGES = RNG.standard_normal((48, 2, 6, 6)).astype(np.float32)
CONTEXT = Context(data=ArraySource({"x": IMAGES}, (IMAGES[:, 0].mean(axis=(1, 2)) > 0).astype(np.int64)))


def net() -> Model:
    """Four convolutions, two with norms that share their statistics, and a classifier."""
    b = Builder(seed=4)
    x = b.relu(b.conv(b.input(["N", 2, 6, 6], "x"), 8, 2, name="stem"))
    zeros, ones = b.constant(np.zeros(8, np.float32)), b.constant(np.ones(8, np.float32))
    for name in ("one", "two"):
        x = b.relu(
            b.op("BatchNormalization", b.conv(x, 8, 8, bias=False, name=name), ones, zeros, zeros, ones)
        )
    x = b.relu(b.conv(x, 8, 8, name="three"))
    return b.model(b.linear(b.op("Flatten", b.op("GlobalAveragePool", x)), 2, 8, name="head"))


def weights_of(model: Model) -> dict[str, np.ndarray]:
    return {layer.name: model.weights[layer.weight] for layer in layers_of(model)}


def searched(**fields: object) -> LotteryJackpot:
    return replace(LotteryJackpot(epochs=2, rate=30.0, batch=16), **fields)  # type: ignore[arg-type]


def test_survivors_counts_and_statistics() -> None:
    pytest.importorskip("accelerate")
    model = net()
    result = Pipeline([MaskBlocks(searched(), 0.6, scope="global")]).run(model, CONTEXT)

    start = weights_of(Pipeline([MaskBlocks(Magnitude(), 0.6, scope="global")]).run(model).model)
    before, after = weights_of(model), weights_of(result.model)
    assert result.report.steps[0].verified.how == "reference"
    for name in ("one", "two", "three"):
        kept = after[name] != 0
        assert np.array_equal(after[name][kept], before[name][kept])
        assert kept.sum() == (start[name] != 0).sum()
        assert not np.array_equal(kept, start[name] != 0)
    assert np.array_equal(after["stem"], before["stem"]) and np.array_equal(after["head"], before["head"])
    parted = model.clone()
    part(parted)  # what both norms shared is each one's own now, and measured
    moved = [
        n
        for n, w in result.model.weights.items()
        if n in parted.weights and not np.array_equal(w, parted.weights[n])
    ]
    assert len(moved) == 4 + 3


@pytest.mark.parametrize("start", ["magnitude", "random"])
def test_without_epochs_it_is_where_it_starts(start: str) -> None:
    pytest.importorskip("torch")
    model = net()
    mask = searched(epochs=0, start=start)
    found = weights_of(Pipeline([MaskBlocks(mask, 0.6, scope="global")]).run(model).model)
    magnitude = weights_of(Pipeline([MaskBlocks(Magnitude(), 0.6, scope="global")]).run(model).model)

    alike = [np.array_equal(found[name], magnitude[name]) for name in ("one", "two", "three")]
    assert all(alike) if start == "magnitude" else not any(alike)
    assert [np.count_nonzero(w) for w in found.values()] == [np.count_nonzero(w) for w in magnitude.values()]


def test_a_search_that_moved_a_weight_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def moved(self: LotteryJackpot, model: Model, shares: dict[str, float], context: Context) -> Model:
        copy = model.clone()
        for name in shares:
            copy.weights[name] = np.asarray(copy.weights[name], np.float32) * np.float32(1.1)
        return copy

    monkeypatch.setattr(LotteryJackpot, "learned", moved)
    with pytest.raises(VerificationError):
        Pipeline([MaskBlocks(searched(), 0.6)]).run(net(), CONTEXT)


def test_shares_by_hand() -> None:
    """Of the magnitudes 1 to 6 and 5.5, 7 half of seven, so three, go: 1, 2, 3, all of the first layer but for one."""
    layers = {"low": np.array([[1.0, -2.0], [3.0, 2.5]]), "high": np.array([[-4.0, 5.5, 7.0]])}

    assert shares(layers, 0.5, "uniform") == {"low": 0.5, "high": 0.5}
    assert shares(layers, 0.5, "global") == {"low": 3 / 4, "high": 0}
    assert shares(layers, 0.6, "global") == {"low": 3 / 4, "high": 0}  # the fourth is the layer's last


def test_patterns_take_global_shares_too() -> None:
    model = net()
    name = next(layer.weight for layer in layers_of(model) if layer.name == "two")
    model.weights[name] = np.asarray(model.weights[name], np.float32) * np.float32(0.01)
    found = Pipeline([MaskBlocks(OneByN(4), 0.5, scope="global")]).run(model).model

    zeros = {layer: float(np.mean(w == 0)) for layer, w in weights_of(found).items()}
    assert zeros["two"] > 0.9 and zeros["one"] < 0.5


def test_impossible_requests() -> None:
    with pytest.raises(InvalidConfig, match="scope"):
        MaskBlocks(scope="everywhere")  # type: ignore[arg-type]
    with pytest.raises(InvalidConfig, match="restriction"):
        LotteryJackpot(restriction="long")  # type: ignore[arg-type]
    with pytest.raises(InvalidConfig, match="learn_from"):
        LotteryJackpot(learn_from="books")  # type: ignore[arg-type]
    with pytest.raises(InvalidConfig, match="epochs"):
        LotteryJackpot(epochs=-1)
