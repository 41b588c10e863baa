"""Gates in wavelet factors on tasks that ask for memory, and what the loss of filters is for."""

import numpy as np
import pytest

from graphrewrite.bridge.weights import stored
from graphrewrite.ir import Model
from graphrewrite.passes.factor import LowerWavelet
from graphrewrite.passes.factor.wavelets import alias_loss, reconstruction_loss
from graphrewrite.pipeline import Pipeline
from graphrewrite.runtime import run
from tests.methods.recurrent import TASKS, nets, numbers, trained

pytestmark = pytest.mark.slow


def strayed(model: Model) -> float:
    """Return how far the filters of all layers are from those of wavelets."""
    weights = {name: entry.array.astype(np.float64) for name, entry in stored(model).items()}
    total = 0.0
    for name, analysis in weights.items():
        if name.endswith("analysis"):
            # Written out they are convolutions, which go backwards.
            pair = analysis[:, 0, ::-1], weights[name.replace("analysis", "synthesis")][:, 0]
            total += reconstruction_loss(*pair) + alias_loss(*pair)
    return total


@pytest.mark.parametrize("seed", range(3))
def test_state_mode_copies_better_than_a_dense_net_as_small(seed: int) -> None:
    task = TASKS["copying"]
    starts = nets(task, seed)

    factored, dense = (task.judged(trained(task, starts[net], seed)) for net in ("state", "narrow as state"))

    assert factored < 0.75 * task.floor
    assert factored < dense


@pytest.mark.parametrize("mode", ["state", "full"])
@pytest.mark.parametrize("seed", range(3))
def test_sums_are_learned_and_served_by_the_operator(mode: str, seed: int) -> None:
    task = TASKS["adding"]
    start = nets(task, seed)[mode]

    model = trained(task, start, seed)

    assert task.judged(model) < 0.25 * task.floor
    assert task.judged(start) > 0.5 * task.floor
    served = Pipeline([LowerWavelet()]).run(model).model
    feeds, _ = task.samples(1, 20)
    for one, two in zip(run(model, feeds).values(), run(served, feeds).values(), strict=True):
        np.testing.assert_allclose(np.asarray(one), np.asarray(two), atol=1e-4)


def test_filters_stay_a_wavelet_s_with_the_loss_and_stray_without() -> None:
    task = TASKS["adding"]

    held, free = (strayed(trained(task, nets(task, 0)["state"], 0, by)) for by in (True, False))

    assert held < 0.01 < 0.1 < free


def test_full_mode_holds_a_tenth_of_the_numbers() -> None:
    task = TASKS["adding"]
    found = nets(task, 0)

    assert numbers(found["full"]) < 0.11 * numbers(found["dense"])
    assert numbers(found["narrow as full"]) <= numbers(found["full"])
