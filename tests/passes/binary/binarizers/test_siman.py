"""SiMaN: the code of a filter against all codes there are, its share of ones, what is stored while training."""

from itertools import product

import numpy as np
import numpy.typing as npt
import pytest
import torch

from graphrewrite.bridge.transforms.half_sign import HalfSign, drawn_in, most_like
from graphrewrite.errors import InvalidConfig
from graphrewrite.passes.binary.binarizers.siman import siman_code

Numbers = npt.NDArray[np.float64]
DRAWN = {
    # distribution: best share of ones, cosine with half of them, cosine of the usual signs
    "laplace": (1 / np.e, 0.845, 0.707),
    "normal": (0.54, 0.899, 0.798),
    "uniform": (2 / 3, 0.918, 0.866),
}


def drawn(kind: str, numbers: int) -> Numbers:
    rng = np.random.default_rng(1)
    return rng.uniform(-1, 1, numbers) if kind == "uniform" else getattr(rng, kind)(0, 1, numbers)


def cosine(code: npt.NDArray[np.generic], weight: Numbers) -> float:
    one = code.astype(np.float64)
    return float(one @ np.abs(weight) / np.linalg.norm(one) / np.linalg.norm(weight))


@pytest.mark.parametrize("numbers", [1, 2, 5, 9, 12])
def test_no_code_is_nearer(numbers: int) -> None:
    every = np.array(list(product((0, 1), repeat=numbers))[1:], np.float64)
    lengths = np.sqrt(every.sum(axis=1))
    rng = np.random.default_rng(numbers)
    for _ in range(20):
        weight = rng.laplace(0, 1, numbers)
        best = float((every @ np.abs(weight) / lengths).max()) / np.linalg.norm(weight)

        assert cosine(siman_code(weight), weight) == pytest.approx(best, abs=1e-12)


def test_a_code_one_off_is_not_the_best() -> None:
    weight = np.random.default_rng(0).laplace(0, 1, 12)
    code = siman_code(weight)
    other = siman_code(weight, int(code.sum()) + 1)

    assert cosine(other, weight) < cosine(code, weight) - 1e-6


@pytest.mark.parametrize(("kind", "share", "half", "signs"), [(k, *v) for k, v in DRAWN.items()])
def test_the_best_share_and_its_cosine(kind: str, share: float, half: float, signs: float) -> None:
    weight = drawn(kind, 100_000)

    assert siman_code(weight).mean() == pytest.approx(share, abs=0.02)
    assert cosine(siman_code(weight, 50_000), weight) == pytest.approx(half, abs=0.005)
    assert cosine(np.ones(100_000), weight) == pytest.approx(signs, abs=0.005)


def test_torch_counts_the_same_number_of_ones() -> None:
    rows = np.random.default_rng(2).laplace(0, 1, (50, 37)).astype(np.float32)

    counts = most_like(torch.from_numpy(np.abs(rows)))

    assert counts.tolist() == [int(siman_code(row).sum()) for row in rows]


@pytest.mark.parametrize("shape", [(6, 4, 3, 3), (5, 27)])
def test_half_of_a_filter_is_plus_and_signs_do_not_count(shape: tuple[int, ...]) -> None:
    weight = torch.from_numpy(np.random.default_rng(3).standard_normal(shape).astype(np.float32))
    weight = weight - weight.flatten(1).mean(dim=1).reshape(-1, *[1] * (weight.ndim - 1))
    form = HalfSign().module(weight).eval()

    codes = form(weight)

    filters = codes.flatten(1)
    assert ((filters == 1).sum(dim=1) == filters.shape[1] // 2).all() and (codes.abs() == 1).all()
    assert torch.equal(form(-weight), codes)
    assert float(weight.abs().flatten(1)[filters == 1].mean()) > float(
        weight.abs().flatten(1)[filters == -1].mean()
    )


def test_the_gradient_has_the_sign_of_the_weight() -> None:
    """d code / d |w| counts as 1, so a centred filter of unit variance gets sign(w) less what standardizing takes."""
    weight = torch.tensor([[-2.0, -1.0, 1.0, 2.0]], requires_grad=True)
    upstream = torch.tensor([[1.0, 0.0, 0.0, 0.0]])
    (HalfSign().module(weight).eval()(weight) * upstream).sum().backward()

    # By hand: u = w / d with d^2 = 2.5; L = |u_0|; dL/du = (-1, 0, 0, 0); dL/dw = (g - mean g - u mean(g u)) / d.
    d = np.sqrt(2.5)
    u = np.array([-2, -1, 1, 2]) / d
    g = np.array([-1.0, 0, 0, 0])
    want = (g - g.mean() - u * (g * u).mean()) / d
    assert weight.grad is not None
    np.testing.assert_allclose(weight.grad.numpy()[0], want, atol=1e-5)


def test_ends_are_drawn_in_over_the_layer() -> None:
    weight = torch.tensor([[-10.0, -0.1, 3.0], [0.2, 4.0, -5.0]])

    found = drawn_in(weight, 0.2)

    # |w| in order: 0.1, 0.2, 3, 4, 5, 10; a fifth of the five steps is one.
    torch.testing.assert_close(found, torch.tensor([[-5.0, -0.2, 3.0], [0.2, 4.0, -5.0]]))
    assert torch.equal(drawn_in(weight, 0.0), weight)


def test_what_is_stored_moves_while_training_only() -> None:
    weight = torch.nn.Parameter(torch.randn(4, 30, generator=torch.Generator().manual_seed(0)) + 1)
    before = weight.detach().clone()
    form = HalfSign().module(weight)

    form.eval()(weight)
    assert torch.equal(weight, before)
    codes = form.train()(weight)

    assert weight.detach().mean(dim=1).abs().max() < 0.1 and not torch.equal(weight, before)
    assert torch.equal(form.eval()(weight), codes)


def test_a_weight_that_is_computed_is_refused() -> None:
    weight = torch.nn.Parameter(torch.ones(2, 3))
    with pytest.raises(InvalidConfig, match="attach it first"):
        HalfSign().module(weight)(weight * 2)


@pytest.mark.parametrize("fields", [{"percent": 50.0}, {"ones": "most"}])
def test_impossible_settings_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(InvalidConfig, match="HalfSign"):
        HalfSign(**fields)  # type: ignore[arg-type]
