"""Gradients of learned ends, steps and thresholds, against formulas written out number by number."""

import numpy as np
import numpy.typing as npt
import pytest
import torch

from graphrewrite.bridge.transforms import ClipQuantize, LearnedThresholds, LevelQuantize, StepQuantize
from graphrewrite.bridge.transforms.clip import Ends
from graphrewrite.bridge.transforms.thresholds import Thresholds
from graphrewrite.errors import InvalidConfig

Floats = npt.NDArray[np.float64]


def ends(bits: int, end: float) -> Ends:
    """Return learned ends that have been watching."""
    made = ClipQuantize(bits).module(None)
    assert isinstance(made, Ends)
    with torch.no_grad():
        made.end.fill_(end)
        made.started.fill_(True)
    return made


def thresholds(bits: int, seed: int, signed: bool = False) -> Thresholds:
    """Return thresholds with uneven intervals and scales away from 1."""
    made = LearnedThresholds(bits, signed).module(None)
    assert isinstance(made, Thresholds)
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        made.widths.copy_(torch.from_numpy(rng.uniform(0.1, 1.2, made.count)))
        made.start.add_(0.2)
        made.into.fill_(0.7)
        made.out.fill_(1.3)
        made.started.fill_(True)
    return made


def test_the_end_gets_the_gradient_of_the_two_cases() -> None:
    x = np.random.default_rng(0).normal(0, 1, 80).astype(np.float32)
    grid = ends(4, 1.1)
    for value in x:
        one = torch.tensor([value], requires_grad=True)
        grid.end.grad = None
        y = grid(one)
        y.sum().backward()
        is_inside = abs(value) < np.float32(1.1)
        want = (float(y.detach()) - value) / 1.1 if is_inside else np.sign(value)
        assert grid.end.grad is not None and one.grad is not None
        assert float(grid.end.grad) == pytest.approx(want, abs=2e-6)
        assert float(one.grad) == float(is_inside)


def test_within_its_ends_a_number_is_at_most_half_a_step_off() -> None:
    x = torch.randn(5000, generator=torch.Generator().manual_seed(0))
    end = float(x.abs().max())
    for bits in (2, 4, 8):
        away = (ends(bits, end)(x) - x).detach().abs().max()
        half = end / (2 * (2 ** (bits - 1) - 1))
        assert 0.9 * half < float(away) <= half * (1 + 1e-5)


def test_ends_are_watched_first_and_learned_afterwards() -> None:
    grid = ClipQuantize(4, warmup=0.5, decay=0.9).module(None)
    assert isinstance(grid, Ends)
    batches = [torch.tensor([[1.0, -2.0], [4.0, 0.5]]), torch.tensor([[5.0, 0.0], [9.0, 1.0]])]
    grid.advance(0.0)
    grid(batches[0])
    assert float(grid.end.detach()) == 3.0  # the mean of 2 and 4
    y = grid(batches[1])
    assert float(grid.end.detach()) == pytest.approx(0.9 * 3 + 0.1 * 7)
    assert not y.requires_grad and float(y.detach().max()) > 8  # nothing is cut off, nothing is learned
    grid.advance(0.5)
    y = grid(batches[1])
    y.sum().backward()
    assert float(y.detach().max()) == pytest.approx(3.4) and grid.end.grad is not None
    before = float(grid.end.detach())
    grid.advance(0.0)
    grid.eval()
    assert float(grid(batches[1]).detach().max()) == pytest.approx(3.4) and float(grid.end.detach()) == before


def test_an_end_learns_where_to_cut_off_outliers() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal(4000).astype(np.float32)
    x[:4] = [9, -12, 15, 10]
    data = torch.from_numpy(x)

    def error(end: float) -> float:
        return float((ends(4, end)(data) - data).square().mean().detach())

    best = min(np.linspace(1, 6, 51), key=error)
    grid = ends(4, float(data.abs().max()))
    optimiser = torch.optim.Adam(grid.parameters(), 0.2)
    for _ in range(100):
        optimiser.zero_grad()
        (grid(data) - data).square().mean().backward()
        optimiser.step()
    assert abs(float(grid.end.detach()) - best) < 0.1 * best
    assert error(float(grid.end.detach())) < 1.02 * error(best)
    assert float(grid.end.detach()) < 0.3 * float(data.abs().max())


def slopes(u: float, start: float, widths: Floats) -> tuple[float, float, Floats]:
    """Return the derivatives of the line through the intervals' ends: by u, by the start, by each width."""
    level = 2 / len(widths)
    low = start
    for i, width in enumerate(widths):
        if low < u < low + width:
            by_width = np.zeros(len(widths))
            by_width[:i] = -level / width
            by_width[i] = -level / width**2 * (u - low)
            return level / width, -level / width, by_width
        low += width
    return 0.0, 0.0, np.zeros(len(widths))


@pytest.mark.parametrize("bits", [1, 2, 3])
def test_thresholds_get_the_gradients_of_the_closed_form(bits: int) -> None:
    grid = thresholds(bits, seed=bits)
    start, widths = float(grid.start.detach()), grid.widths.detach().double().numpy()
    middles = start + np.cumsum(widths) - widths / 2
    for value in np.random.default_rng(5).uniform(-1, 5, 50).astype(np.float32):
        x = torch.tensor([value], requires_grad=True)
        grid.zero_grad()
        y = grid(x)
        y.sum().backward()
        u = 0.7 * float(value)
        by_u, by_start, by_width = slopes(u, start, widths)
        count = int((u > middles).sum())
        assert float(y.detach()) == pytest.approx(1.3 * count * 2 / len(widths), rel=1e-6)
        assert x.grad is not None and float(x.grad) == pytest.approx(1.3 * 0.7 * by_u, rel=1e-4)
        wanted = {"start": 1.3 * by_start, "into": 1.3 * by_u * value, "out": count * 2 / len(widths)}
        for name, want in wanted.items():
            assert float(getattr(grid, name).grad) == pytest.approx(want, rel=1e-4, abs=1e-5), name
        assert grid.widths.grad is not None
        assert np.allclose(grid.widths.grad, 1.3 * by_width, rtol=1e-4, atol=1e-5)


def test_a_width_that_is_held_gets_no_gradient() -> None:
    grid = thresholds(2, seed=0)
    with torch.no_grad():
        grid.widths[1] = 1e-4
    grid(torch.linspace(-1, 4, 50)).sum().backward()
    assert (
        grid.widths.grad is not None and float(grid.widths.grad[1]) == 0 and float(grid.widths.grad[0]) != 0
    )


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bits", [2, 3, 4])
def test_even_thresholds_are_an_even_grid(bits: int, signed: bool) -> None:
    x = torch.randn(2000, generator=torch.Generator().manual_seed(1))
    x = x if signed else x.abs()
    even = LearnedThresholds(bits, signed).module(None)
    grid = StepQuantize(bits, signed).module(None)
    even(x)
    assert isinstance(even, Thresholds)
    with torch.no_grad():
        grid.step.copy_(even.step())
        grid.started.fill_(True)
    a, b = (x.clone().requires_grad_() for _ in range(2))
    (found, want) = even(a), grid(b)
    (found.square().sum() + want.square().sum()).backward()
    assert torch.allclose(found, want, rtol=1e-5)
    assert a.grad is not None and b.grad is not None
    # The line of the one ends half a step from where the clipping of the other does.
    step, low, high = float(even.step().detach()), *grid_range(bits, signed)
    middle = (x > (low + 0.01) * step) & (x < (high - 0.01) * step)
    assert torch.allclose(a.grad[middle], b.grad[middle], rtol=1e-4)


def grid_range(bits: int, signed: bool) -> tuple[int, int]:
    """Return the lowest and highest number of a grid."""
    return StepQuantize(bits, signed).range


def test_levels_are_taken_equally_often() -> None:
    rng = np.random.default_rng(0)
    uniform = torch.from_numpy(rng.uniform(-1, 1, (1, 100_000)).astype(np.float32))
    normal = torch.from_numpy(rng.standard_normal((1, 100_000)).astype(np.float32))
    levels = LevelQuantize(2).module(uniform)
    shares = np.unique(levels(uniform).numpy(), return_counts=True)[1] / 100_000
    assert shares == pytest.approx([0.25] * 4, abs=0.004)
    assert entropy(levels(normal)) == pytest.approx(1.98, abs=0.01)
    assert entropy(ClipQuantize(2).module(normal)(normal)) < 1.1


def entropy(values: torch.Tensor) -> float:
    """Return the bits that say which of its values a tensor has."""
    shares = np.unique(values.numpy(), return_counts=True)[1] / values.numel()
    return float(-(shares * np.log2(shares)).sum())


def test_levels_pass_the_gradient_where_nothing_is_cut_off() -> None:
    weight = torch.tensor([[0.1, -0.2, 0.3, 3.0]], requires_grad=True)
    LevelQuantize(2).module(weight)(weight).sum().backward()
    assert weight.grad is not None and weight.grad.tolist() == [
        [1, 1, 1, 0]
    ]  # 3 lies above 1.5 times the mean


def test_steps_by_channel_each_get_their_own_gradient() -> None:
    weight = torch.randn(3, 50, generator=torch.Generator().manual_seed(2))
    together = StepQuantize(3, axis=0).module(weight)
    together(weight).sum().backward()
    for channel in range(3):
        alone = StepQuantize(3).module(weight[channel])
        alone(weight[channel]).sum().backward()
        assert float(together.step[channel].detach()) == float(alone.step.detach())
        assert float(together.step.grad[channel]) == pytest.approx(float(alone.step.grad), rel=1e-4, abs=1e-6)


def test_what_stands_in_the_wrong_place_is_refused() -> None:
    with pytest.raises(InvalidConfig, match="behind a weight"):
        LearnedThresholds().module(torch.ones(2))
    with pytest.raises(InvalidConfig, match="behind an activation"):
        LevelQuantize().module(None)
    with pytest.raises(InvalidConfig, match="from 1 to 7"):
        LevelQuantize(8)
    with pytest.raises(InvalidConfig, match="narrowest"):
        LearnedThresholds(2, narrowest=0.4)
