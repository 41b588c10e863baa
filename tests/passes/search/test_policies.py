"""Policies on problems whose answer is known, against points drawn evenly at the same number of evaluations."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from graphrewrite.errors import InvalidConfig
from graphrewrite.passes.search.policies import Policy, policies
from graphrewrite.passes.search.policies.evolution import Evolution
from graphrewrite.passes.search.policies.natural_gradient import (
    Distributions,
    NaturalGradient,
    fisher_length,
    floored,
    utilities,
)
from graphrewrite.passes.search.policies.particle_swarm import ParticleSwarm
from graphrewrite.passes.search.policies.random import Random
from graphrewrite.passes.search.space import Point


def best_of(
    policy: Policy, sizes: Sequence[int], worth: Callable[[list[int]], float], budget: int, seed: int
) -> float:
    """Return the best value of so many points; one seen before costs nothing, twenty batches of such end it."""
    searcher = policy.start(sizes, np.random.default_rng(seed))
    known: dict[tuple[int, ...], float] = {}
    idle = 0
    while len(known) < budget and idle < 20:
        points, before = searcher.ask(), len(known)
        cells = [tuple(min(int(x * n), n - 1) for x, n in zip(p, sizes, strict=True)) for p in points]
        told: list[tuple[Point, float]] = []
        for point, cell in zip(points, cells, strict=True):
            if cell not in known and len(known) < budget:
                known[cell] = worth(list(cell))
            if cell in known:
                told.append((point, known[cell]))
        searcher.tell([point for point, _ in told], [value for _, value in told])
        idle = 0 if len(known) > before else idle + 1
    return max(known.values())


def planted(sizes: Sequence[int], seed: int) -> tuple[Callable[[list[int]], float], float]:
    """Return a table of 4 values for each of three layers, with pairs that matter, and its largest value."""
    rng = np.random.default_rng(seed)
    table = rng.random(tuple(sizes)) * 0.3
    table += rng.random((sizes[0], 1, 1)) + rng.random((1, sizes[1], 1)) + rng.random((1, 1, sizes[2]))
    return lambda cell: float(table[tuple(cell)]), float(table.max())


SMALL = Evolution(population=6, first=10, mutants=6, children=6, mutation=0.3)


def test_evolution_finds_the_best_of_a_small_table_before_it_has_seen_all_of_it() -> None:
    hits = 0
    for seed in range(20):
        worth, top = planted((4, 4, 4), seed)
        hits += best_of(SMALL, (4, 4, 4), worth, 48, seed) == top
    assert hits >= 17


@pytest.mark.parametrize("policy", [SMALL, ParticleSwarm(), NaturalGradient(samples=4, step=0.5)])
def test_a_policy_beats_drawing_evenly_on_a_sum_of_parts(policy: Policy) -> None:
    # Twelve coordinates of eight values, each worth the more the nearer it is to a place of its own.
    sizes = [8] * 12
    wins = 0
    for seed in range(10):
        goal = np.random.default_rng(seed).integers(0, 8, 12)

        def worth(cell: list[int], goal: "np.ndarray[tuple[int, ...], np.dtype[np.int64]]" = goal) -> float:
            return -float(np.square(np.array(cell) - goal).sum())

        found = best_of(policy, sizes, worth, 300, seed)
        wins += found > best_of(Random(), sizes, worth, 300, seed)
    assert wins >= 9


def test_a_swarm_reaches_the_bottom_of_a_bowl_of_whole_numbers() -> None:
    sizes = [16] * 4

    def worth(cell: list[int]) -> float:
        return -float(sum((value - want) ** 2 for value, want in zip(cell, (3, 12, 7, 9), strict=True)))

    found = [best_of(ParticleSwarm(), sizes, worth, 250, seed) for seed in range(20)]
    drawn = [best_of(Random(), sizes, worth, 250, seed) for seed in range(20)]
    assert sum(value == 0 for value in found) >= 15
    assert float(np.mean(found)) > float(np.mean(drawn))


@pytest.mark.parametrize("name", list(policies))
def test_the_same_seed_asks_the_same_and_points_lie_in_the_cube(name: str) -> None:
    runs = []
    for _ in range(2):
        searcher = policies.make(name).start([3, None, 5], np.random.default_rng(7))
        asked = []
        for _ in range(4):
            points = searcher.ask()
            assert points and all(len(point) == 3 for point in points)
            assert all(0 <= place <= 1 for point in points for place in point)
            searcher.tell(points, [sum(point) for point in points])
            asked += points
        runs.append(asked)
    assert runs[0] == runs[1]


@pytest.mark.parametrize("name", list(policies))
def test_candidates_that_came_to_nothing_do_not_stop_a_run(name: str) -> None:
    searcher = policies.make(name).start([4, 4], np.random.default_rng(0))
    for _ in range(3):
        points = searcher.ask()
        searcher.tell(points, [-np.inf] * len(points))
    assert all(0 <= place <= 1 for point in searcher.ask() for place in point)


@pytest.mark.parametrize(
    "made",
    [
        lambda: Random(0),
        lambda: Evolution(mutants=0, children=0),
        lambda: Evolution(mutation=0.0),
        lambda: ParticleSwarm(reach=0.0),
        lambda: NaturalGradient(samples=1),
        lambda: NaturalGradient(share=0.6),
    ],
)
def test_settings_that_cannot_be_are_refused(made: Callable[[], Policy]) -> None:
    with pytest.raises(InvalidConfig):
        made()


# The natural gradient, piece by piece.


def test_utilities_by_hand() -> None:
    assert utilities([3.0, 1.0, 2.0, 0.0], 0.25).tolist() == [1, 0, 0, -1]
    assert utilities([1.0, 5.0], 0.25).tolist() == [-1, 1]
    assert utilities([2.0, 2.0], 0.25).tolist() == [0, 0]
    assert utilities([2.0, 2.0, 1.0, 0.0], 0.25).tolist() == [0.5, 0.5, 0, -1]


def test_a_floor_keeps_everything_possible_and_the_sum_one() -> None:
    odds = floored(np.array([0.97, 0.03, 0.0, 0.0]), fields=5)
    assert odds.sum() == pytest.approx(1)
    assert odds.min() == pytest.approx(1 / (5 * 3))
    assert floored(np.array([0.5, 0.5]), fields=1).tolist() == [0.5, 0.5]


def test_a_step_has_the_length_it_was_asked_for() -> None:
    settings = NaturalGradient(samples=4, step=0.3)
    state = settings.start([4, 3, 6], np.random.default_rng(1))
    assert isinstance(state, Distributions)
    before = [each.copy() for each in state.odds]
    points = state.ask()
    state.tell(points, [1.0, 0.0, 2.0, 3.0])
    moved = [new - old for new, old in zip(state.odds, before, strict=True)]
    assert fisher_length(moved, before) == pytest.approx(0.3)  # from the middle no floor is in the way
    assert all(each.sum() == pytest.approx(1) for each in state.odds)


def test_the_mode_comes_to_the_best_of_thirteen_separate_choices() -> None:
    sizes = [4] + [12] * 12
    rng = np.random.default_rng(0)
    worth = [rng.permutation(np.linspace(0, 1, size)) for size in sizes]

    def value(point: Point) -> float:
        return float(sum(w[min(int(x * len(w)), len(w) - 1)] for w, x in zip(worth, point, strict=True)))

    state = NaturalGradient(step=0.3).start(sizes, np.random.default_rng(1))
    assert isinstance(state, Distributions)
    for _ in range(1000):
        points = state.ask()
        state.tell(points, [value(point) for point in points])
    drawn = np.random.default_rng(2)
    even = max(value(tuple(drawn.random(13))) for _ in range(2000))
    assert value(state.mode()) >= 12.3 > even
