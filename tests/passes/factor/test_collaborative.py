"""Channels and rank removed together in whole models: what is written, and what it equals."""

from typing import Any, cast

import numpy as np
import pytest

from graphrewrite.data import ArraySource
from graphrewrite.errors import BudgetError, InvalidConfig, VerificationError
from graphrewrite.ir import Builder, Model
from graphrewrite.passes.factor import Collaborative, collaborative
from graphrewrite.pipeline import Context, Pipeline
from graphrewrite.runtime import run, sample_inputs
from tests.support.graphs import random_model

pytest.importorskip("torch")

RNG = np.random.default_rng(0)
IMAGES = RNG.standard_normal((24, 3, 8, 8)).astype(np.float32)
CONTEXT = Context(data=ArraySource({"x": IMAGES}, RNG.integers(0, 4, 24)))


def net() -> Model:
    """A stem, a residual block whose inside only one layer reads, a grouped layer, and one whose input two read."""
    b = Builder(seed=6)
    x = b.relu(b.batchnorm(b.conv(b.input(["N", 3, 8, 8], "x"), 12, 3, name="stem", bias=False), 12))
    inner = b.relu(b.batchnorm(b.conv(x, 10, 12, name="inner"), 10))
    x = b.relu(b.add(x, b.conv(inner, 12, 10, stride=1, name="back")))
    x = b.relu(b.conv(x, 12, 12, group=3, name="grouped"))
    x = b.relu(b.conv(x, 8, 12, kernel=1, name="last"))
    return b.model(b.linear(b.op("Flatten", b.op("GlobalAveragePool", x)), 4, 8, name="head"))


def rows_of(result: object) -> dict[str, dict[str, Any]]:
    rows = cast(Any, result).report.steps[0].details["layers"]
    return {row["name"]: row for row in rows}


@pytest.mark.parametrize("units", [("channel", "component"), ("channel",), ("component",)])
@pytest.mark.parametrize("loss", ["labels", "outputs"])
def test_what_is_written_equals_what_was_chosen(units: tuple[str, ...], loss: str) -> None:
    step = Collaborative(0.4, units, loss=loss)  # type: ignore[arg-type]
    result = Pipeline([step]).run(net(), CONTEXT)

    rows = rows_of(result)
    assert result.report.steps[0].verified.how == "reference"
    assert set(rows) <= {"inner", "back", "last"}
    asked = sum(row["asked"] * row["macs_before"] for row in rows.values())
    assert asked == pytest.approx(0.4 * result.report.before.macs, rel=1e-6)
    assert all(row["rate"] >= row["asked"] for row in rows.values())
    assert result.report.after.macs <= 0.6 * result.report.before.macs
    for row in rows.values():
        assert "component" in units or row["rank_after"] is None
        assert "channel" in units or row["channels_after"] == row["channels_before"]


def test_channels_leave_their_producer_where_nobody_else_reads_them() -> None:
    """Behind `inner` only `back` reads; what `inner` reads goes on into the sum, so it is picked out."""
    result = Pipeline([Collaborative(0.4, ("channel",), rates="uniform")]).run(net(), CONTEXT)

    rows = rows_of(result)
    assert rows["back"]["left_producer"] == 10 - rows["back"]["channels_after"] > 0
    assert rows["inner"]["left_producer"] == 0 < 12 - rows["inner"]["channels_after"]
    picked = [node.outputs[0].outputs[0].name for node in result.model.nodes("Gather")]
    assert "inner" in picked and "back" not in picked
    inner = next(node for node in result.model.nodes("Conv") if node.name == "inner")
    assert result.model.weights[inner.inputs[1].name].shape[0] == rows["back"]["channels_after"]


def test_channels_that_act_on_each_other_stay_where_they_are_made() -> None:
    """A softmax over channels between both layers: each channel changes all others, so none may leave the first."""
    b = Builder(seed=1)
    x = b.conv(b.input(["N", 3, 8, 8], "x"), 12, 3, name="first")
    model = b.model(b.conv(b.op("Softmax", x, axis=1), 6, 12, name="second"))
    step = Collaborative(0.3, ("channel",), loss="outputs")
    result = Pipeline([step]).run(model, Context(data=ArraySource({"x": IMAGES})))

    row = rows_of(result)["second"]
    assert row["left_producer"] == 0 < 12 - row["channels_after"]


def test_a_part_of_a_concatenation_may_be_dropped_whole() -> None:
    """`second` needs nothing of `side`, whose channels all stay in the model: no axis may become empty."""
    b = Builder(seed=2)
    x = b.input(["N", 3, 8, 8], "x")
    side = b.conv(x, 2, 3, name="side")
    both = b.concat(b.conv(x, 10, 3, name="main"), side)
    model = b.model(b.conv(both, 6, 12, name="second"))
    name = next(node.inputs[1].name for node in model.nodes("Conv") if node.name == "second")
    weight = np.array(model.weights[name], np.float32)
    weight[:, 10:] = 0
    model.weights[name] = weight
    step = Collaborative(0.07, ("channel",), loss="outputs", only=("second",), ends=True)
    result = Pipeline([step]).run(model, Context(data=ArraySource({"x": IMAGES})))

    row = rows_of(result)["second"]
    assert (row["channels_after"], row["left_producer"], row["lost"]) == (10, 0, 0)


def test_a_planted_layer_is_found_without_moving_an_output() -> None:
    """`inner` has two dead channels and rank 3: with all others left alone the outputs stay what they were.

    Without the look-ahead, which takes a unit that hardly matters before one that does not matter at all: there is then
    less left to lose.
    """
    model = net()
    name = next(node.inputs[1].name for node in model.nodes("Conv") if node.name == "inner")
    low = (RNG.standard_normal((10, 3)) @ RNG.standard_normal((3, 108))).reshape(10, 12, 3, 3) / 10
    low[:, [1, 7]] = 0
    model.weights[name] = low.astype(np.float32)
    macs, whole = 10 * 108 * 64, Pipeline([]).run(model).report.before.macs
    left = 3 * (10 * 9 + 10) * 64
    result = Pipeline(
        [Collaborative((macs - left - 1) / whole, gamma=0.0, only=("inner",), loss="outputs")]
    ).run(model, CONTEXT)

    (row,) = rows_of(result).values()
    assert (row["channels_after"], row["rank_after"]) == (10, 3)
    before, after = (run(each, {"x": IMAGES}) for each in (model, result.model))
    for output, wanted in before.items():
        np.testing.assert_allclose(after[output], wanted, atol=1e-4 * np.abs(wanted).max())  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", [9, 17, 26, 38, 41])
def test_random_graphs_keep_the_claim(seed: int) -> None:
    """Residual sums, concatenations, norms over channels, groups: what is written equals what was chosen."""
    model = random_model(seed).model
    samples = ArraySource(dict(sample_inputs(model)))
    step = Collaborative(0.2, loss="outputs", ends=True, step=0.1)
    result = Pipeline([step]).run(model, Context(data=samples))
    assert result.changed and result.report.steps[0].verified.how == "reference"


def test_a_wrong_weight_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collaborative, "_flat", lambda weight: 1.01 * weight.reshape(len(weight), -1).T)
    with pytest.raises(VerificationError):
        Pipeline([Collaborative(0.3)]).run(net(), CONTEXT)


def test_a_net_of_products_is_told_why_nothing_goes() -> None:
    b = Builder(seed=0)
    model = b.model(b.linear(b.relu(b.linear(b.input(["N", 8], "x"), 8, 8, name="one")), 2, 8, name="two"))
    result = Pipeline([Collaborative(0.5)]).run(model, CONTEXT)
    assert not result.changed
    assert {note.subject: note.text for note in result.notes if "svd" in note.text}.keys() == {"one", "two"}


def test_nothing_asked_is_nothing_done() -> None:
    result = Pipeline([Collaborative(0.0)]).run(net(), CONTEXT)
    assert not result.changed


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"ratio": 1.0}, "ratio"),
        ({"units": ("rows",)}, "units"),
        ({"slope": "steep"}, "slope"),
        ({"loss": "guess"}, "loss"),
        ({"rates": "none"}, "rates"),
    ],
)
def test_impossible_options(fields: dict[str, Any], match: str) -> None:
    with pytest.raises(InvalidConfig, match=match):
        Collaborative(**fields)


def test_requests_that_cannot_be_met() -> None:
    with pytest.raises(InvalidConfig, match="data"):
        Collaborative().run(net(), Context())
    with pytest.raises(BudgetError, match="at most"):
        Collaborative(0.99).run(net(), CONTEXT)
    with pytest.raises(InvalidConfig, match="nobody"):
        Collaborative(only=("nobody",)).run(net(), CONTEXT)
