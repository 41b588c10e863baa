"""Budgets: what is asked for is reached, counted on the model that is saved."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from graphrewrite import cost
from graphrewrite.dims import Groups, groups
from graphrewrite.dims.structure import Mask
from graphrewrite.errors import BudgetError, InvalidConfig
from graphrewrite.ir import Builder, Model
from graphrewrite.passes.channels import LatencyBelow, MacsBelow, ParamsBelow, Ratio, RemoveChannels
from graphrewrite.passes.channels.budgets import Budget, Widths
from graphrewrite.passes.channels.problem import ChannelProblem
from graphrewrite.passes.channels.selection import Limits
from graphrewrite.pipeline import Context, Pipeline
from graphrewrite.runtime import bench
from tests.passes.channels.nets import (
    NETS,
    attention,
    cut,
    details,
    grouped,
    groups_told,
    pair,
    samples,
    tower,
)

SCOPES = ("global", "uniform")


def numbers(step: RemoveChannels, model: Model) -> Mapping[str, float]:
    """Return macs and params, before and after, without verification."""
    told = details(Pipeline([step], verify="off").run(model, Context(threads=1)))
    found = {}
    for key in ("macs_before", "macs_after", "params_before", "params_after"):
        value = told[key]
        assert isinstance(value, int)
        found[key] = value
    return found


def test_macs_by_hand() -> None:
    """Four hidden units of 3 + 2 MACs and parameters each; half of 20 are two of them."""
    model = pair(first=np.diag([1, 2, 3, 4])[:, :3] + 0.1, second=np.ones((2, 4)))

    assert numbers(RemoveChannels(budget=MacsBelow(0.5)), model) == {
        "macs_before": 20,
        "macs_after": 10,
        "params_before": 20,
        "params_after": 10,
    }
    # One less than half asks for another unit.
    assert numbers(RemoveChannels(budget=MacsBelow(0.49)), model)["macs_after"] == 5
    # Three quarters are exactly three units, a little more leaves no fourth.
    assert numbers(RemoveChannels(budget=MacsBelow(0.75)), model)["macs_after"] == 15
    assert numbers(RemoveChannels(budget=MacsBelow(0.99)), model)["macs_after"] == 15


def test_parameters_by_hand() -> None:
    """Biases count: four hidden units of 3 + 1 + 2 parameters and two output biases make 26."""
    model = pair(first=np.diag([1, 2, 3, 4])[:, :3] + 0.1, second=np.ones((2, 4)), bias=[1, 1, 1, 1])

    assert numbers(RemoveChannels(budget=ParamsBelow(0.5)), model)["params_after"] == 12
    assert numbers(RemoveChannels(budget=ParamsBelow(0.49)), model)["params_after"] == 6


def test_ratio_by_hand() -> None:
    """Half of 8, 12 and 6 channels: 27 * 4 + 9 * 4 * 6 + 9 * 6 * 3 MACs at each of 36 positions, and the head."""
    found = numbers(RemoveChannels(budget=Ratio(0.5)), tower((8, 12, 6)))

    assert found["macs_before"] == 36 * 9 * (3 * 8 + 8 * 12 + 12 * 6) + 4 * 6
    assert found["macs_after"] == 36 * 9 * (3 * 4 + 4 * 6 + 6 * 3) + 4 * 3


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("name", NETS)
def test_budgets_hold_and_are_counted_like_the_saved_model(name: str, scope: str, tmp_path: Path) -> None:
    model = NETS[name]()
    for fraction in (0.8, 0.5):
        for budget, what in ((MacsBelow(fraction), "macs"), (ParamsBelow(fraction), "params")):
            result = cut(model, RemoveChannels(budget=budget, scope=scope))
            result.model.save(tmp_path / "smaller.onnx")
            model.save(tmp_path / "model.onnx")
            before, after = (cost.of(Model.load(tmp_path / f"{n}.onnx")) for n in ("model", "smaller"))

            told = details(result)
            assert told["macs_before"] == before.per_sample("macs") and told[
                "macs_after"
            ] == after.per_sample("macs")
            assert told["params_before"] == before.params and told["params_after"] == after.params
            reached = after.total(what) / before.total(what)  # type: ignore[arg-type]
            assert fraction - 0.3 < reached <= fraction


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("name", NETS)
def test_smaller_budgets_never_keep_more(name: str, scope: str) -> None:
    model = NETS[name]()
    kept = [
        numbers(RemoveChannels(budget=MacsBelow(fraction), scope=scope, floor=0, absorb=False), model)[
            "macs_after"
        ]
        for fraction in (1.0, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.25)
    ]

    assert kept == sorted(kept, reverse=True)


@pytest.mark.parametrize(
    "budget", [MacsBelow(1.0), ParamsBelow(1.0), Ratio(1.0), LatencyBelow(1.0), MacsBelow(1)]
)
@pytest.mark.parametrize("scope", SCOPES)
def test_all_of_it_is_no_change(budget: Budget, scope: str) -> None:
    model = tower()
    result = cut(model, RemoveChannels(budget=budget, scope=scope))

    assert result.changed is False
    assert result.report.steps[0].verified.how == "unchanged"
    told = details(result)
    assert (told["macs_after"], told["params_after"], told["kept"]) == (
        told["macs_before"],
        told["params_before"],
        {},
    )
    assert "graphrewrite.pipeline" not in result.model.metadata


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("kind", [MacsBelow, ParamsBelow])
@pytest.mark.parametrize("name", NETS)
def test_an_impossible_budget_names_the_best_reachable_which_is_reachable(
    name: str, kind: type[MacsBelow] | type[ParamsBelow], scope: str
) -> None:
    model = NETS[name]()
    with pytest.raises(BudgetError, match="lower the floor or the multiple") as caught:
        numbers(RemoveChannels(budget=kind(0.001), floor=0.5, scope=scope, absorb=False), model)

    (told,) = re.findall(r"ask for (\d\.\d+) or more", str(caught.value))
    found = numbers(RemoveChannels(budget=kind(float(told)), floor=0.5, scope=scope, absorb=False), model)
    what = "macs" if kind is MacsBelow else "params"
    assert float(told) - 0.01 < found[f"{what}_after"] / found[f"{what}_before"] <= float(told)


def test_parameters_that_compensation_adds_count() -> None:
    """Readers without a bias get one; the budget leaves room for it, and what it calls reachable is."""
    model = tower()
    context = Context(data=samples(model))
    for fraction in (0.9, 0.7, 0.5, 0.4, 0.3):
        told = details(cut(model, RemoveChannels(budget=ParamsBelow(fraction)), context))
        assert told["compensated"]
        assert told["params_after"] <= fraction * told["params_before"]  # type: ignore[operator]

    with pytest.raises(BudgetError) as caught:
        cut(model, RemoveChannels(budget=ParamsBelow(0.01), floor=0.4), context)
    (figure,) = re.findall(r"ask for (\d\.\d+) or more", str(caught.value))
    told = details(cut(model, RemoveChannels(budget=ParamsBelow(float(figure)), floor=0.4), context))
    assert told["compensated"]
    assert told["params_after"] <= float(figure) * told["params_before"]  # type: ignore[operator]


def test_a_model_without_channels_to_remove_says_that_all_of_it_stays() -> None:
    b = Builder()
    model = b.model(b.linear(b.input(["N", 3], "x"), 2, 3))

    with pytest.raises(
        BudgetError, match=re.escape("at most 0.0 % can be removed here (1 stays); ask for 1.000 or more")
    ):
        numbers(RemoveChannels(budget=MacsBelow(0.9)), model)
    assert cut(model, RemoveChannels(budget=MacsBelow(1.0))).changed is False
    assert cut(model, RemoveChannels(budget=Ratio(0.5))).changed is False


def test_a_model_without_macs_takes_a_ratio_only() -> None:
    b = Builder()
    x = b.input([1, 3], "x")
    model = b.model(b.relu(x))

    with pytest.raises(BudgetError, match="no MACs that can be counted.*use a ratio"):
        numbers(RemoveChannels(budget=MacsBelow(0.5)), model)


@pytest.mark.parametrize("kind", [MacsBelow, ParamsBelow, Ratio, LatencyBelow])
@pytest.mark.parametrize("fraction", [0.0, -0.5, 1.01, 50, float("nan"), float("inf"), True])
def test_fractions_out_of_range_are_refused(kind: type[Ratio], fraction: float) -> None:
    with pytest.raises(
        InvalidConfig, match=rf"{kind.__name__}\.fraction is .*above 0 and at most 1, such as 0\.5"
    ):
        kind(fraction)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"multiple": 0}, "multiple is 0"),
        ({"multiple": -8}, "multiple is -8"),
        ({"floor": 1.0}, r"floor is 1\.0"),
        ({"floor": -0.1}, r"floor is -0\.1"),
        ({"scope": "local"}, "expected 'global' or 'uniform'"),
    ],
)
def test_other_impossible_fields_are_refused(fields: dict[str, object], told: str) -> None:
    with pytest.raises(InvalidConfig, match=told):
        RemoveChannels(**fields)  # type: ignore[arg-type]


def test_every_group_keeps_its_floor() -> None:
    rows = groups_told(cut(tower((10, 20, 10)), RemoveChannels(budget=MacsBelow(0.25), floor=0.4)))

    assert all(row["kept"] >= 0.4 * row["units"] for row in rows)
    assert any(row["kept"] == 0.4 * row["units"] for row in rows)


def test_a_uniform_scope_keeps_the_same_share_everywhere() -> None:
    rows = groups_told(cut(tower((20, 40, 20)), RemoveChannels(budget=MacsBelow(0.5), scope="uniform")))

    shares = {row["kept"] / row["units"] for row in rows}
    assert max(shares) - min(shares) <= 1 / 20


def test_a_global_scope_does_not() -> None:
    rows = groups_told(cut(tower((20, 40, 20)), RemoveChannels(budget=MacsBelow(0.5))))

    shares = {row["kept"] / row["units"] for row in rows}
    assert max(shares) - min(shares) > 0.1


@dataclass
class Clock:
    """A latency that is what a function of the MACs says, and how often it was asked."""

    found: Groups
    overhead: float = 0.0
    asked: int = 0

    def __call__(self, dead: Mask) -> float:
        self.asked += 1
        share = self.found.macs(dead) / self.found.macs()
        return self.overhead + (1 - self.overhead) * share


def timed(model: Model, budget: LatencyBelow, overhead: float = 0.0, floor: float = 0.1) -> tuple[float, int]:
    """Return the share of the MACs that a budget keeps under a made-up clock, and how often it was read."""
    found = groups(model)
    clock = Clock(found, overhead)
    scores = [np.linspace(1, 2, group.units) for group in found]
    dead = budget.choose(
        ChannelProblem(found, scores, Limits(floor=floor), "global", 0.0, 0.0, clock, lambda dead: 0.0)
    )
    return found.macs(dead) / found.macs(), clock.asked


@pytest.mark.parametrize("fraction", [0.9, 0.6, 0.3])
def test_latency_is_met_closely_with_few_measurements(fraction: float) -> None:
    kept, asked = timed(tower((32, 48, 24)), LatencyBelow(fraction, steps=7))

    assert fraction - 0.05 < kept <= fraction
    assert asked == 8


def test_what_takes_time_whatever_is_removed_makes_the_search_go_further() -> None:
    """With a quarter of the time fixed, 0.4 of the time is 0.2 of the MACs."""
    kept, _ = timed(tower((32, 48, 24)), LatencyBelow(0.4, steps=8), overhead=0.25)

    assert 0.15 < kept <= 0.2


def test_an_impossible_latency_names_the_best_reachable() -> None:
    with pytest.raises(
        BudgetError, match=r"asks for 0\.2 of the latency.*ask for 0\.(\d+) or more"
    ) as caught:
        timed(tower(), LatencyBelow(0.2), overhead=0.3)

    (told,) = re.findall(r"ask for (\d\.\d+) or more", str(caught.value))
    kept, _ = timed(tower(), LatencyBelow(float(told)), overhead=0.3)
    assert 0.3 + 0.7 * kept <= float(told)


def test_a_search_without_steps_is_refused() -> None:
    with pytest.raises(InvalidConfig, match=r"LatencyBelow\.steps is 0"):
        LatencyBelow(0.5, steps=0)


def test_real_latency_is_measured_between_cut_and_original(monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole way with the clock replaced, so that the models which would be timed can be looked at."""
    seen: list[tuple[int, int]] = []

    def fake(models: list[tuple[str, Model]], feeds: object, **options: object) -> list[object]:
        (_, original), (_, smaller) = models
        macs = [cost.of(each).macs for each in (original, smaller)]
        seen.append((macs[0], macs[1]))

        @dataclass
        class Result:
            ratio: float

        return [Result(1.0), Result(macs[1] / macs[0])]

    monkeypatch.setattr(bench, "latency", fake)
    model = tower((16, 16))

    result = cut(model, RemoveChannels(budget=LatencyBelow(0.6, steps=3)))

    assert len(seen) == 4 and {before for before, _ in seen} == {cost.of(model).macs}
    assert any(after == cost.of(result.model).macs for _, after in seen)
    assert 0.4 < cost.of(result.model).macs / cost.of(model).macs <= 0.6


def test_balance_and_floor_and_multiple_together() -> None:
    """Four groups keep equally many, in fours, at least half."""
    rows = groups_told(cut(grouped(), RemoveChannels(budget=Ratio(0.5), multiple=4, floor=0.5)))

    kept = {row["name"]: row["kept"] for row in rows}
    assert kept == {"w_1[0]": 8, "w_4[0]": 16, "w_7[0]": 8}


def test_heads_and_dims_are_both_within_the_budget() -> None:
    found = numbers(RemoveChannels(budget=MacsBelow(0.3), multiple=8, floor=0), attention())

    assert found["macs_after"] <= 0.3 * found["macs_before"]


def test_each_group_may_have_a_width_of_its_own() -> None:
    step = RemoveChannels(budget=Widths(0.5, {"w_1[*": 1.0, "w_8[0]": 0.25}))
    result = Pipeline([step]).run(tower(), Context(threads=1))
    kept = {told["name"]: told["kept"] for told in groups_told(result)}
    assert kept == {"w_1[0]": 8, "w_8[0]": 3, "w_15[0]": 3}


def test_a_width_for_a_group_that_is_not_there_is_refused() -> None:
    with pytest.raises(InvalidConfig, match="no group is called so; there are w_1"):
        Pipeline([RemoveChannels(budget=Widths(1.0, {"conv9": 0.5}))]).run(tower(), Context(threads=1))
    with pytest.raises(InvalidConfig, match="shares"):
        Widths(1.0, {"a": 0.0})
