"""Which blocks a budget takes: exact costs, floors, scores per saving, and what is left alone."""

import itertools
import re

import numpy as np
import pytest

from graphrewrite import cost
from graphrewrite.errors import BudgetError, InvalidConfig
from graphrewrite.ir import Model
from graphrewrite.passes.blocks import RemoveBlocks
from graphrewrite.passes.blocks.cut import without
from graphrewrite.passes.blocks.ledger import Ledger
from graphrewrite.passes.blocks.problem import BlockProblem
from graphrewrite.passes.channels import LatencyBelow, MacsBelow, ParamsBelow, Ratio
from graphrewrite.passes.channels.budgets import Mask
from tests.passes.blocks.drawn import NETS, blocks_of, nested, remove, resnet
from tests.passes.channels.nets import tower


def problem(model: Model, floor: float = 0.0, untouched: tuple[int, ...] = (), seed: int = 0) -> BlockProblem:
    """A problem with random scores whose clock counts MACs."""
    found = blocks_of(model)
    scores = np.random.default_rng(seed).random(len(found)) + 0.1
    made = BlockProblem(found, scores, floor, frozenset(untouched), lambda dead: made.left("MACs", dead))
    return made


@pytest.mark.parametrize("net", NETS)
def test_the_ledger_counts_what_a_cut_costs(net: str) -> None:
    """Blocks go and come back in random order; after each step the books are those of a model made from scratch."""
    model = NETS[net]()
    found = blocks_of(model)
    ledger, rng = Ledger(found), np.random.default_rng(1)

    for _ in range(12):
        block = int(rng.integers(len(found)))
        (ledger.put_back if ledger.out[block] else ledger.leave_out)(block)
        left = cost.of(without(found, [found.blocks[n] for n in np.flatnonzero(ledger.out)]))
        assert ledger.left("MACs") == left.macs
        assert ledger.left("parameters") == left.params


@pytest.mark.parametrize("fraction", [0.8, 0.6, 0.4])
def test_a_budget_is_met_and_nothing_goes_needlessly(fraction: float) -> None:
    asked = problem(resnet())
    dead = MacsBelow(fraction).choose(asked)

    assert asked.left("MACs", dead) <= fraction
    for number in np.flatnonzero(dead):
        less = dead.copy()
        less[number] = False
        assert asked.left("MACs", less) > fraction


def test_least_harm_per_saving() -> None:
    """Blocks of the first stage save more each; with scores that follow savings, the lowest score wins."""
    asked = problem(resnet())
    ratio = asked.scores / np.array([block.macs for block in asked.blocks])
    dead = MacsBelow(0.95).choose(asked)

    assert np.flatnonzero(dead).tolist() == [int(np.argmin(ratio))]


@pytest.mark.parametrize("net", ["resnet", "nested", "pre", "gated"])
@pytest.mark.parametrize("floor", [0.0, 0.3, 0.5])
def test_floors_hold_and_the_reachable_is_reached(net: str, floor: float) -> None:
    asked = problem(NETS[net](), floor)
    with pytest.raises(BudgetError, match=r"ask for [\d.]+ or more") as caught:
        MacsBelow(1e-6).choose(asked)
    (told,) = re.findall(r"ask for ([\d.]+) or more", str(caught.value))

    dead = MacsBelow(float(told)).choose(asked)

    streams = [block.stream for block in asked.blocks]
    for stream in set(streams):
        kept = sum(not gone for gone, own in zip(dead, streams, strict=True) if own == stream)
        assert kept >= floor * streams.count(stream)
    assert asked.left("MACs", dead) == pytest.approx(best(asked, floor))


def best(asked: BlockProblem, floor: float) -> float:
    """Return the least share of the MACs that any allowed set of blocks leaves: all sets are tried."""
    streams = [block.stream for block in asked.blocks]
    counts = {stream: streams.count(stream) for stream in streams}
    least = 1.0
    for chosen in itertools.product((False, True), repeat=len(streams)):
        dead = closed(asked, np.array(chosen))
        kept = {s: sum(not g for g, own in zip(dead, streams, strict=True) if own == s) for s in counts}
        if all(kept[s] >= floor * counts[s] for s in counts):
            least = min(least, asked.left("MACs", dead))
    return least


def closed(asked: BlockProblem, dead: Mask) -> Mask:
    """Return a mask in which what lies inside removed blocks is removed too."""
    result = dead.copy()
    for number in np.flatnonzero(dead):
        result[asked.blocks.within(int(number))] = True
    return result


def test_a_ratio_counts_blocks_in_every_stream_and_takes_the_lowest_scores() -> None:
    asked = problem(resnet(3))
    dead = Ratio(0.6).choose(asked)  # of three blocks two stay

    for stage in (slice(0, 3), slice(3, 6)):
        assert dead[stage].sum() == 1 and np.argmax(dead[stage]) == np.argmin(asked.scores[stage])


def test_a_block_takes_those_inside_it_along() -> None:
    dead = MacsBelow(0.2).choose(problem(nested()))

    assert dead.tolist() == closed(problem(nested()), dead).tolist() and dead.any()


def test_what_is_left_alone_keeps_what_lies_around_it() -> None:
    asked = problem(nested(), untouched=(0,))  # inner0: then neither outer nor long may go

    assert asked.least_possible().tolist() == [False, True, False, False]


@pytest.mark.parametrize("budget", [MacsBelow(0.7), ParamsBelow(0.7), Ratio(0.6), LatencyBelow(0.7)])
def test_every_budget_works(budget: MacsBelow) -> None:
    asked = problem(resnet())
    dead = budget.choose(asked)

    assert dead.any() and dead.shape == (6,)
    if not isinstance(budget, Ratio):
        assert asked.left("parameters" if isinstance(budget, ParamsBelow) else "MACs", dead) <= 0.7


def test_a_model_without_blocks_says_so() -> None:
    with pytest.raises(BudgetError, match="has no block to leave out"):
        remove(tower(), RemoveBlocks(budget=MacsBelow(0.5)))


@pytest.mark.parametrize("pattern", ["a1", "a1.one", "a1.norm_out", "a1.*"])
def test_patterns_keep_blocks(pattern: str) -> None:
    result = remove(resnet(), RemoveBlocks(budget=Ratio(0.1), skip=(pattern,)))
    rows = result.report.steps[0].details["blocks"]

    assert [row["removed"] for row in rows][:3] == [True, False, True]  # type: ignore[union-attr, index, call-overload]


def test_a_pattern_that_names_nothing_is_refused_and_one_outside_all_blocks_is_told() -> None:
    with pytest.raises(InvalidConfig, match="names no node, tensor or block"):
        remove(resnet(), RemoveBlocks(skip=("nowhere",)))
    result = remove(resnet(), RemoveBlocks(budget=Ratio(0.5), skip=("stem",)))
    assert ("stem", "nothing it names lies in a block") in {(n.subject, n.text) for n in result.notes}


@pytest.mark.parametrize("floor", [-0.1, 1.0, True])
def test_an_impossible_floor_is_refused(floor: float) -> None:
    with pytest.raises(InvalidConfig, match=r"RemoveBlocks\.floor"):
        RemoveBlocks(floor=floor)
