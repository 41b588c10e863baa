"""What keeps learned filters a wavelet: perfect reconstruction, and no aliases."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphrewrite.bridge.losses import Batch, Needs, losses
from graphrewrite.errors import InvalidData

if TYPE_CHECKING:
    import torch


@losses.register("wavelet")
@dataclass(frozen=True)
class WaveletFilters:
    """How far learned filters are from a wavelet's: reconstruction and alias terms, summed (Wolter et al. 2020).

    Reconstruction: the square of h0 * f0 + h1 * f1 less twice a delay of taps - 1. Alias: the squares of
    f0[k] - (-1)^(taps-1-k) h1[k] and of f1[k] + (-1)^(taps-1-k) h0[k]. Both are 0 for filters that undo each other.

    Args:
        analysis: name or pattern of the filters h, [2, taps] as `WaveletLinear` holds them, or [2, 1, taps] with the
            taps backwards as a written-out layer does. Those of the synthesis, f, have the same name with the last
            "analysis" in it replaced by "synthesis".
        reconstruction: factor of the first term.
        alias: factor of the second.
        weight: factor of the sum.
    """

    analysis: str = "*.analysis*"
    reconstruction: float = 1.0
    alias: float = 1.0
    weight: float = 1.0

    @property
    def needs(self) -> Needs:
        """Both kinds of filters."""
        return Needs(weights=(self.analysis, _partner(self.analysis)))

    def __call__(self, batch: Batch) -> "torch.Tensor":
        """Return the sum over all layers."""
        import torch

        total = torch.zeros(())
        for h, f in self._filters(batch):
            signs = (-1.0) ** torch.arange(h.shape[1] - 1, -1, -1, device=h.device)
            product = sum(_convolved(one, other) for one, other in zip(h, f, strict=True))
            wanted = torch.zeros(2 * h.shape[1] - 1, device=h.device)
            wanted[h.shape[1] - 1] = 2
            total = total.to(h.device) + self.reconstruction * ((product - wanted) ** 2).sum()
            aliases = ((f[0] - signs * h[1]) ** 2).sum() + ((f[1] + signs * h[0]) ** 2).sum()
            total = total + self.alias * aliases
        return total

    def _filters(self, batch: Batch) -> "Iterator[tuple[torch.Tensor, torch.Tensor]]":
        from fnmatch import fnmatchcase

        for name, analysis in batch.weights.items():
            if not fnmatchcase(name, self.analysis):
                continue
            synthesis = batch.weights.get(_partner(name))
            if synthesis is None or synthesis.shape != analysis.shape or analysis.shape[0] != 2:
                found = "nothing" if synthesis is None else list(synthesis.shape)
                raise InvalidData(
                    f"the filters {name!r} {list(analysis.shape)} should have {_partner(name)!r} beside them, there "
                    f"is {found}; expected two pairs of [2, taps] or [2, 1, taps]; correct WaveletFilters.analysis"
                )
            if analysis.ndim == 3:
                analysis, synthesis = analysis[:, 0].flip(1), synthesis[:, 0]
            yield analysis.float(), synthesis.float()


def _partner(name: str) -> str:
    return "synthesis".join(name.rsplit("analysis", 1))


def _convolved(one: "torch.Tensor", other: "torch.Tensor") -> "torch.Tensor":
    from torch.nn import functional

    taps = len(one)
    found: torch.Tensor = functional.conv1d(
        one.view(1, 1, -1), other.flip(0).view(1, 1, -1), padding=taps - 1
    )
    return found.view(-1)
