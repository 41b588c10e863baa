"""Scores that compete for a mask: their gradient, how many change places, and what is written in the end."""

import numpy as np
import pytest
import torch

from graphrewrite.bridge import GraphModule, Recipe, Stage, attach, finetune
from graphrewrite.bridge.optimisers import Optimiser
from graphrewrite.bridge.transforms.lottery_jackpot import LotteryJackpot, Scores
from graphrewrite.errors import InvalidConfig
from graphrewrite.passes.losses.mse import Mse
from tests.engine.bridge.transforms.test_transforms import FEED, OUT, two_layers


def scores_of(kept: list[int], scores: list[float], fades: bool) -> Scores:
    made = Scores(torch.tensor(kept, dtype=torch.bool), fades)
    made.scores.data = torch.tensor(scores)
    return made


def test_a_score_s_gradient_is_the_masked_weight_s_times_the_weight() -> None:
    """On two layers: for pruned weights as for kept ones; the reference differentiates a plain copy of the product."""
    module = GraphModule(two_layers())
    attach(module, {"last": LotteryJackpot(0.5)})
    form = next(each for each in module.modules() if isinstance(each, Scores))
    module(torch.from_numpy(FEED)).square().sum().backward()

    weight = module.weight_named("last").detach()
    masked = torch.where(form.kept, weight, 0.0).requires_grad_(True)
    first = module.weight_named("first").detach()
    hidden = torch.relu(torch.from_numpy(FEED) @ first.T)
    (hidden @ masked.T + 1).square().sum().backward()

    assert masked.grad is not None and form.scores.grad is not None
    torch.testing.assert_close(form.scores.grad, masked.grad * weight, rtol=1e-5, atol=1e-5)
    assert (form.scores.grad[~form.kept] != 0).any()


def test_it_starts_as_the_magnitude_mask() -> None:
    form = LotteryJackpot(0.5).module(torch.tensor([[3.0, -0.1], [0.2, -4.0]]))

    assert form.kept.tolist() == [[True, False], [False, True]]
    np.testing.assert_allclose(form.scores.detach(), [[1, 0.99], [0.99, 1]])


def test_all_that_want_to_change_places() -> None:
    form = scores_of([1, 1, 1, 0, 0, 0], [0.1, 0.9, 0.2, 0.8, 0.3, 0.7], fades=False)
    form.advance(0.5)
    assert form.kept.tolist() == [False, True, False, True, False, True]


def test_a_fading_share_of_them_changes_places() -> None:
    """Of two pairs ceil(2 * 0.5^4) = 1 changes: the best outside, 0.8, for the worst inside, 0.1."""
    form = scores_of([1, 1, 1, 0, 0, 0], [0.1, 0.9, 0.2, 0.8, 0.3, 0.7], fades=True)
    form.advance(0.5)
    assert form.kept.tolist() == [False, True, True, True, False, False]


def test_random_starts_differ_by_seed_and_by_layer() -> None:
    weights = torch.randn(2, 8, 8, generator=torch.Generator().manual_seed(0))
    masks = [
        LotteryJackpot(0.75, start="random", seed=seed).module(weight).kept
        for seed in (0, 1)
        for weight in weights
    ]
    assert [int(mask.sum()) for mask in masks] == [16] * 4
    assert len({mask.numpy().tobytes() for mask in masks}) == 4


@pytest.mark.parametrize("restriction", ["none", "short"])
def test_survivors_are_the_original_numbers_and_the_count_is_exact(restriction: str) -> None:
    model = two_layers()
    wanted = LotteryJackpot(0.4, restriction)  # type: ignore[arg-type]
    stage = Stage(6, 0.5, (Mse(),), transforms={"last": wanted}, trainable=())
    recipe = Recipe((stage,), Optimiser("sgd", {"momentum": 0.9}), batch=4)

    found = finetune(model, recipe, {"x": FEED}, labels=np.ones((len(FEED), OUT), np.float32))

    before, after = model.weights["last"], found.weights["last"]
    start = np.asarray(wanted.module(torch.from_numpy(before)).kept)
    assert np.count_nonzero(after == 0) == int(0.4 * before.size)
    assert np.array_equal(after[after != 0], before[after != 0])
    assert not np.array_equal(after != 0, start), "the mask did not move"
    others = [name for name in model.weights if name != "last"]
    assert all(np.array_equal(model.weights[name], found.weights[name]) for name in others)


def test_impossible_settings() -> None:
    with pytest.raises(InvalidConfig, match="sparsity"):
        LotteryJackpot(1.0)
    with pytest.raises(InvalidConfig, match="'none' or 'short'"):
        LotteryJackpot(restriction="long")  # type: ignore[arg-type]
    with pytest.raises(InvalidConfig, match="activation"):
        LotteryJackpot().module(None)
