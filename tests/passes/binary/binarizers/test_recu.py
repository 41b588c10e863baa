"""ReCU: the quantile, what clamping does to the error of signs, its course, its gradient."""

import numpy as np
import pytest
import torch

from graphrewrite.bridge.transforms.recu_sign import RecuSign, clamped, tau_at, threshold
from graphrewrite.errors import InvalidConfig

# E(|w| - E|w|)^2 of a Laplace distribution of scale 1 clamped at its tau-quantiles, by integration.
ERRORS = {0.80: 0.107, 0.85: 0.188, 0.90: 0.316, 0.95: 0.530, 0.99: 0.843}


def laplace(numbers: int = 1_000_000, scale: float = 1.0) -> torch.Tensor:
    drawn = np.random.default_rng(0).laplace(0, scale, numbers)
    return torch.from_numpy(drawn.astype(np.float32))


@pytest.mark.parametrize("tau", ERRORS)
def test_the_threshold_is_the_quantile(tau: float) -> None:
    weight = laplace(scale=0.3)

    found = float(threshold(weight.abs().mean(), tau))

    assert found == pytest.approx(float(np.quantile(weight.numpy(), tau)), rel=0.01)


@pytest.mark.parametrize(("tau", "error"), ERRORS.items())
def test_clamping_lowers_the_error_of_signs_as_computed(tau: float, error: float) -> None:
    sizes = clamped(laplace(), tau).abs()

    assert float(sizes.var(correction=0)) == pytest.approx(error, rel=0.01)


@pytest.mark.parametrize("tau", ERRORS)
def test_the_share_that_is_clamped(tau: float) -> None:
    weight = laplace()

    moved = float((clamped(weight, tau) != weight).float().mean())

    assert moved == pytest.approx(2 * (1 - tau), rel=0.02)


def test_the_course_of_the_quantile() -> None:
    assert tau_at((0.85, 0.99), 0) == 0.85 and tau_at((0.85, 0.99), 1) == pytest.approx(0.99, abs=1e-12)
    # By hand: (sqrt(e) - 1) / (e - 1) = 0.37754.
    assert tau_at((0.85, 0.99), 0.5) == pytest.approx(0.85 + 0.14 * 0.37754, abs=1e-6)


def test_signs_are_those_about_the_mean_of_the_filter() -> None:
    weight = torch.tensor([[1.0, 2.0, 3.0, 6.0], [-1.0, -1.0, -5.0, -1.0]])

    found = RecuSign().module(weight).eval()(weight)

    assert found.tolist() == [[-1, -1, 1, 1], [1, 1, -1, 1]]


def test_the_gradient_is_that_of_clamping_a_standardized_filter() -> None:
    """Against a slow reference: autograd through the clamped numbers themselves, limits held."""
    weight = laplace(40).reshape(2, 20).requires_grad_()
    upstream = torch.linspace(-1, 2, 40).reshape(2, 20)
    form = RecuSign((0.8, 0.9)).module(weight)
    (form(weight) * upstream).sum().backward()

    other = weight.detach().double().requires_grad_()
    inner = other - other.mean(dim=1, keepdim=True)
    x = inner / (inner.square().mean(dim=1, keepdim=True) + 1e-5).sqrt() * 8**0.5
    limit = -np.log(2 - 1.6) * float(x.detach().abs().mean())
    (x.clamp(-limit, limit) * upstream).sum().backward()

    assert weight.grad is not None and other.grad is not None
    torch.testing.assert_close(weight.grad.double(), other.grad, rtol=1e-4, atol=1e-5)
    assert 0 < int((x.detach().abs() > limit).sum()) < 20


def test_in_place_the_ends_are_pulled_in_and_stay_so() -> None:
    weight = torch.nn.Parameter(laplace(400).reshape(4, 100))
    before = weight.detach().clone()
    form = RecuSign((0.8, 0.9), in_place=True).module(weight)

    form.eval()(weight)
    assert torch.equal(weight, before)
    form.train()(weight)

    moved = weight.detach() != before
    means = before.mean(dim=1, keepdim=True)
    assert 0.2 < float(moved.float().mean()) < 0.6
    assert ((weight.detach() - means).abs() <= (before - means).abs() + 1e-6).all()
    assert torch.equal((weight.detach() - means) >= 0, (before - means) >= 0)


@pytest.mark.parametrize("tau", [(0.5, 0.9), (0.9, 1.0)])
def test_an_impossible_quantile_is_refused(tau: tuple[float, float]) -> None:
    with pytest.raises(InvalidConfig, match="tau"):
        RecuSign(tau)
