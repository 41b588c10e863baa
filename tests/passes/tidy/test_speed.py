"""Cost grows linearly, however many nodes share one tensor."""

import time
from collections.abc import Callable

import numpy as np
import pytest

from graphrewrite import Context
from graphrewrite.ir import Builder, Model
from graphrewrite.match import Draft, Engine
from graphrewrite.passes.tidy import Tidy
from graphrewrite.passes.tidy.identity import RULES


def chain(length: int) -> Model:
    """Identity, Add of one shared constant, Relu, and so on."""
    b = Builder()
    x = b.input([4])
    shared = b.constant(np.float32(0.5))
    for _ in range(length // 3):
        x = b.relu(b.add(b.op("Identity", x), shared))
    return b.model(x)


def fan(width: int) -> Model:
    """One tensor read by many equal nodes behind an Identity each."""
    b = Builder()
    y = z = b.relu(b.input([4]))
    for _ in range(width // 3):
        z = b.add(z, b.relu(b.op("Identity", y)))
    return b.model(z)


@pytest.mark.parametrize("draw", [chain, fan])
def test_nodes_are_looked_at_a_bounded_number_of_times(draw: Callable[[int], Model]) -> None:
    visits = []
    for size in (300, 600):
        model = draw(size)
        engine = Engine(Draft(model), RULES)
        engine.run()
        visits.append(engine.trace.visits)
    assert visits[1] <= 2.2 * visits[0] and visits[0] <= 300 * 12


@pytest.mark.slow
@pytest.mark.parametrize("draw", [chain, fan])
def test_a_hundred_thousand_nodes_take_seconds(draw: Callable[[int], Model]) -> None:
    seconds = []
    for size in (10_000, 100_000):
        model = draw(size)
        start = time.process_time()
        outcome = Tidy().run(model, Context())
        seconds.append(time.process_time() - start)
    assert outcome.changed
    assert seconds[1] < 60 and seconds[1] < 25 * seconds[0], seconds
