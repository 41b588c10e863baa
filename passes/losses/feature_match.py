"""Features of the student made like the teacher's."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from graphrewrite.bridge.losses import Batch, Needs, losses
from graphrewrite.errors import InvalidConfig, InvalidData

if TYPE_CHECKING:
    import torch


@losses.register("feature_match")
@dataclass(frozen=True)
class FeatureMatch:
    """Mean squared difference of named tensors (Romero et al. 2015, without a regressor: shapes must agree).

    `pairs` maps names of the student to names of the teacher. `scale` "unit" brings each sample's features to length 1
    first, so that only their direction counts and layers of different size weigh the same.
    """

    pairs: Mapping[str, str] = field(default_factory=dict)
    scale: Literal["as_is", "unit"] = "as_is"
    weight: float = 1.0

    def __post_init__(self) -> None:
        check_pairs("FeatureMatch", self.pairs)
        if self.scale not in ("as_is", "unit"):
            raise InvalidConfig(
                f'FeatureMatch.scale is {self.scale!r}; it must be "as_is" or "unit"; correct it'
            )

    @property
    def needs(self) -> Needs:
        """The named tensors."""
        return Needs(student=tuple(self.pairs), teacher=tuple(self.pairs.values()))

    def __call__(self, batch: Batch) -> "torch.Tensor":
        """Return the mean over pairs, samples and, as they are, numbers; of unit vectors the squared distance.

        Raises:
            InvalidData: a pair has different shapes.
        """
        import torch
        from torch.nn import functional

        apart = []
        for name, other in self.pairs.items():
            student, teacher = batch.student[name].float(), batch.taught(other).float()
            if student.shape != teacher.shape:
                raise InvalidData(
                    f"{name!r} has the shape {list(student.shape)} and the teacher's {other!r} has "
                    f"{list(teacher.shape)}; expected the same; pair tensors that pruning left "
                    "whole, or use AttentionTransfer"
                )
            if self.scale == "unit":
                difference = functional.normalize(student.flatten(1)) - functional.normalize(
                    teacher.flatten(1)
                )
                apart.append(difference.square().sum(dim=1).mean())
            else:
                apart.append((student - teacher).square().mean())
        return torch.stack(apart).mean()


def check_pairs(loss: str, pairs: Mapping[str, str]) -> None:
    """Refuse an empty list of pairs.

    Raises:
        InvalidConfig: there is none.
    """
    if not pairs:
        raise InvalidConfig(
            f"{loss}.pairs is empty; expected names of the student's tensors with the teacher's; `graphrewrite "
            "inspect` lists names"
        )


def check_several(field: str, names: object, least: int, what: str) -> None:
    """Refuse one text in the place of several names, and fewer different ones than needed; `what` says what they name.

    Raises:
        InvalidConfig: it is so.
    """
    if not isinstance(names, tuple) or len(set(names)) < least:
        raise InvalidConfig(
            f"{field} is {names!r}; expected {least} or more different names, of {what}; `graphrewrite inspect` lists "
            "names"
        )
