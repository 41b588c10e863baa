"""Nets that look at different places: each is led away from where the one before it looks most."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphrewrite.bridge.losses import Batch, Needs, losses
from graphrewrite.errors import InvalidConfig, InvalidData
from graphrewrite.passes.losses.attention_transfer import attention_map
from graphrewrite.passes.losses.feature_match import check_several

if TYPE_CHECKING:
    import torch


@losses.register("attention_diversity")
@dataclass(frozen=True)
class AttentionDiversity:
    """Mean squared difference of each attention map from the turned map of the net before (Li et al. 2021, FFSD).

    Of `tensors` [samples, channels, ...] each but the first is compared with the one before it, into which no gradient
    flows. In the first `ramp` of a stage's steps the loss grows from 0.7 % (see `risen`).

    The turned map keeps the weakest third of the places and replaces y by n - y elsewhere, with y the map at length 1
    and n its length before. So targets are of the size of n while maps are at most 1; the published weight is tiny for
    that reason, and depends on how large a net's features are.
    """

    tensors: tuple[str, ...] = ()
    ramp: float = 0.0
    weight: float = 1e-5

    def __post_init__(self) -> None:
        check_several("AttentionDiversity.tensors", self.tensors, 2, "feature maps of several nets")
        check_ramp("AttentionDiversity", self.ramp)

    @property
    def needs(self) -> Needs:
        """The feature maps."""
        return Needs(student=self.tensors)

    def __call__(self, batch: Batch) -> "torch.Tensor":
        """Return the sum over nets of the mean over samples and places.

        Raises:
            InvalidData: a map has fewer than three places, or other places than the one before.
        """
        import torch
        from torch.nn import functional

        maps = [batch.student[name] for name in self.tensors]
        apart = []
        for name, own, before in zip(self.tensors[1:], maps[1:], maps[:-1], strict=True):
            if own.shape[2:] != before.shape[2:]:
                raise InvalidData(
                    f"{name!r} has the shape {list(own.shape)}, the map before it {list(before.shape)}; expected "
                    "[samples, channels, ...] with the same places; name maps of one size"
                )
            looks = functional.normalize(attention_map(own))
            apart.append((looks - turned(before.detach())).square().mean())
        return torch.stack(apart).sum() * risen(batch.done, self.ramp)


def turned(features: "torch.Tensor") -> "torch.Tensor":
    """Return where a net that differs from one with these features shall look, [samples, places].

    Raises:
        InvalidData: there are fewer than three places.
    """
    import torch
    from torch.nn import functional

    raw = attention_map(features)
    if raw.shape[1] < 3:
        raise InvalidData(
            f"features of the shape {list(features.shape)} have {raw.shape[1]} places; expected three or more, of "
            "which the weakest third is kept; name an earlier tensor"
        )
    length = raw.norm(dim=1, keepdim=True)
    looks = functional.normalize(raw)
    limit = looks.kthvalue(raw.shape[1] // 3, dim=1, keepdim=True).values
    elsewhere = torch.where(looks < limit, looks, length / 2)
    return torch.where(looks > limit, length - looks, elsewhere)


def risen(done: float, ramp: float) -> float:
    """Return exp(-5 (1 - done / ramp)^2), and 1 once `ramp` of the steps lies behind (Laine & Aila 2017)."""
    return math.exp(-5 * (1 - done / ramp) ** 2) if done < ramp else 1.0


def check_ramp(loss: str, ramp: float) -> None:
    """Refuse a length that is none.

    Raises:
        InvalidConfig: it is negative or no number.
    """
    if not (math.isfinite(ramp) and ramp >= 0):
        raise InvalidConfig(
            f"{loss}.ramp is {ramp}; it is a share of the stage's steps, from 0 up; 0 means full from the start"
        )
