"""No change makes the analysis more timid on models that everybody has."""

import warnings
from collections.abc import Callable

import pytest

from graphrewrite.dims.axes import Axis
from graphrewrite.dims.step import Step
from graphrewrite.ir import Model
from tests.corpus.floors import HOW, Floor, cached, drawn, floor, read

FLOORS = read()
DRAWN = dict(drawn())
CACHED = {name: load for name, load in cached() if name in FLOORS}


def hold(name: str, load: Callable[[], Model]) -> None:
    """Fail when a model's floor sank; say so when it rose."""
    new, old = floor(load()), FLOORS[name]
    assert not new.worse_than(old), f"{name}: {'; '.join(new.worse_than(old))}; {HOW}"
    if old.worse_than(new):
        warnings.warn(f"{name} got better: {old} is now {new}; {HOW}", stacklevel=1)


@pytest.mark.parametrize("name", sorted(DRAWN))
def test_drawn_models_hold_their_floors(name: str) -> None:
    assert name in FLOORS, f"{name} has no floor yet: {HOW}"
    hold(name, DRAWN[name])


@pytest.mark.slow
@pytest.mark.skipif(
    not CACHED, reason="there is no corpus here; python tests/corpus/build.py --core makes one"
)
def test_exports_hold_their_floors() -> None:
    for name, load in CACHED.items():
        hold(name, load)


@pytest.mark.parametrize("name", sorted(DRAWN))
def test_every_drawn_model_has_something_to_lose(name: str) -> None:
    assert FLOORS[name].units > 1
    assert FLOORS[name].macs < 1


def test_each_loss_is_named() -> None:
    old = Floor(units=40, groups=3, pinned=2, macs=0.1)

    assert Floor(39, 3, 2, 0.1).worse_than(old) == ["39 units may be removed, 40 could"]
    assert Floor(40, 3, 3, 0.1).worse_than(old) == ["3 axes are pinned, 2 were"]
    assert Floor(40, 3, 2, 0.25).worse_than(old) == ["at best 0.2500 of the MACs are left, 0.1000 were"]
    assert not Floor(41, 1, 0, 0.05).worse_than(old)


def test_a_timid_sum_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule that keeps whatever it ties is as correct as can be, and no proof would ever complain."""
    tie = Step.tie

    def timid(step: Step, a: Axis, b: Axis) -> None:
        tie(step, a, b)
        if step.node.op == "Add":
            step.pin(a, "better safe than sorry")

    monkeypatch.setattr(Step, "tie", timid)
    name = "shipped digits_resnet"

    with pytest.raises(
        AssertionError, match="units may be removed.*axes are pinned.*of the MACs are left.*--write"
    ):
        hold(name, DRAWN[name])


def test_a_better_result_asks_for_a_higher_floor(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "shipped digits_resnet"
    monkeypatch.setitem(FLOORS, name, Floor(units=1, groups=1, pinned=99, macs=1.0))

    with pytest.warns(UserWarning, match="got better.*--write"):
        hold(name, DRAWN[name])
