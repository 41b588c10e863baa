"""Heads that lose dims of their own, in random graphs with attention in them: every cut is sound and foretold."""

import numpy as np
import pytest

from graphrewrite.dims import groups
from tests.support.blocks import blocks
from tests.support.graphs import random_model
from tests.support.oracles import random_dead
from tests.support.verdict import cut_faults

# Blocks that may come first; most of what they draw leaves heads apart, some ties them.
LEADS = (
    "map.axial_attention",
    "map.grid_attention",
    "seq.attention",
    "seq.class_attention",
    "seq.cosine_attention",
    "seq.cross_attention",
    "seq.gated_heads",
    "seq.masked_by_input",
    "seq.relative_bias",
)


def faults_of(lead: str, rounds: range) -> tuple[int, list[str]]:
    """Return how many graphs have heads with dims of their own, and what is wrong with cuts of any of them."""
    place, apart, faults = list(blocks).index(lead), 0, []
    for number in rounds:
        sample = random_model(number * len(blocks) + place)
        found = groups(sample.model, own_dims=True)
        apart += bool(found.analysis.cells)
        rng = np.random.default_rng([number, 3])
        for _ in range(2):
            dead = random_dead(found, rng)
            faults += [f"{sample}: {fault}" for fault in cut_faults(sample.model, found, dead)]
    return apart, faults


def test_cuts_are_sound_and_foretold() -> None:
    results = [faults_of(lead, range(6)) for lead in LEADS]

    assert not [fault for _, faults in results for fault in faults]
    assert sum(apart for apart, _ in results) > 20


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("first", range(100, 400, 50), ids=lambda first: f"rounds-{first}-{first + 49}")
@pytest.mark.parametrize("lead", LEADS)
def test_cuts_are_sound_and_foretold_on_thousands(lead: str, first: int) -> None:
    assert not faults_of(lead, range(first, first + 50))[1]
