"""Chunks and choices, by hand."""

import numpy as np
import pytest

from graphrewrite.dims import ChannelGroup, Groups, groups
from graphrewrite.ir import Model
from graphrewrite.passes.channels.selection import Choice, Limits, bisect_share, chunks
from tests.passes.channels.nets import pair, tower


def group(units: int, name: str = "g") -> ChannelGroup:
    return ChannelGroup(name, np.arange(units), (), (), 1.0, 1.0, 1)


@pytest.mark.parametrize(
    ("units", "step", "floor", "expected"),
    [
        (5, 1, 0.0, [1, 1, 1, 1]),  # one stays whatever the floor
        (10, 1, 0.1, [1] * 9),
        (10, 1, 0.5, [1] * 5),
        (10, 1, 0.55, [1] * 4),  # 5.5 units: six stay
        (100, 1, 0.07, [1] * 93),  # 0.07 * 100 is a little more than 7 in floats
        (10, 4, 0.0, [2, 4]),  # 8 and 4 stay
        (10, 4, 0.5, [2]),  # five units: eight stay
        (10, 8, 0.0, [2]),
        (16, 8, 0.0, [8]),
        (20, 8, 0.1, [4, 8]),  # 16 and 8 stay
        (20, 8, 0.45, [4]),  # nine units: sixteen stay
        (20, 8, 0.9, []),  # eighteen units: no multiple in between
        (8, 8, 0.0, []),
        (7, 8, 0.0, []),
        (1, 1, 0.0, []),
        (9, 3, 0.99, []),
    ],
)
def test_chunks_take_a_group_from_multiple_to_multiple_down_to_its_floor(
    units: int, step: int, floor: float, expected: list[int]
) -> None:
    assert chunks(group(units), Limits({"g": step}, floor)) == expected


def test_an_untouched_group_has_no_chunks() -> None:
    assert chunks(group(9), Limits(floor=0, untouched=frozenset("g"))) == []


def whole(model: Model) -> tuple[Groups, list[np.ndarray]]:
    found = groups(model)
    return found, [np.arange(g.units, 0, -1, dtype=np.float64) for g in found]  # the last unit is the worst


def removed(found: Groups, choice: Choice) -> dict[str, list[int]]:
    return {g.name: np.flatnonzero(choice.dead[g.unit_ids]).tolist() for g in found}


def test_a_share_takes_the_lowest_scores_of_every_group() -> None:
    found, scores = whole(tower((8, 5)))

    # Half of 8 and of 5: four and three stay.
    half = Choice(found, scores, Limits(floor=0)).share(0.5)

    assert removed(found, half) == {"w_1[0]": [4, 5, 6, 7], "w_8[0]": [3, 4]}


def test_a_share_is_rounded_up_to_what_the_steps_allow() -> None:
    found, scores = whole(tower((16, 20)))

    half = Choice(found, scores, Limits({"w_1[0]": 8, "w_8[0]": 8}, 0)).share(0.5)

    # Eight of sixteen may go; of twenty ten may, but only four make a multiple.
    assert {name: len(units) for name, units in removed(found, half).items()} == {"w_1[0]": 8, "w_8[0]": 4}


def test_equal_scores_go_in_order() -> None:
    found, _ = whole(tower((4,)))

    assert removed(found, Choice(found, [np.ones(4)], Limits(floor=0)).share(0.5)) == {"w_1[0]": [0, 1]}


def test_the_shortest_choice_leaves_the_floor() -> None:
    found, scores = whole(tower((8, 5)))

    least = Choice(found, scores, Limits(floor=0.3)).shortest()

    assert {name: len(units) for name, units in removed(found, least).items()} == {"w_1[0]": 5, "w_8[0]": 3}


def test_greed_takes_one_unit_at_a_time_until_it_is_enough() -> None:
    """Four hidden units of 5 MACs each, for a batch of two; to lose 12 of 40 takes two units."""
    model = pair(first=np.ones((4, 3)), second=np.ones((2, 4)))
    found, scores = whole(model)
    structure = found.structure
    assert found.macs() == 40

    choice = Choice(found, scores, Limits(floor=0)).greedy(structure.macs, lambda dead: found.macs(dead) - 28)

    assert removed(found, choice) == {"first[0]": [2, 3]}
    assert found.macs(choice.dead) == 20


def test_greed_stops_where_nothing_is_left() -> None:
    model = pair(first=np.ones((4, 3)), second=np.ones((2, 4)))
    found, scores = whole(model)

    choice = Choice(found, scores, Limits(floor=0)).greedy(
        found.structure.macs, lambda dead: found.macs(dead)
    )

    assert removed(found, choice) == {"first[0]": [1, 2, 3]}


def test_useless_units_go_before_all_others() -> None:
    """A score of zero is no harm, wherever it is."""
    found, _ = whole(tower((8, 12, 6)))
    scores = [np.ones(g.units) for g in found]
    for score in scores:
        score[1] = 0

    goal = 0.9 * found.macs()
    choice = Choice(found, scores, Limits(floor=0)).greedy(
        found.structure.macs, lambda dead: found.macs(dead) - goal
    )

    gone = removed(found, choice)
    assert sum(map(len, gone.values())) > 0
    assert all(units in ([], [1]) for units in gone.values())


def test_bisection_finds_the_largest_share() -> None:
    found, scores = whole(tower((8, 12, 6)))

    best = bisect_share(
        lambda share: Choice(found, scores, Limits(floor=0)).share(share),
        lambda choice: found.macs(choice.dead) <= 0.5 * found.macs(),
    )

    # Counted out: the kept counts change at k/8, k/12 and k/6; the largest share that fits is just below the next.
    edges = sorted({k / n for n in (8, 12, 6) for k in range(1, n + 1)})
    fitting = [
        e
        for e in edges
        if found.macs(Choice(found, scores, Limits(floor=0)).share(e).dead) <= 0.5 * found.macs()
    ]
    assert found.macs(best.dead) == found.macs(
        Choice(found, scores, Limits(floor=0)).share(max(fitting)).dead
    )


def test_bisection_returns_the_smallest_when_none_fits() -> None:
    found, scores = whole(tower((8,)))

    best = bisect_share(
        lambda share: Choice(found, scores, Limits(floor=0.5)).share(share), lambda choice: False
    )

    assert found.macs(best.dead) == found.macs(Choice(found, scores, Limits(floor=0.5)).shortest().dead)
