"""Laws that every registered reconstruction obeys."""

import json

import numpy as np
import numpy.typing as npt
import pytest

from graphrewrite.passes.channels import MacsBelow, RemoveChannels
from graphrewrite.passes.channels.reconstruct import Reconstruction, reconstructions
from graphrewrite.pipeline import Context, Pass, Pipeline
from graphrewrite.serial import from_json, to_json
from tests.passes.channels.nets import NETS, samples
from tests.support.registered import is_documented_frozen

NAMES = list(reconstructions)
ALIVE = np.array([True, False, True, True, False])


def features(seed: int = 0) -> npt.NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((90, 5)) @ rng.standard_normal((5, 5)) + rng.standard_normal(5)


def estimate(
    name: str, x: npt.NDArray[np.float64], parts: int = 1, alive: npt.NDArray[np.bool_] = ALIVE
) -> npt.NDArray[np.float64]:
    """Return what a reconstruction predicts of the removed columns, [rows, dead]."""
    step = reconstructions.make(name)
    accumulator = step.statistic(1)()
    for part in np.array_split(x, parts):
        accumulator.update(part.astype(np.float32))
    transfer, constant = step.estimate(accumulator.result(), alive)
    assert constant.shape == (int((~alive).sum()),)
    if transfer is None:
        return np.tile(constant, (len(x), 1))
    assert transfer.shape == (len(constant), int(alive.sum()))
    return x[:, alive] @ transfer.T + constant


@pytest.mark.parametrize("name", NAMES)
def test_a_reconstruction_is_a_documented_frozen_dataclass(name: str) -> None:
    factory = reconstructions.find(name)

    assert is_documented_frozen(factory, Reconstruction)


@pytest.mark.parametrize("name", NAMES)
def test_the_estimate_is_right_on_average_and_no_worse_than_the_mean(name: str) -> None:
    x = features()

    wrong = estimate(name, x) - x[:, ~ALIVE]

    np.testing.assert_allclose(wrong.mean(axis=0), 0, atol=1e-5)
    assert (wrong.var(axis=0) <= x[:, ~ALIVE].var(axis=0) * (1 + 1e-6)).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_constant_channel_is_its_constant(name: str) -> None:
    x = features()
    x[:, 1], x[:, 4] = 3.0, -0.25

    np.testing.assert_allclose(estimate(name, x), np.tile([3.0, -0.25], (len(x), 1)), rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_batches_do_not_matter(name: str) -> None:
    np.testing.assert_allclose(
        estimate(name, features(), parts=7), estimate(name, features()), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_channels_does_not_matter(name: str) -> None:
    x, order = features(), np.array([3, 4, 0, 1, 2])

    turned = estimate(name, x[:, order], alive=ALIVE[order])

    dead = np.flatnonzero(~ALIVE)
    places = [int(np.flatnonzero(order[~ALIVE[order]] == d)[0]) for d in dead]
    np.testing.assert_allclose(turned[:, places], estimate(name, x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("net", [net for net in NETS if net != "recurrent"])
@pytest.mark.parametrize("name", NAMES)
def test_removal_with_it_passes_its_claim(name: str, net: str) -> None:
    model = NETS[net]()
    step = RemoveChannels(budget=MacsBelow(0.6), reconstruct=reconstructions.make(name))

    result = Pipeline([step]).run(model, Context(data=samples(model), threads=1))

    assert result.changed and result.report.steps[0].verified.how == "reference"


@pytest.mark.parametrize("name", NAMES)
def test_it_survives_json_within_a_pass(name: str) -> None:
    step = RemoveChannels(reconstruct=reconstructions.make(name))

    assert from_json(json.loads(json.dumps(to_json(step, Pass))), Pass) == step
