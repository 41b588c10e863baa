"""Channel removal on random graphs: any set of units may go, and what is left is exactly the masked original.

Every graph is cut twice at random and once by a budget. The cut is a sound model, loads, and equals the reference, at
two batch sizes where the batch is symbolic. A failure is shrunk, saved and named.
"""

from collections.abc import Callable

import numpy as np
import pytest

from graphrewrite.dims import groups
from graphrewrite.dims.step import Step
from graphrewrite.errors import BudgetError
from graphrewrite.ir import Model
from graphrewrite.ir.check import check
from graphrewrite.passes.channels import MacsBelow, Ratio, RemoveChannels
from graphrewrite.pipeline import Context
from tests.support.blocks import blocks
from tests.support.graphs import Sample, random_model
from tests.support.minimise import minimise, report
from tests.support.oracles import (
    STEPS,
    is_rounding,
    plant,
    planted_error,
    random_dead,
    removal,
    removal_error,
    run_all,
    scores,
    worlds,
)
from tests.support.tolerances import FLOAT32, UNCHANGED, largest

QUICK = range(0, 300, 10)
SLOW = range(300, 5300, 50)


def random_cuts(model: Model, seed: int, cuts: int = 2) -> float:
    """Return the worst error over random sets of removed units."""
    found = groups(model)
    rng = np.random.default_rng([seed, 5])
    return max((removal_error(model, found, random_dead(found, rng)) for _ in range(cuts)), default=0.0)


def budget_cut(model: Model) -> float:
    """Return the error of a cut to half of the operations, or of half of every layer where that cannot be had."""
    try:
        outcome = RemoveChannels(budget=MacsBelow(0.5)).run(model.clone(), Context(threads=1))
    except BudgetError:
        outcome = RemoveChannels(budget=Ratio(0.5), scope="uniform").run(model.clone(), Context(threads=1))
    if outcome.reference is None:
        return 0.0
    check(outcome.model)
    slow = outcome.reference()
    error = difference(outcome.model, slow, 0)
    if error > FLOAT32 and is_rounding(error, worlds(model), outcome.model, slow):
        return 0.0
    if error > FLOAT32 and any(node.op in STEPS for node in model.graph.nodes):
        error = min(error, difference(outcome.model, slow, 1))
    return error


def difference(cut: Model, slow: Model, seed: int) -> float:
    data = worlds(cut, seed)
    return max(largest(got, want) for got, want in zip(run_all(cut, data), run_all(slow, data), strict=True))


def demand(sample: Sample, measure: Callable[[Model], float], what: str) -> None:
    """Fail with the seed and the path of a shrunken graph when an error is too large or an exception comes."""

    def fails(model: Model) -> bool:
        try:
            return measure(model) > FLOAT32
        except Exception as error:
            return type(error) is kind

    kind: type[BaseException] | None = None
    try:
        error = measure(sample.model)
    except Exception as raised:
        kind = type(raised)
        pytest.fail(report(sample.model, fails, f"{what} of {sample} raises {kind.__name__}: {raised}"))
    if error > FLOAT32:
        pytest.fail(report(sample.model, fails, f"{what} of {sample} is off by {error:.1e}"))


@pytest.mark.parametrize("first", QUICK, ids=lambda first: f"seeds-{first}-{first + 9}")
def test_every_cut_equals_the_masked_original(first: int) -> None:
    for seed in range(first, first + 10):
        sample = random_model(seed)
        demand(sample, lambda model, seed=seed: random_cuts(model, seed), "a random cut")  # type: ignore[misc]
        demand(sample, budget_cut, "a cut to a budget")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("first", SLOW, ids=lambda first: f"seeds-{first}-{first + 49}")
def test_every_cut_equals_the_masked_original_on_thousands(first: int) -> None:
    for seed in range(first, first + 50):
        sample = random_model(seed)
        demand(sample, lambda model, seed=seed: random_cuts(model, seed), "a random cut")  # type: ignore[misc]
        demand(sample, budget_cut, "a cut to a budget")


def test_the_graphs_use_every_block_and_the_cuts_can_be_seen() -> None:
    """A proof that compares two models that never changed proves nothing."""
    moved = cut = 0
    names: set[str] = set()
    for seed in range(60):
        sample = random_model(seed)
        found = groups(sample.model)
        dead = random_dead(found, np.random.default_rng([seed, 5]))
        cut += bool(dead.any())
        moved += removal(sample.model, found, dead).moved > 1e-3
    for seed in range(len(blocks)):
        names.update(random_model(seed).names)
    assert cut > 50 and moved > 45
    assert names == set(blocks)


# ------------------------------------------------------------------------------------------------ planted units


@pytest.mark.parametrize("first", range(0, 120, 20), ids=lambda first: f"seeds-{first}-{first + 19}")
def test_useless_units_are_found_and_their_removal_changes_nothing(first: int) -> None:
    planted_somewhere = 0
    for seed in range(first, first + 20):
        sample = random_model(seed)
        planted = plant(sample.model, np.random.default_rng([seed, 9]))
        if planted is None:
            continue
        planted_somewhere += 1
        before, after = groups(sample.model), planted.found
        assert (before.structure.units == after.structure.units).all(), f"{sample}: values changed the groups"
        assert ((scores(after) == 0) == planted.dead).all(), (
            f"{sample}: the units of score 0 are not the planted ones"
        )
        dead = planted.found.balanced(planted.dead)
        if (dead == planted.dead).all():
            assert planted_error(planted) <= UNCHANGED, f"{sample}: a useless unit mattered"
    assert planted_somewhere > 10


# ------------------------------------------------------------------------------------------------ mutations


def red(seeds: range) -> int:
    """Count the seeds whose random cuts fail, by a difference or an invalid model."""
    count = 0
    for seed in seeds:
        try:
            count += random_cuts(random_model(seed).model, seed, 1) > FLOAT32
        except Exception:
            count += 1
    return count


def forget_ties(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Step, "tie", lambda self, a, b, why=None: None)


def forget_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Step, "restate", lambda self, needs, apply: None)


def forget_pins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Step, "pin", lambda self, axis, why: None)
    monkeypatch.setattr(Step, "pin_positions", lambda self, axis, positions, why: None)


def forget_mixing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Step, "mix", lambda self, kind, slot, axes: None)


@pytest.mark.parametrize(
    ("fault", "least"),
    [(forget_ties, 25), (forget_numbers, 10), (forget_pins, 2), (forget_mixing, 20)],
    ids=lambda each: getattr(each, "__name__", ""),
)
def test_a_fault_in_the_rules_shows(
    fault: Callable[[pytest.MonkeyPatch], None], least: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault(monkeypatch)
    assert red(range(30)) >= least


def test_cutting_other_units_than_claimed_shows() -> None:
    """Compare the cut of one set with the reference of another."""
    from graphrewrite.dims import reference, shrink

    seen = tried = 0
    for seed in range(20):
        model = random_model(seed).model
        found = groups(model)
        dead = random_dead(found, np.random.default_rng([seed, 5]))
        alive = [g for g in found if 0 < dead[g.unit_ids].sum() < g.units]
        if not alive:
            continue
        other = dead.copy()
        ids = alive[0].unit_ids
        other[ids[dead[ids]][0]], other[ids[~dead[ids]][0]] = False, True
        if (found.balanced(other) != other).any():
            continue
        cut = shrink(found.analysis, found.dead_labels(dead)).model
        slow = reference(found.analysis, found.dead_labels(other))[0]
        feeds = worlds(model)[:1]
        tried += 1
        seen += largest(run_all(cut, feeds)[0], run_all(slow, feeds)[0]) > FLOAT32
    assert tried > 12 and seen >= tried - 2


def test_a_planted_unit_that_is_not_useless_shows() -> None:
    """Cut one unit more than was planted."""
    seen = tried = 0
    for seed in range(20):
        planted = plant(random_model(seed).model, np.random.default_rng([seed, 9]))
        if planted is None:
            continue
        spare = [g for g in planted.found if (~planted.dead[g.unit_ids]).sum() > 1]
        if not spare:
            continue
        more = planted.dead.copy()
        more[spare[0].unit_ids[~planted.dead[spare[0].unit_ids]][0]] = True
        if (planted.found.balanced(more) != more).any():
            continue
        tried += 1
        seen += planted_error(type(planted)(planted.model, planted.found, more)) > UNCHANGED
    assert tried > 8 and seen >= tried - 2


def test_a_failure_is_shrunk_to_the_node_that_causes_it() -> None:
    """One kind of node is singled out among dozens."""
    sample = next(
        s
        for s in map(random_model, range(200))
        if "map.residual" in s.names and len(s.model.graph.nodes) > 20
    )

    def fails(model: Model) -> bool:
        return any(node.op == "BatchNormalization" for node in model.graph.nodes)

    small = minimise(sample.model, fails)
    assert [node.op for node in small.graph.nodes if node.op != "Constant"] == ["BatchNormalization"]
    assert run_all(small, worlds(small))
