"""What a loss is to the training loop: it names the tensors it reads, and makes one number of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from graphrewrite.errors import UnknownNameError
from graphrewrite.registry import Registry

if TYPE_CHECKING:
    import torch
    from torch import nn


_CLOSE = 1e-3  # probabilities add up to one within this


@dataclass(frozen=True)
class Needs:
    """What a loss reads.

    Attributes:
        student: tensors of the trained model by name, besides its outputs.
        teacher: tensors of the teacher besides its outputs; None when it can do without a teacher.
        labels: whether every sample needs a label.
        weights: trained weights and statistics of the student, by name or pattern; each must fit something.
    """

    student: tuple[str, ...] = ()
    teacher: tuple[str, ...] | None = None
    labels: bool = False
    weights: tuple[str, ...] = ()


@dataclass(frozen=True)
class Batch:
    """What one step hands to the losses.

    Attributes:
        student: tensor name -> value, with gradients: the outputs and what `Needs.student` names.
        teacher: the same of the teacher, without gradients; empty when there is none.
        labels: one for each sample on axis 0, when the data has any.
        outputs: the model's outputs in order.
        done: share of the stage's steps that came before, from 0 to below 1; weights that grow or fade read it.
        weights: what `Needs.weights` fits, as stored: in front of any transform.
        net: what the loss that is handed this learns itself; None for all others.
    """

    student: "Mapping[str, torch.Tensor]"
    teacher: "Mapping[str, torch.Tensor]" = field(default_factory=dict)
    labels: "torch.Tensor | None" = None
    outputs: tuple[str, ...] = ()
    done: float = 0.0
    weights: "Mapping[str, torch.Tensor]" = field(default_factory=dict)
    net: "nn.Module | None" = None

    def name(self, tensor: str | None) -> str:
        """Return a tensor's name; None stands for the model's first output."""
        return self.outputs[0] if tensor is None else tensor

    def taught(self, tensor: str | None) -> "torch.Tensor":
        """Return the teacher's tensor of a name.

        Raises:
            UnknownNameError: the teacher was not asked for it.
        """
        name = self.name(tensor)
        if name not in self.teacher:
            raise UnknownNameError(
                f"the teacher gives no tensor {name!r}; expected one of {', '.join(self.teacher) or 'none at all'}; "
                "name it in the loss's needs"
            )
        return self.teacher[name]


def class_axis(scores: Sequence[object], labels: Sequence[object] | None = None) -> int | None:
    """Return which axis of scores of this shape counts the classes, or None where none does.

    With the shape of `labels` it is the axis these lack. Without, it is the last of [samples, steps, classes], as
    language models score, and axis 1 of all others: [samples, classes], [samples, classes, height, width].
    """
    if len(scores) < 2:
        return None
    usual = 2 if len(scores) == 3 else 1
    if labels is None:
        return usual
    fitting = [
        axis for axis in (usual, 1, len(scores) - 1) if [*scores[:axis], *scores[axis + 1 :]] == [*labels]
    ]
    return fitting[0] if fitting else None


def as_scores(values: "torch.Tensor", axis: int) -> "torch.Tensor":
    """Return scores as they are, and probabilities, what a softmax in the graph makes, as their logarithms."""
    import torch

    wide = values.float()
    if not bool((wide >= 0).all()) or not bool((abs(wide.sum(axis) - 1) < _CLOSE).all()):
        return wide
    return wide.clamp_min(torch.finfo(torch.float32).tiny).log()


@runtime_checkable
class Loss(Protocol):
    """A frozen dataclass whose fields are its settings; `weight` is its factor in the sum of a stage's losses.

    The loss of a batch is a mean over its samples: that is what lets a batch be spread over processes and passes.
    """

    @property
    def weight(self) -> float:
        """Factor in the sum."""
        ...

    @property
    def needs(self) -> Needs:
        """What must be there before `__call__` is made."""
        ...

    def __call__(self, batch: Batch) -> "torch.Tensor":
        """Return the mean over the samples, without the weight."""
        ...


@runtime_checkable
class LearnedLoss(Loss, Protocol):
    """A loss with a net of its own: a head, a regressor, a decoder.

    The net is trained by the same optimiser, is part of checkpoints, goes on into the next stage where that has an
    equal loss, and is thrown away at the end of the run. A batch that reaches `__call__` has it in `Batch.net`.
    """

    @property
    def rate(self) -> float:
        """What the stage's rate is multiplied by for the net."""
        ...

    def net(self, batch: Batch) -> "nn.Module":
        """Return the net, freshly drawn, for tensors of the sizes in this batch, which has a few samples."""
        ...


losses: Registry[Loss] = Registry("loss", package="graphrewrite.passes.losses", of=Loss)
