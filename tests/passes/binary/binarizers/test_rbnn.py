"""RBNN: the rotation against its equations, what it is for, and its gradient."""

import numpy as np
import pytest
import torch

from graphrewrite.bridge.transforms.approx_sign import bent
from graphrewrite.bridge.transforms.attaching import Transformed
from graphrewrite.bridge.transforms.rotated_sign import RotatedSign, bi_rotation, sides, turn


def filters(count: int = 32, rows: int = 12, columns: int = 12) -> torch.Tensor:
    drawn = np.random.default_rng(0).laplace(0, 1, (count, rows, columns))
    return torch.from_numpy(drawn)


def orthogonal(size: int, seed: int) -> torch.Tensor:
    drawn = np.linalg.qr(np.random.default_rng(seed).standard_normal((size, size)))[0]
    return torch.from_numpy(drawn)


def cosine(x: torch.Tensor) -> float:
    """Mean cosine between filters and their signs."""
    flat = x.flatten(1)
    return float((flat.abs().sum(dim=1) / flat.norm(dim=1) / flat.shape[1] ** 0.5).mean())


def slowly(x: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """One round of the published equations, filter by filter; no half step may lower the sum of products."""

    def worth() -> float:
        return sum(float(torch.trace(b.T @ left.T @ each @ right)) for b, each in zip(signs, x, strict=True))

    signs = [torch.where(left.T @ each @ right >= 0, 1.0, -1.0).double() for each in x]
    reached = worth()
    total = sum(b @ right.T @ each.T for b, each in zip(signs, x, strict=True))
    u, _, v = torch.linalg.svd(total)
    left = v.T @ u.T
    assert worth() >= reached - 1e-9
    reached = worth()
    total = sum(each.T @ left @ b for b, each in zip(signs, x, strict=True))
    u, _, v = torch.linalg.svd(total)
    right = u @ v
    assert worth() >= reached - 1e-9
    return left, right


def test_the_rotation_is_that_of_the_equations() -> None:
    x, left, right = filters(6, 4, 9), orthogonal(4, 1), orthogonal(9, 2)
    found = bi_rotation(x, left, right, rounds=3)

    for _ in range(3):
        left, right = slowly(x, left, right)

    for one, other in zip(found, (left, right), strict=True):
        torch.testing.assert_close(one, other, atol=1e-9, rtol=0)
        torch.testing.assert_close(one @ one.T, torch.eye(len(one)).double(), atol=1e-9, rtol=0)


def test_a_wrong_rotation_is_seen() -> None:
    x, left, right = filters(6, 4, 9), orthogonal(4, 1), orthogonal(9, 2)
    one, other = bi_rotation(x, left, right, rounds=3)

    assert cosine(turn(x, one.T, other)) < cosine(turn(x, one, other)) - 0.01


def test_two_small_rotations_are_one_large_one() -> None:
    x, left, right = filters(5, 4, 6), orthogonal(4, 1), orthogonal(6, 2)

    whole = x.flatten(1) @ torch.kron(left, right)

    torch.testing.assert_close(turn(x, left, right).flatten(1), whole)


def test_filters_come_nearer_to_their_signs_and_half_of_the_signs_flip() -> None:
    x, left, right = filters(), orthogonal(12, 3), orthogonal(12, 4)
    turned = turn(x, left, right)
    near = turn(x, *bi_rotation(x, left, right, rounds=12))

    assert cosine(x) == pytest.approx(0.71, abs=0.01)
    assert cosine(turned) == pytest.approx(0.80, abs=0.01)
    assert cosine(near) > 0.83
    assert 0.46 < float(((near >= 0) != (x >= 0)).double().mean()) < 0.54


@pytest.mark.parametrize(("numbers", "found"), [(144, (12, 12)), (72, (8, 9)), (7, (1, 7)), (1, (1, 1))])
def test_the_sides_of_a_filter(numbers: int, found: tuple[int, int]) -> None:
    assert sides(numbers) == found


def test_the_rotation_is_found_when_it_is_due_and_never_in_evaluation() -> None:
    weight = filters(4, 3, 12).float()
    form = RotatedSign(updates=4).module(weight)
    start = form.left.clone()

    form.eval()(weight)
    assert torch.equal(form.left, start)
    seen = []
    for step in range(8):
        form.advance(step / 8)
        form.train()(weight + step)
        seen.append(int(form.found))
    assert seen == [1, 1, 2, 2, 3, 3, 4, 4]
    assert not torch.equal(form.left, start)


def test_gradients_pass_the_rotation_and_reach_the_angle() -> None:
    """Against autograd through the surrogate alone; with the rotation detached nothing moves at a full turn."""
    weight = filters(3, 4, 5).float().flatten(1).requires_grad_()
    upstream = torch.linspace(-1, 1, 60).reshape(3, 20)
    found = {}
    for detached in (False, True):
        form = RotatedSign(steep=(0.5, 0.5), detach_rotation=detached).module(weight)
        weight.grad = None
        (form(weight) * upstream).sum().backward()
        assert weight.grad is not None
        found[detached] = weight.grad.clone(), form.angle.grad.clone()

    form = RotatedSign(steep=(0.5, 0.5)).module(weight)
    form(weight)
    other = weight.detach().clone().requires_grad_()
    inner = other - other.mean(dim=1, keepdim=True)
    x = inner / (inner.square().mean(dim=1, keepdim=True) + 1e-5).sqrt()
    whole = torch.kron(form.left, form.right)
    (bent(x @ whole, torch.tensor(0.5)) * upstream).sum().backward()
    assert other.grad is not None
    torch.testing.assert_close(found[False][0], other.grad, atol=1e-4, rtol=1e-3)
    assert float(found[False][0].abs().max()) > 0.1
    assert max(float(each.abs().max()) for each in found[True]) < 1e-5


def test_the_angle_says_how_much_of_the_rotation_counts() -> None:
    weight = filters(3, 4, 5).float().flatten(1)
    form = RotatedSign().module(weight)
    form(weight)
    with torch.no_grad():
        form.angle.zero_()

    assert torch.equal(form.eval()(weight) >= 0, weight - weight.mean(dim=1, keepdim=True) >= 0)


def test_signs_do_not_depend_on_what_a_run_computes_in() -> None:
    """A rotation in bfloat16 would find other signs than those that are lowered."""
    weight = filters(64, 12, 12).float()
    form = Transformed("w", True, RotatedSign(), RotatedSign().module(weight)).eval()

    with torch.autocast("cpu", torch.bfloat16):
        found = form(weight)
        coarse = form.form(weight)

    assert torch.equal(found, form(weight)) and not torch.equal(coarse, found)
