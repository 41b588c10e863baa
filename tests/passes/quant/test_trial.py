"""Halves of samples, and noise on the half that nobody found ranges on."""

import numpy as np
import pytest

from graphrewrite.data import ArraySource
from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Builder, Model
from graphrewrite.passes.quant import InsertQdq
from graphrewrite.passes.quant.trial import Half, Trial, nearer
from graphrewrite.pipeline import Context


def values(half: Half, size: int) -> list[float]:
    return [float(value) for feeds in half.batches(size) for value in feeds["x"].reshape(-1)]


@pytest.mark.parametrize(("count", "size", "first"), [(8, 2, 4), (9, 2, 4), (6, 5, 5), (7, 1, 3)])
def test_every_sample_is_in_one_half(count: int, size: int, first: int) -> None:
    whole = ArraySource({"x": np.arange(count, dtype=np.float32)[:, None]})

    assert values(Half(whole, True), size) == list(range(first))
    assert values(Half(whole, False), size) == list(range(first, count))


def test_one_batch_is_in_both() -> None:
    whole = ArraySource({"x": np.arange(3, dtype=np.float32)[:, None]})

    assert values(Half(whole, True), 8) == values(Half(whole, False), 8) == [0, 1, 2]


def product() -> Model:
    b = Builder(opset=17, seed=1)
    return b.model(b.op("MatMul", b.input(["N", 8], "x"), b.weight(8, 8)))


def test_values_beyond_the_half_that_was_seen_count_as_noise() -> None:
    x = np.random.default_rng(0).standard_normal((64, 8)).astype(np.float32)
    louder = x.copy()
    louder[32:] *= 10  # nine tenths are cut off where ranges come from the first half

    def noise(x: np.ndarray) -> float:
        trial = Trial.of(product(), InsertQdq(), Context(data=ArraySource({"x": x})))
        return trial.noise(trial.before)

    assert noise(x) < 0.01 and noise(louder) > 0.3


def test_without_samples_it_cannot_be_told() -> None:
    with pytest.raises(InvalidConfig, match="there is no data"):
        Trial.of(product(), InsertQdq(), Context()).noise(product())


def test_decibels() -> None:
    assert nearer(1.0, 0.1) == pytest.approx(10) and nearer(0.5, 0.5) == nearer(0.0, 0.0) == 0
    assert nearer(0.1, 1.0) == pytest.approx(-10) and nearer(1e-3, 0.0) > 100
