"""Cost grows linearly, however many nodes share one tensor."""

import time

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
    """One tensor read by many Identities, all summed up at the end."""
    b = Builder()
    y = b.relu(b.input([4]))
    return b.model(b.op("Sum", *(b.op("Identity", y) for _ in range(width))))


@pytest.mark.parametrize("draw", [chain, fan])
def test_nodes_are_looked_at_a_bounded_number_of_times(draw) -> None:  # type: ignore[no-untyped-def]
    visits = []
    for size in (300, 600):
        model = draw(size)
        engine = Engine(Draft(model), RULES)
        engine.run()
        visits.append(engine.trace.visits)
    assert visits[1] <= 2.2 * visits[0] and visits[0] <= 300 * 12


@pytest.mark.slow
@pytest.mark.parametrize("draw", [chain, fan])
def test_a_hundred_thousand_nodes_take_seconds(draw) -> None:  # type: ignore[no-untyped-def]
    seconds = []
    for size in (10_000, 100_000):
        model = draw(size)
        start = time.process_time()
        outcome = Tidy().run(model, Context())
        seconds.append(time.process_time() - start)
    assert outcome.changed
    assert seconds[1] < 60 and seconds[1] < 25 * seconds[0], seconds
