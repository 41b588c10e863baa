"""What losses learn themselves: nets beside the model, trained along with it and thrown away at the end."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Optional

import torch
from torch import nn

from graphrewrite.bridge.losses import Batch, LearnedLoss, Loss

if TYPE_CHECKING:
    from accelerate import Accelerator


class Learned:
    """The nets of a stage's losses.

    They are the same in every process: they are drawn from one seed, and `meet` gives all the same gradient. So they
    are neither wrapped nor spread, and a loss may call its net as often and in whatever way it likes.

    Attributes:
        losses: the stage's losses in order.
        nets: by place in that order; a loss that learns nothing has none.
    """

    def __init__(
        self,
        losses: Sequence[Loss],
        first: Callable[[], Batch],
        seed: int,
        before: Optional["Learned"] = None,
    ) -> None:
        """Draw the nets for what `first` returns; those of equal losses go on from what they learned `before`."""
        self.losses = losses
        self.nets = nn.ModuleDict()
        learning = {str(number): loss for number, loss in enumerate(losses) if isinstance(loss, LearnedLoss)}
        if not learning:
            return
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            batch = first()
            device = next(iter(batch.student.values())).device
            for number, loss in learning.items():
                self.nets[number] = loss.net(batch).to(device)
                if before is not None and loss in before.losses:
                    known = before.nets[str(list(before.losses).index(loss))]
                    self.nets[number].load_state_dict(known.state_dict())

    @property
    def state(self) -> dict[str, torch.Tensor]:
        """Parameters and buffers by place and name; writing into them is what counts."""
        return dict(self.nets.state_dict(keep_vars=True))

    def groups(self, rate: float) -> list[dict[str, object]]:
        """Return groups for the optimiser, one for each net, each at its loss's share of a rate."""
        return [
            {"params": list(self.nets[str(number)].parameters()), "lr": rate * loss.rate, "factor": loss.rate}
            for number, loss in enumerate(self.losses)
            if isinstance(loss, LearnedLoss)
        ]

    def handed(self, batch: Batch) -> list[Batch]:
        """Return the batch as each loss gets it: with its net, where it has one."""
        return [
            replace(batch, net=self.nets[str(number)]) if str(number) in self.nets else batch
            for number in range(len(self.losses))
        ]

    def meet(self, accelerator: "Accelerator") -> None:
        """Give the nets of all processes the mean of their gradients."""
        if accelerator.num_processes == 1:
            return
        for parameter in self.nets.parameters():
            own = parameter.grad if parameter.grad is not None else torch.zeros_like(parameter)
            parameter.grad = accelerator.reduce(own, "mean")
