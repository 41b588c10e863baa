"""Where the student looks made like where the teacher looks."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from graphrewrite.bridge.losses import Batch, Needs, losses
from graphrewrite.errors import InvalidData
from graphrewrite.passes.losses.feature_match import check_pairs

if TYPE_CHECKING:
    import torch


@losses.register("attention_transfer")
@dataclass(frozen=True)
class AttentionTransfer:
    """Mean squared difference of attention maps (Zagoruyko & Komodakis 2017, activation-based, p = 2).

    A map is the mean of squares over the channels of [samples, channels, ...], brought to length 1 for each sample; so
    the two may have different numbers of channels, which is what is left after pruning. `pairs` maps names of the
    student to names of the teacher.
    """

    pairs: Mapping[str, str] = field(default_factory=dict)
    weight: float = 1.0

    def __post_init__(self) -> None:
        check_pairs("AttentionTransfer", self.pairs)

    @property
    def needs(self) -> Needs:
        """The named tensors."""
        return Needs(student=tuple(self.pairs), teacher=tuple(self.pairs.values()))

    def __call__(self, batch: Batch) -> "torch.Tensor":
        """Return the sum over pairs of the mean over samples and places.

        Raises:
            InvalidData: a pair differs in more than its channels, or has nothing but channels.
        """
        import torch

        apart = []
        for name, other in self.pairs.items():
            student, teacher = batch.student[name], batch.taught(other)
            if student.ndim < 3 or student.shape[2:] != teacher.shape[2:]:
                raise InvalidData(
                    f"{name!r} has the shape {list(student.shape)} and the teacher's {other!r} has "
                    f"{list(teacher.shape)}; expected [samples, channels, ...] with the same places; pair other tensors"
                )
            apart.append(attention_gap(student, teacher))
        return torch.stack(apart).sum()


def attention_map(features: "torch.Tensor") -> "torch.Tensor":
    """Return the mean of squares over the channels of [samples, channels, ...], as [samples, places]."""
    found: torch.Tensor = features.float().square().mean(dim=1).flatten(1)
    return found


def attention_gap(one: "torch.Tensor", other: "torch.Tensor") -> "torch.Tensor":
    """Return the mean squared difference of two attention maps of length 1, over samples and places."""
    from torch.nn import functional

    apart = functional.normalize(attention_map(one)) - functional.normalize(attention_map(other))
    return apart.square().mean()
