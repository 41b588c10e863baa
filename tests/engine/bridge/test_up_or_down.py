"""Learned rounding against every combination there is, and against layers that leave it no choice."""

from itertools import product

import numpy as np
import numpy.typing as npt
import pytest

from graphrewrite.bridge import up_or_down
from graphrewrite.bridge.up_or_down import Learning, Problem, Singles, learned_codes
from graphrewrite.errors import InvalidConfig


def problem(
    seed: int, groups: int = 1, outputs: int = 1, inputs: int = 8, apart: int = 1, low: float = -np.inf
) -> Problem:
    """Draw a layer whose inputs go together, so that errors of several weights can make up for each other."""
    rng = np.random.default_rng(seed)
    mixed = rng.standard_normal((512, groups, inputs)) @ rng.standard_normal((inputs, inputs)) + 0.5
    weight = rng.uniform(-6, 6, (groups, outputs, inputs))
    steps = rng.uniform(0.5, 2, (groups, outputs))
    bias = rng.standard_normal((groups, outputs))
    target = np.einsum("rgi,goi->rgo", mixed, weight * steps[..., None]) + bias
    return Problem(
        single(mixed), single(target), single(weight), single(steps), single(bias), 7, apart, (low, np.inf)
    )


def single(values: npt.NDArray[np.float64]) -> Singles:
    return values.astype(np.float32)


def error(task: Problem, codes: np.ndarray) -> float:
    """Return the mean squared error of codes behind the bounds."""
    given = np.einsum("rgi,goi->rgo", task.x, codes * task.steps[..., None]) + task.bias
    return float(np.square(np.clip(given, *task.bounds) - np.clip(task.target, *task.bounds)).mean())


def beside(weight: Singles, apart: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the codes below and above."""
    below = np.floor((weight - (apart - 1)) / apart) * apart + apart - 1
    return below, below + apart


@pytest.mark.parametrize("apart", [1, 2])
@pytest.mark.parametrize("seed", range(2))
def test_the_choice_is_near_to_the_best_of_all(seed: int, apart: int) -> None:
    task = problem(seed, apart=apart)
    below, above = beside(task.weight, apart)
    every = sorted(error(task, np.where(up, above, below)) for up in product([False, True], repeat=8))
    nearest = np.where(task.weight - below < above - task.weight, below, above)

    found = error(task, learned_codes(task, Learning(steps=150), seed=0))

    assert found <= every[12]  # among the first thirteen of 256
    assert found <= (1 + 1e-6) * error(task, nearest)


@pytest.mark.parametrize("apart", [1, 2])
def test_codes_are_one_of_the_two_beside_a_weight_and_within_reach(apart: int) -> None:
    task = problem(3, groups=2, outputs=3, apart=apart)._replace(top=3)

    codes = learned_codes(task, Learning(steps=50), seed=0)

    below, above = (np.clip(each, -3, 3) for each in beside(task.weight, apart))
    assert ((codes == below) | (codes == above)).all()
    assert np.abs(codes).max() == 3 and (apart == 1 or (codes % 2 == 1).all())


def test_groups_know_nothing_of_each_other() -> None:
    both = problem(4, groups=2)
    learning = Learning(
        steps=100, weight=0.0
    )  # the scale of errors is that of all, and so is a pull beside it

    together = learned_codes(both, learning, seed=0)

    for group in range(2):
        own = slice(group, group + 1)
        alone = both._replace(
            x=both.x[:, own],
            target=both.target[:, own],
            weight=both.weight[own],
            steps=both.steps[own],
            bias=both.bias[own],
        )
        np.testing.assert_array_equal(learned_codes(alone, learning, seed=0), together[own])


def test_what_a_bound_hides_is_no_error() -> None:
    # At x = 1 the layer gives 0.4 steps, at x = -50 something far below zero, however it is rounded.
    x = np.array([[[1.0]], [[-50.0]]], np.float32)
    weight = np.array([[[0.4]]], np.float32)
    ones, zeros = np.ones((1, 1), np.float32), np.zeros((1, 1), np.float32)

    def code(low: float, bias: float) -> int:
        task = Problem(x, 0.4 * x, weight, ones, zeros + np.float32(bias), 7, 1, (low, np.inf))
        return int(learned_codes(task, Learning(steps=100, rows=2), seed=0)[0, 0, 0])

    # A bias of -0.3 is in the way: 1 - 0.3 is nearer to 0.4 than 0 is, but further off at x = -50, if that is seen.
    assert code(0.0, -0.3) == 1 and code(-np.inf, -0.3) == 0


def test_without_the_pull_to_one_side_rounding_is_worse(monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = [problem(seed, outputs=8, inputs=32) for seed in range(2)]

    def total() -> float:
        return sum(error(task, learned_codes(task, Learning(steps=150), seed=0)) for task in tasks)

    pulled = total()
    monkeypatch.setattr(up_or_down, "_pull", lambda share, learning, done: 0 * share)
    assert total() > 1.1 * pulled


@pytest.mark.parametrize(
    "fields", [{"steps": 0}, {"rows": 0}, {"rate": 0.0}, {"warm": 1.0}, {"exponents": (0.0, 2.0)}]
)
def test_impossible_settings_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(InvalidConfig, match="Learning"):
        Learning(**fields)  # type: ignore[arg-type]
