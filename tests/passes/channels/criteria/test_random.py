"""Random scores: seeded, and a group's numbers do not hang on the rest of the graph."""

import numpy as np

from graphrewrite.dims import groups
from graphrewrite.ir import Model
from graphrewrite.passes.channels.criteria import Evidence, criteria
from tests.passes.channels.nets import tower


def scores(model: Model, seed: int) -> dict[str, list[float]]:
    evidence = Evidence(model, seed)
    return {group.name: criteria.make("random").score(group, evidence).tolist() for group in groups(model)}


def test_a_seed_gives_the_same_numbers_again_and_another_seed_others() -> None:
    model = tower()

    assert scores(model, 1) == scores(model, 1)
    assert all(scores(model, 1)[name] != scores(model, 2)[name] for name in scores(model, 1))


def test_groups_draw_numbers_of_their_own() -> None:
    first, second = list(scores(tower((8, 8)), 1).values())

    assert first != second


def test_a_group_keeps_its_numbers_when_the_rest_of_the_graph_changes() -> None:
    short, long = scores(tower((8, 12)), 1), scores(tower((8, 12, 5)), 1)

    shared = set(short) & set(long)
    assert len(shared) == 2
    assert all(short[name] == long[name] for name in shared)


def test_the_numbers_lie_between_a_half_and_one_and_a_half() -> None:
    every = np.concatenate([np.array(s) for s in scores(tower((64, 64)), 3).values()])

    assert 0.5 <= every.min() < 0.6 and 1.4 < every.max() < 1.5
