"""Heads that lose dims of their own: what is useless in each of them goes, and only when it is asked for."""

import numpy as np
import pytest

from graphrewrite.ir import Model
from graphrewrite.passes.channels import MacsBelow, Ratio, RemoveChannels
from tests.passes.channels.nets import cut, groups_told, kept_told
from tests.passes.channels.planted_nets import transformer
from tests.support.oracles import run_all, worlds
from tests.support.tolerances import UNCHANGED, largest

HEADS, DIM = 4, 8
OWN = RemoveChannels(budget=Ratio(0.75), absorb=False, units=("own_head_dim",))


def zeroed(useless: np.ndarray, *names: str) -> Model:
    """Return a transformer in which cells [heads, dims] of these layers compute zero."""
    model = transformer(0).model
    columns = np.flatnonzero(useless.ravel())
    for name in names:
        for tensor in (name, f"{name}.bias"):
            array = np.array(model.weights[tensor])
            array[..., columns] = 0
            model.weights[tensor] = array
    return model


def moved(before: Model, after: Model) -> float:
    data = worlds(before)
    return max(
        largest(got, want) for got, want in zip(run_all(after, data), run_all(before, data), strict=True)
    )


def cells(seed: int) -> np.ndarray:
    """Return two dims of every head, others in each."""
    rng, useless = np.random.default_rng(seed), np.zeros((HEADS, DIM), dtype=bool)
    for row in useless:
        row[rng.choice(DIM, 2, replace=False)] = True
    return useless


@pytest.mark.parametrize("seed", range(3))
def test_useless_dims_of_each_head_go_and_the_outputs_stay(seed: int) -> None:
    useless = cells(seed)
    assert not (useless == useless[0]).all()
    model = zeroed(useless, "q", "k", "v")

    result = cut(model, OWN)

    alive = np.flatnonzero(~useless.ravel()).tolist()
    kept = kept_told(result)
    assert {name: kept[name]["1"] for name in ("q", "k", "v")} == dict.fromkeys(("q", "k", "v"), alive)
    assert kept["out"]["0"] == alive
    assert moved(model, result.model) < UNCHANGED


def test_the_same_dims_in_every_head_would_be_missed() -> None:
    """What the product of heads and dims can do with such a model."""
    model = zeroed(cells(0), "q", "k", "v")

    result = cut(model, RemoveChannels(budget=Ratio(0.75), absorb=False, units=("head_dim",)))

    assert moved(model, result.model) > 1e-3


def test_a_useless_head_goes_as_a_whole() -> None:
    useless = np.zeros((HEADS, DIM), dtype=bool)
    useless[2] = True
    model = zeroed(useless, "q", "k", "v")

    result = cut(model, OWN)

    alive = np.flatnonzero(~useless.ravel()).tolist()
    assert all(kept_told(result)[name]["1"] == alive for name in ("q", "k", "v"))
    # The output bias and the residual are left: only the head's share of the sum was zero.
    assert moved(model, result.model) < UNCHANGED


@pytest.mark.parametrize("multiple", [1, 4])
def test_a_budget_is_met_and_proved(multiple: int) -> None:
    model = transformer(3).model

    result = cut(
        model, RemoveChannels(budget=MacsBelow(0.7), units=("own_head_dim", "mlp"), multiple=multiple)
    )

    (report,) = result.report.steps
    assert report.verified.how == "reference" and (report.verified.error or 0) < 1e-5
    rows = {row["name"]: row for row in groups_told(result)}
    assert rows["q[1]"]["kept"] < rows["q[1]"]["units"] == HEADS * DIM
    assert len(kept_told(result)["q"]["1"]) % multiple == 0
