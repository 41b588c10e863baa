"""Which weights to keep is learned, the weights are not: scores compete for the places of a mask."""

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import nn

from graphrewrite.bridge.transforms.base import Lowered, straight_through, transforms
from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Array

# Pruned weights start one small step below kept ones, so that they can come back.
_KEPT, _GONE = 1.0, 0.99


@transforms.register("lottery_jackpot")
@dataclass(frozen=True)
class LotteryJackpot:
    """A mask with exactly `sparsity` zeros whose scores are trained while the weight is frozen (Zhang et al. 2021).

    Freeze the weight in the stage (`trainable=()`), or it learns under the mask too. The gradient of a score is that of
    the masked weight times the weight, for pruned ones as for kept ones. The mask follows the scores at the start of
    every step; with `restriction` "short" only so many of those that would change places do, less and less in the
    course of a stage: the best outside and the worst inside, a share of (1 - done)^4 of them. `start` is "magnitude" or
    "random", which `seed` draws.
    """

    sparsity: float = 0.9
    restriction: Literal["none", "short"] = "short"
    start: Literal["magnitude", "random"] = "magnitude"
    seed: int = 0
    tolerance: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.sparsity < 1:
            raise InvalidConfig(
                f"LotteryJackpot.sparsity is {self.sparsity}; expected a share in [0, 1); correct it"
            )
        for name, known in (("restriction", ("none", "short")), ("start", ("magnitude", "random"))):
            if getattr(self, name) not in known:
                raise InvalidConfig(
                    f"LotteryJackpot.{name} is {getattr(self, name)!r}; expected {' or '.join(map(repr, known))}; "
                    "correct it"
                )

    def module(self, weight: torch.Tensor | None) -> nn.Module:
        """Return the scores, in the order that the start gives them."""
        if weight is None:
            raise InvalidConfig(
                "LotteryJackpot was put behind an activation, which has nothing to prune; expected the name of a "
                "weight; correct it"
            )
        order = weight.detach().abs().flatten()
        if self.start == "random":
            mark = zlib.crc32(weight.detach().cpu().contiguous().numpy().tobytes())
            drawn = np.random.default_rng([self.seed, mark]).random(weight.numel())
            order = torch.from_numpy(drawn).to(weight.device)
        zeros = int(weight.numel() * self.sparsity + 1e-9)
        kept = torch.ones(weight.numel(), dtype=torch.bool, device=weight.device)
        kept[torch.argsort(order, stable=True)[:zeros]] = False
        return Scores(kept.reshape(weight.shape), self.restriction == "short")

    def lower(self, weight: Array | None, state: Mapping[str, Array]) -> Lowered:
        """Return the weight with its zeros; no nodes."""
        assert weight is not None
        return Lowered(weight=np.where(state["kept"], weight, np.zeros((), weight.dtype)))


class Scores(nn.Module):
    """A score for each weight; `kept` is the mask they give, with as many places as at the start."""

    kept: torch.Tensor

    def __init__(self, kept: torch.Tensor, fades: bool) -> None:
        super().__init__()
        self.fades = fades
        self.scores = nn.Parameter(torch.where(kept, _KEPT, _GONE))
        self.register_buffer("kept", kept)

    def advance(self, done: float) -> None:
        """Let scores change places in the mask, all that would or a share that fades."""
        with torch.no_grad():
            scores, kept = self.scores.flatten(), self.kept.flatten()
            wanted = torch.zeros_like(kept)
            wanted[torch.topk(scores, int(kept.sum())).indices] = True
            enter, leave = (wanted & ~kept).nonzero()[:, 0], (kept & ~wanted).nonzero()[:, 0]
            count = math.ceil((1 - done) ** 4 * len(enter)) if self.fades else len(enter)
            best = enter[torch.argsort(scores[enter], descending=True, stable=True)[:count]]
            worst = leave[torch.argsort(scores[leave], stable=True)[:count]]
            kept = kept.clone()
            kept[best], kept[worst] = True, False
            self.kept.copy_(kept.reshape(self.kept.shape))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return what is kept of x; its gradient goes to the kept of x, and times x to all scores."""
        masked = torch.where(self.kept, x, torch.zeros((), dtype=x.dtype, device=x.device))
        return straight_through(masked, masked + self.scores * x.detach())
