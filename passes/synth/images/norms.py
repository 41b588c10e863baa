"""What batch norms saw in training, and what they see of other samples: mean and variance of each channel they read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from graphrewrite.bridge.module import GraphModule
from graphrewrite.bridge.taps import Tapped, tapped
from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Model, constant_value


@dataclass(frozen=True)
class Statistics:
    """Mean and biased variance [channels] of each of several tensors, in order."""

    means: tuple[torch.Tensor, ...]
    variances: tuple[torch.Tensor, ...]

    def last(self, first: int) -> "Statistics":
        """Return those from number `first` on."""
        return Statistics(self.means[first:], self.variances[first:])

    def shaken(self, mean: float, variance: float) -> "Statistics":
        """Return them with normal noise of these deviations on top, drawn anew in each call."""
        return Statistics(
            tuple(each + mean * torch.randn_like(each) for each in self.means),
            tuple(each + variance * torch.randn_like(each) for each in self.variances),
        )

    def distance(self, other: "Statistics") -> torch.Tensor:
        """Return the mean over tensors of the mean squared differences of means, plus the same of variances."""
        pairs = [
            *zip(self.means, other.means, strict=True),
            *zip(self.variances, other.variances, strict=True),
        ]
        return torch.stack([((one - two) ** 2).mean() for one, two in pairs]).sum() / len(self.means)


class Observed:
    """A frozen model in inference mode that tells what its batch norms read.

    Args:
        model: stays as it is.
        more: further tensors to hand out.

    Attributes:
        stored: the running statistics of the norms, in the order of the graph.

    Raises:
        InvalidConfig: the model has no batch norms.
        UnknownNameError: it has no tensor of a name in `more`.
    """

    def __init__(self, model: Model, more: Sequence[str] = ()) -> None:
        norms = model.nodes("BatchNormalization")
        if not norms:
            raise InvalidConfig(
                "the model has no BatchNormalization, so nothing in it says how its training data was spread; expected "
                "norms that are not folded into the weights; export the model in training mode or without folding, and "
                "synthesise before any tidying"
            )
        kept = [[constant_value(node.inputs[slot]) for slot in (3, 4)] for node in norms]
        for node, numbers in zip(norms, kept, strict=True):
            if any(each is None for each in numbers):
                raise InvalidConfig(
                    f"the statistics of the norm {node.name or node.outputs[0].name!r} are computed; expected stored "
                    "numbers; fold constants first"
                )
        self.stored = Statistics(
            *(tuple(torch.tensor(each[slot], dtype=torch.float32) for each in kept) for slot in (0, 1))
        )
        self._read = [str(node.inputs[0].name) for node in norms]
        module = GraphModule(model).requires_grad_(False)
        self._inputs = [tensor.name for tensor in model.inputs]
        inner = [name for name in (*self._read, *more) if name not in self._inputs]
        self._net: Tapped = tapped(module, inner).eval()

    def __call__(self, feeds: Mapping[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], Statistics]:
        """Return tensors by name, the outputs among them, and the statistics of what each norm reads."""
        found = {**feeds, **self._net(feeds)}
        return found, statistics([found[name] for name in self._read])


def statistics(tensors: Sequence[torch.Tensor]) -> Statistics:
    """Return the statistics of tensors [samples, channels, ...] over all but their channels."""
    axes = [[axis for axis in range(each.ndim) if axis != 1] for each in tensors]
    return Statistics(
        tuple(each.mean(dim=over) for each, over in zip(tensors, axes, strict=True)),
        tuple(each.var(dim=over, correction=0) for each, over in zip(tensors, axes, strict=True)),
    )
