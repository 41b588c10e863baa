"""A running average of the weights, which is evaluated and returned instead of the last step's."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch


class Average:
    """Keeps `share` of itself at every step and takes the rest from the weights (Polyak & Juditsky 1992).

    The average starts at the weights it is made from, so it needs no correction for its first steps.
    """

    def __init__(self, live: Mapping[str, torch.Tensor], share: float) -> None:
        self.share = share
        self.kept = {name: tensor.detach().clone() for name, tensor in live.items()}

    def update(self, live: Mapping[str, torch.Tensor]) -> None:
        """Take a step's weights in; what is no float is copied."""
        with torch.no_grad():
            for name, kept in self.kept.items():
                now = live[name].detach()
                if kept.is_floating_point():
                    kept.lerp_(now.to(kept.dtype), 1 - self.share)
                else:
                    kept.copy_(now)

    def set(self, values: Mapping[str, torch.Tensor]) -> None:
        """Take up an average that was written down."""
        copy_into(self.kept, values)

    @contextmanager
    def applied(self, live: Mapping[str, torch.Tensor]) -> Iterator[None]:
        """Put the average in the place of the weights while the block runs."""
        aside = {name: tensor.detach().clone() for name, tensor in live.items()}
        copy_into(live, self.kept)
        try:
            yield
        finally:
            copy_into(live, aside)


def copy_into(live: Mapping[str, torch.Tensor], values: Mapping[str, torch.Tensor]) -> None:
    """Write values into tensors in place; names that are not there are left out."""
    with torch.no_grad():
        for name, tensor in live.items():
            if name in values:
                tensor.copy_(values[name])
