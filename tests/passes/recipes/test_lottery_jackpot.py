"""The published search as a pass: what it stands for."""

import pytest

from graphrewrite.errors import InvalidConfig
from graphrewrite.passes.recipes.lottery_jackpot import FindLotteryJackpot
from graphrewrite.passes.sparse import MaskBlocks, TrainSparse
from graphrewrite.passes.sparse.masks.lottery_jackpot import LotteryJackpot
from graphrewrite.passes.sparse.train import momentum


def test_it_is_the_steps_it_says() -> None:
    found = MaskBlocks(LotteryJackpot(4, 0.2, "none", batch=32), 0.95, scope="global")

    assert FindLotteryJackpot(0.95, 4, 0.2, "none", batch=32).parts() == (found,)
    assert FindLotteryJackpot(0.95, 4, 0.2, "none", 3, batch=32).parts() == (
        found,
        TrainSparse(3, 0.01, batch=32, optimiser=momentum(0.0)),
    )


def test_impossible_options() -> None:
    with pytest.raises(InvalidConfig, match=r"\[0, 1\)"):
        FindLotteryJackpot(sparsity=1.0)
