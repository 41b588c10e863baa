"""What rounding costs results: by hand, beside a slow reference, and where it leads steps elsewhere than squares do."""

import numpy as np
import pytest

from graphrewrite.data import ArraySource
from graphrewrite.ir import Builder, Model
from graphrewrite.passes.quant import InsertQdq, noise, store
from graphrewrite.passes.quant.grid import Floats, Loss, Singles, stored_weight
from graphrewrite.passes.quant.noise import noise_of
from graphrewrite.pipeline import Context
from graphrewrite.pipeline.quality import quality


def slowly(rows: Singles, off: Floats, is_mean_made_up: bool, groups: int) -> list[float]:
    """Work out the noise of each output [outputs, inputs of a group] place by place."""
    found = []
    for output, errors in enumerate(off.reshape(len(off), -1)):
        first = output // (len(off) // groups) * len(errors)
        read = rows[:, first : first + len(errors)].astype(np.float64)
        read = read - read.mean(axis=0) * is_mean_made_up
        together = np.mean([sum(x * e for x, e in zip(place, errors, strict=True)) ** 2 for place in read])
        apart = np.mean([sum((x * e) ** 2 for x, e in zip(place, errors, strict=True)) for place in read])
        found.append(0.8 * together + 0.2 * apart)
    return found


def test_by_hand() -> None:
    rows = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)
    lost = np.array([[0.1, 0.2], [0.1, -0.1]])

    # Results are off by 0.5 and 1.1, and by -0.1 and -0.1: a mean square of 0.73, and of 0.01. Squares of the parts of
    # each sum are 0.01 + 0.16 and 0.09 + 0.64, mean 0.45, and 0.01 + 0.04 and 0.09 + 0.16, mean 0.15.
    expected = [0.8 * 0.73 + 0.2 * 0.45, 0.8 * 0.01 + 0.2 * 0.15]
    np.testing.assert_allclose(noise_of(rows, 0, False)(lost), expected, rtol=1e-6)
    np.testing.assert_allclose(noise_of(rows, 1, False)(lost.T), expected, rtol=1e-6)
    # About their means inputs are -1 and 1 in both columns: off by 0.3 either way, and by nothing.
    expected = [0.8 * 0.09 + 0.2 * 0.05, 0.2 * 0.02]
    np.testing.assert_allclose(noise_of(rows, 0, True)(lost), expected, rtol=1e-5)


@pytest.mark.parametrize("is_mean_made_up", [False, True])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_beside_the_slow_reference(groups: int, is_mean_made_up: bool) -> None:
    rng = np.random.default_rng(groups)
    rows = rng.standard_normal((9, 8 * 6)).astype(np.float32) + 1
    lost = rng.standard_normal((4, 8 // groups, 3, 2))

    found = noise_of(rows, 0, is_mean_made_up)(lost)

    np.testing.assert_allclose(found, slowly(rows, lost, is_mean_made_up, groups), rtol=1e-5)


def alike(samples: int, seed: int) -> ArraySource:
    """Pictures without sharp edges, all pixels above zero: what a kernel sees goes together."""
    drawn = np.random.default_rng(seed).random((samples, 3, 12, 12))
    smooth = sum(drawn[:, :, i : i + 10, j : j + 10] for i in range(3) for j in range(3))
    return ArraySource({"x": np.asarray(smooth, np.float32)})


def net() -> Model:
    b = Builder(opset=17, seed=2)
    hidden = b.relu(b.conv(b.input(["N", 3, 10, 10], "x"), 16, 3))
    return b.model(b.conv(b.relu(b.conv(hidden, 16, 16, group=4)), 8, 16))


def signal(bits: int) -> float:
    made = InsertQdq(weight_bits=bits).run(net(), Context(data=alike(32, 0))).model
    return quality(net(), made, alike(32, 1).batches(32)).agreement[0].snr


@pytest.mark.parametrize("bits", [3, 4])
def test_steps_by_noise_keep_more_of_the_signal_than_by_squares(
    bits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = signal(bits)
    monkeypatch.setattr(store, "noise_of", lambda *_: None)
    assert chosen > signal(bits) + 1


def test_it_hangs_on_what_is_read_together(monkeypatch: pytest.MonkeyPatch) -> None:
    right = noise.noise_of
    best = signal(4)

    def unrelated(rows: Singles, axis: int, is_mean_made_up: bool) -> Loss:
        return right(np.random.default_rng(0).permuted(rows, axis=0), axis, is_mean_made_up)

    monkeypatch.setattr(store, "noise_of", unrelated)
    assert signal(4) < best - 0.5


def test_one_step_for_all_outputs_is_that_of_the_least_sum() -> None:
    weight = np.array([[1.0, 0.3], [0.05, 0.05]], np.float32)

    # All that counts is the second output's noise: its weights are a code only where the step is a twentieth. The least
    # of the steps tried is 0.3 / 3 of the largest weight, where 0.05 is half a step and goes to the even code.
    stored = stored_weight(weight, None, 3, loss=lambda away: np.square(away).sum(axis=1) * [0.0, 1.0])
    tried = np.linspace(1.0, 0.3, 36) / 3
    off = [np.square(np.rint(np.float64(weight[1]) / step) * step - weight[1]).sum() for step in tried]
    assert float(stored.steps) == pytest.approx(tried[int(np.argmin(off))], rel=1e-6)
