"""Mixed precision beside the best of all assignments of 2, 4 and 8 bits to the layers of a small net."""

from collections.abc import Sequence
from functools import lru_cache
from itertools import product
from math import inf
from typing import NamedTuple

import pytest

from graphrewrite.data import ArraySource
from graphrewrite.match.view import View
from graphrewrite.passes.quant import InsertQdq, MixedPrecision
from graphrewrite.passes.quant.judge import Judge
from graphrewrite.passes.quant.plan import Tier
from graphrewrite.pipeline import Context
from tests.passes.quant.test_mixed import mixed, net, rows, samples

pytestmark = pytest.mark.slow
NAMES = ("a", "b", "c", "d", "last")
BITS = (2, 4, 8)
STEP = InsertQdq(weight_bits=2)


class Assigned(NamedTuple):
    """Bits of each layer, the bytes that they take, and the share of noise in the outputs."""

    bits: tuple[int, ...]
    size: int
    noise: float


@lru_cache
def everything() -> tuple[Assigned, ...]:
    """Return all 243 assignments, quantised and run."""
    model, data = net(), ArraySource({"x": samples()})
    judge = Judge(model, data, Context(), STEP.batch)
    sizes = [int(model.weights[node.inputs[1].name].size) for node in model.graph.nodes if node.op == "Conv"]
    found, measured = [], None
    for bits in product(BITS, repeat=len(NAMES)):
        tiers = {name: Tier(bits=each) for name, each in zip(NAMES, bits, strict=True)}
        made = model.clone()
        planner = STEP.planner(View(made), tiers)
        assert planner is not None
        measured = measured or STEP.measured(made, planner.everything(), planner, Context(data=data))
        result = STEP.written(made, planner, measured, Context(data=data)).model
        size = sum(count * each // 8 for count, each in zip(sizes, bits, strict=True))
        found.append(Assigned(bits, size, judge.noise(result, len(data))))
    return tuple(found)


def assigned(step: MixedPrecision) -> Assigned:
    """Return what the pass comes to, with the size and noise it has among all assignments."""
    found = rows(mixed(net(), step, samples()))
    bits = tuple(int(str(found[name]["bits"])) for name in NAMES)
    (same,) = (each for each in everything() if each.bits == bits)
    return same


def least(of: Sequence[Assigned], size: int) -> Assigned:
    """Return the assignment of least noise within so many bytes."""
    return min((each for each in of if each.size <= size), key=lambda each: each.noise)


@pytest.mark.parametrize("largest", [700, 900, 1200, 1600])
def test_bytes_are_spent_nearly_as_well_as_they_can_be(largest: int) -> None:
    found, best = assigned(MixedPrecision(STEP, inf, largest)), least(everything(), largest)

    assert found.size <= largest
    assert found.noise <= 1.6 * best.noise  # 2 dB


@pytest.mark.parametrize("loss", [0.03, 0.003])
def test_a_loss_is_held_and_no_layer_can_go_down(loss: float) -> None:
    found = assigned(MixedPrecision(STEP, loss))

    assert found.noise <= loss
    below = [
        each
        for each in everything()
        if sum(one != other for one, other in zip(each.bits, found.bits, strict=True)) == 1
        and each.size < found.size
    ]
    assert all(each.noise > loss for each in below)
    fewest = min(each.size for each in everything() if each.noise <= loss)
    assert found.size <= 1.25 * fewest


def test_the_best_of_all_is_no_worse_than_bits_for_all_alike() -> None:
    for alike in (each for each in everything() if len(set(each.bits)) == 1):
        assert least(everything(), alike.size).noise <= alike.noise
