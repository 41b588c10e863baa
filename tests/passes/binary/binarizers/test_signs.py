"""Signs and their gradients, and how signs are counted while they move."""

from math import sqrt

import numpy as np
import pytest
import torch

from graphrewrite.bridge.transforms.approx_sign import ApproxSign, bent
from graphrewrite.bridge.transforms.sign import Sign
from graphrewrite.errors import InvalidConfig, ShapeError
from graphrewrite.passes.binary.flips import c2i_ratio, ff_ratio


def test_the_gradient_is_two_less_two_x() -> None:
    x = torch.tensor([[-3.0, -1.0, -0.25, 0.0, 0.5, 1.0, 2.0]], requires_grad=True)
    y = ApproxSign().module(None)(x)
    y.sum().backward()

    assert y.tolist() == [[-1, -1, -1, 1, 1, 1, 1]]
    assert x.grad is not None
    np.testing.assert_allclose(x.grad.numpy(), [[0, 0, 1.5, 2, 1, 0, 0]], atol=1e-6)


@pytest.mark.parametrize("t", [0.01, 0.5, 1.0, sqrt(2), 10.0])
def test_the_gradient_for_any_steepness(t: float) -> None:
    x = torch.linspace(-2, 2, 101, dtype=torch.float64, requires_grad=True)
    bent(x, torch.tensor(t, dtype=torch.float64)).sum().backward()

    where = np.linspace(-2, 2, 101)
    want = np.maximum(0, max(1 / t, 1) * (sqrt(2) * t - t * t * np.abs(where)))
    assert x.grad is not None
    np.testing.assert_allclose(x.grad.numpy(), want, atol=1e-9)


def test_a_unit_of_deviation_widens_the_gradient_and_changes_no_sign() -> None:
    x = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(0)) * 4
    given = {}
    for unit in ("one", "deviation"):
        own = x.clone().requires_grad_()
        y = ApproxSign(unit).module(None)(own)
        y.sum().backward()
        assert own.grad is not None
        given[unit] = y.detach(), float((own.grad != 0).float().mean())

    assert torch.equal(given["one"][0], given["deviation"][0])
    assert given["one"][1] < 0.3 and given["deviation"][1] > 0.6


def test_steepness_runs_evenly_in_its_logarithm_and_not_below_one() -> None:
    form = ApproxSign(steep=(0.01, 10.0)).module(None)
    seen = []
    for done in (0, 0.5, 2 / 3, 5 / 6, 1):
        form.advance(done)
        seen.append(float(form.t))

    assert seen == pytest.approx([1, 1, 1, sqrt(10), 10])


def test_a_held_scale_gets_no_gradient() -> None:
    weight = torch.tensor([[0.5, -0.25], [3.0, 0.5]], requires_grad=True)
    (Sign(holds_scale=True).module(weight)(weight) * torch.tensor([[1.0, 2.0], [1.0, 4.0]])).sum().backward()

    # Upstream times the scale of the filter where |w| <= 1: scales 0.375 and 1.75.
    assert weight.grad is not None and weight.grad.tolist() == [[0.375, 0.75], [0, 7.0]]


def test_flips_are_counted() -> None:
    path = np.array([[1.0, -1, 0, 2, -3], [1, 1, -1, 2, -3], [-1, 1, 0.0, -2, -3]])

    assert [ff_ratio(one, other) for one, other in zip(path[:-1], path[1:], strict=True)] == [0.4, 0.6]
    assert c2i_ratio(path[0], path[2]) == pytest.approx(0.4)  # the third is back where it began
    assert ff_ratio(path[0], path[0]) == 0 and c2i_ratio(path[0], path[0]) == 1


def test_signs_of_strangers_agree_by_half() -> None:
    one, other = np.random.default_rng(0).standard_normal((2, 100_000))

    assert c2i_ratio(one, other) == pytest.approx(0.5, abs=0.01)


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ShapeError, match="two times"):
        ff_ratio(np.ones(3), np.ones((3, 1)))


def test_a_small_gradient_still_flips_signs_under_adam_and_not_under_sgd() -> None:
    """Steps of Adam do not depend on the size of gradients, so weights that saturate go on moving (Liu et al. 2021)."""
    flips = {(name, factor): _flips(name, factor) for name in ("SGD", "Adam") for factor in (1.0, 1e-3)}

    assert flips["Adam", 1.0] == flips["Adam", 1e-3] > 0.2
    assert flips["SGD", 1e-3] < flips["SGD", 1.0] / 5


def _flips(name: str, factor: float) -> float:
    generator = torch.Generator().manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(2000, generator=generator) * 0.05)
    options = {"eps": 1e-12} if name == "Adam" else {}
    optimiser = getattr(torch.optim, name)([weight], lr=0.01, **options)
    first = weight.detach().numpy().copy()
    slopes = torch.randn(2000, generator=generator)
    for _ in range(20):
        optimiser.zero_grad()
        (weight * slopes * factor).sum().backward()
        optimiser.step()
    return 1 - c2i_ratio(first, weight.detach().numpy())


@pytest.mark.parametrize("fields", [{"unit": "metre"}, {"steep": (0.0, 1.0)}])
def test_impossible_settings_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(InvalidConfig, match="ApproxSign"):
        ApproxSign(**fields)  # type: ignore[arg-type]


def test_an_activation_is_no_weight() -> None:
    with pytest.raises(InvalidConfig, match="activation"):
        ApproxSign().module(torch.ones(2, 2))
