"""What a loss is to the training loop: it names the tensors it reads, and makes one number of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from graphrewrite.errors import UnknownNameError
from graphrewrite.registry import Registry

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Needs:
    """What a loss reads.

    Attributes:
        student: tensors of the trained model by name, besides its outputs.
        teacher: tensors of the teacher besides its outputs; None when it can do without a teacher.
        labels: whether every sample needs a label.
    """

    student: tuple[str, ...] = ()
    teacher: tuple[str, ...] | None = None
    labels: bool = False


@dataclass(frozen=True)
class Batch:
    """What one step hands to the losses.

    Attributes:
        student: tensor name -> value, with gradients: the outputs and what `Needs.student` names.
        teacher: the same of the teacher, without gradients; empty when there is none.
        labels: one for each sample on axis 0, when the data has any.
        outputs: the model's outputs in order.
        done: share of the stage's steps that came before, from 0 to below 1; weights that grow or fade read it.
    """

    student: "Mapping[str, torch.Tensor]"
    teacher: "Mapping[str, torch.Tensor]" = field(default_factory=dict)
    labels: "torch.Tensor | None" = None
    outputs: tuple[str, ...] = ()
    done: float = 0.0

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


losses: Registry[Loss] = Registry("loss", package="graphrewrite.passes.losses", of=Loss)
