"""Random graphs whose last nodes stand inside a body: nothing changes about what may be cut, and every cut is right.

A loop that repeats the tail of a graph ties nothing new, so its groups are those of the plain graph, word for word. The
two branches of an If share what they capture. Every cut is a sound model, equals the masked original at two batch
sizes, declares the shapes that come out, and costs what the labels foretold.
"""

from collections.abc import Callable

import pytest

from graphrewrite.dims import groups
from graphrewrite.dims.axes import Axis
from graphrewrite.dims.step import Step
from graphrewrite.ir import Model
from tests.engine.dims.bodies import filled
from tests.engine.dims.cases import described
from tests.support.graphs import random_model
from tests.support.inside import in_if, in_list, in_loop, in_scan
from tests.support.verdict import model_faults

Way = Callable[[Model, float, float, int], Model]

QUICK = range(0, 300, 25)
SLOW = range(300, 1500, 6)


def demand(way: Way, seed: int) -> None:
    sample = random_model(seed)
    if way is in_list and sample.model.opset < 13:
        pytest.skip("a Loop carries lists since operator set 13")
    inside = way(sample.model, (seed % 7) / 7, 0.5, seed)
    faults = model_faults(inside, seed, cuts=1, budget=False)
    assert not faults, f"{sample}: {'; '.join(map(str, faults))}"
    if way is not in_if:
        assert sorted(described(groups(inside))) == sorted(described(groups(sample.model))), str(sample)


@pytest.mark.parametrize("seed", QUICK)
@pytest.mark.parametrize("way", [in_loop, in_list, in_scan, in_if])
def test_the_tail_of_a_random_graph_in_a_body(way: Way, seed: int) -> None:
    demand(way, seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SLOW)
@pytest.mark.parametrize("way", [in_loop, in_list, in_scan, in_if])
def test_the_tails_of_many_random_graphs_in_bodies(way: Way, seed: int) -> None:
    demand(way, seed)


RECURRENCE = """agraph (float[N, 4] x) => (float[N, 3] y) <float[4, 6] into, float[6, 3] last, int64 rounds = {3}> {
    h = MatMul (x, into)
    going = Constant <value = bool {1}> ()
    after = Loop (rounds, going, h) <
        body = body (int64 i, bool on, float[N, 6] state) => (bool on_out, float[N, 6] next)
            <float[6, 6] cell, float[6] bias> {
            on_out = Identity (on)
            mixed = MatMul (state, cell)
            biased = Add (mixed, bias)
            next = Tanh (biased)
        }
    >
    y = MatMul (after, last)
}"""
BRANCHES = """agraph (float[N, 4] x, bool choice) => (float[N, 3] y) <float[6, 3] last> {
    h = If (choice) <
        then_branch = one () => (float[N, 6] a) <float[4, 6] left> { a = MatMul (x, left) },
        else_branch = two () => (float[N, 6] b) <float[4, 6] right> { b = MatMul (x, right) }
    >
    y = MatMul (h, last)
}"""


@pytest.mark.parametrize("text", [RECURRENCE, BRANCHES])
def test_a_rule_for_bodies_that_ties_nothing_is_found_out(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = filled(text)
    assert not model_faults(model, 0, budget=False)

    tie = Step.tie

    def loose(s: Step, a: Axis, b: Axis, why: str | None = None) -> None:
        if s.node.op not in ("Loop", "If"):
            tie(s, a, b, why)

    monkeypatch.setattr(Step, "tie", loose)
    assert any(model_faults(model, seed, budget=False) for seed in range(3))
