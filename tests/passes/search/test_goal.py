"""Goals: scores by hand, and the front against comparing everybody with everybody."""

import numpy as np
import pytest

from graphrewrite.errors import InvalidConfig
from graphrewrite.passes.search.goal import Goal, front


def test_within_its_limits_a_candidate_is_worth_its_quality() -> None:
    goal = Goal("accuracy", {"macs": 0.5})
    assert goal.score({"accuracy": 0.9, "macs": 0.5}) == 0.9
    assert goal.is_met({"accuracy": 0.9, "macs": 0.5})


def test_beyond_a_limit_the_quality_falls_to_nothing_at_the_original_cost() -> None:
    goal = Goal("accuracy", {"macs": 0.5})
    assert goal.score({"accuracy": 0.8, "macs": 0.75}) == pytest.approx(0.8 * 0.5**2)
    assert goal.score({"accuracy": 0.8, "macs": 1.0}) == 0.0
    assert not goal.is_met({"macs": 0.51})


def test_a_quality_below_zero_is_worse_still_beyond_a_limit() -> None:
    goal = Goal("signal", {"bytes": 0.5})
    assert goal.score({"signal": -3.0, "bytes": 0.6}) == pytest.approx(-3.1)


def test_a_price_weighs_costs_that_have_no_limit() -> None:
    assert Goal(price={"latency": 0.2}).score({"accuracy": 0.9, "latency": 0.5}) == pytest.approx(0.8)


@pytest.mark.parametrize("fields", [{"quality": "speed"}, {"below": {"mac": 0.5}}, {"below": {"macs": 0}}])
def test_a_goal_that_cannot_be_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(InvalidConfig):
        Goal(**fields)  # type: ignore[arg-type]


def beaten(one: dict[str, float], others: list[dict[str, float]]) -> bool:
    """Whether another entry is nowhere worse and somewhere better, said the long way."""
    for other in others:
        worse = other["q"] < one["q"] or other["a"] > one["a"] or other["b"] > one["b"]
        better = other["q"] > one["q"] or other["a"] < one["a"] or other["b"] < one["b"]
        if better and not worse:
            return True
    return False


@pytest.mark.parametrize("seed", range(20))
def test_the_front_is_what_nobody_beats(seed: int) -> None:
    rng = np.random.default_rng(seed)
    found = [dict(zip("qab", map(float, rng.integers(0, 4, 3)), strict=True)) for _ in range(25)]
    kept = front(found, "q", ["a", "b"])
    assert kept and all(not beaten(found[number], found) for number in kept)
    rows = {tuple(found[number].values()) for number in kept}
    assert len(rows) == len(kept)  # equal entries stand there once
    for entry in found:
        assert beaten(entry, found) != (tuple(entry.values()) in rows)
    assert [found[number]["q"] for number in kept] == sorted((found[n]["q"] for n in kept), reverse=True)
