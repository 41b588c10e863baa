"""Block removal on random graphs: random sets of blocks go; the rest is the masked original, and costs are foretold."""

from collections import Counter

import numpy as np
import pytest

from graphrewrite import cost
from graphrewrite.ir.check import check
from graphrewrite.passes.blocks import Block
from graphrewrite.passes.blocks.cut import masked, without
from graphrewrite.passes.blocks.ledger import Ledger
from graphrewrite.passes.blocks.problem import BlockProblem
from tests.passes.blocks.drawn import blocks_of
from tests.support.graphs import random_model
from tests.support.oracles import run_all, worlds
from tests.support.tolerances import FLOAT32, largest

QUICK = range(0, 60, 10)
SLOW = range(1000, 2000, 25)


def removed(seed: int, wrong: bool = False) -> tuple[list[Block], float, float]:
    """Return the blocks left out of a random graph, the error, and how far the outputs moved.

    Costs are compared on the way; `wrong` masks one block less than is left out.
    """
    sample = random_model(seed)
    found = blocks_of(sample.model)
    rng = np.random.default_rng(seed)
    problem = BlockProblem(found, rng.random(len(found)), 0.0, frozenset(), lambda dead: 1.0)
    numbers = problem.outermost(problem.share(float(rng.choice([0.0, 0.5]))))
    chosen = [found.blocks[n] for n in numbers]
    if not chosen:
        return [], 0.0, 0.0
    smaller, slow = without(found, chosen), masked(found, chosen[1:] if wrong else chosen)
    check(smaller)
    ledger, left = Ledger(found), cost.of(smaller)
    for number in numbers:
        ledger.leave_out(number)
    assert ledger.left("MACs") == left.macs, str(sample)
    # Of a sum with its norm the sum may be all that is read in the end: the norm's gain goes uncounted then.
    fused = any(node.op.startswith("Skip") for node in sample.model.nodes())
    over = ledger.left("parameters") - left.params
    assert over == 0 or (fused and over > 0), str(sample)
    data = worlds(sample.model, seed)
    want, whole = run_all(slow, data), run_all(sample.model, data)
    error = max(map(largest, run_all(smaller, data), want))
    return chosen, error, max(map(largest, want, whole))


@pytest.mark.parametrize("first", QUICK, ids=lambda first: f"seeds-{first}-{first + 9}")
def test_random_sets_of_blocks(first: int) -> None:
    for seed in range(first, first + 10):
        assert removed(seed)[1] <= FLOAT32, f"seed {seed}"


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("first", SLOW, ids=lambda first: f"seeds-{first}-{first + 24}")
def test_random_sets_of_blocks_in_a_thousand_graphs(first: int) -> None:
    for seed in range(first, first + 25):
        assert removed(seed)[1] <= FLOAT32, f"seed {seed}"


def test_the_graphs_have_blocks_of_both_kinds_and_they_matter() -> None:
    kinds: Counter[str] = Counter()
    moved = caught = 0
    for seed in range(30):
        chosen, _, far = removed(seed)
        kinds.update(block.kind for block in chosen)
        moved += far > 1e-3
        caught += removed(seed, wrong=True)[1] > 1e-3
    assert kinds["residual"] >= 8 and kinds["concat"] >= 3
    assert moved >= 8 and caught >= 5
