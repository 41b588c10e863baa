"""Kernel sparsity and entropy: a channel is worth the size of the kernels that read it, less where they spread."""

from dataclasses import dataclass

import numpy as np

from graphrewrite.dims import ChannelGroup, Member
from graphrewrite.dims.shrink import weight_array
from graphrewrite.errors import InvalidConfig
from graphrewrite.passes.channels.criteria import Evidence, criteria
from graphrewrite.passes.channels.evidence import Scores

# Operators whose weights hold taps from the third axis on.
_CONVOLUTIONS = frozenset({"Conv", "ConvTranspose", "ConvInteger", "QLinearConv"})


@criteria.register("kse")
@dataclass(frozen=True)
class Kse:
    """Indicator v = sqrt(s / (1 + alpha e)) of every channel that a layer reads (Li et al., 2019, KSE).

    s is the sum of |w| over the kernels that read the channel, e the entropy in bits of how far each of them is from
    its nearest `neighbours`; both, and v, are stretched over [0, 1] within the layer. The distances are between the
    kernels of one channel, as in the paper, not between what a mere reshape of the weight puts side by side. A matrix
    product has kernels of one number. Layers that read the same channel count alike, which the paper, having one reader
    each, leaves open. Weights only.
    """

    alpha: float = 1.0
    neighbours: int = 5

    def __post_init__(self) -> None:
        if not self.alpha >= 0:
            raise InvalidConfig(f"Kse.alpha is {self.alpha!r}; expected a weight of 0 or more, such as 1")
        if isinstance(self.neighbours, bool) or self.neighbours < 1:
            raise InvalidConfig(
                f"Kse.neighbours is {self.neighbours!r}; expected a number of kernels, 1 or more"
            )

    def score(self, group: ChannelGroup, evidence: Evidence) -> Scores:
        """Return [units]."""
        return group.reduce(
            lambda member: self.indicator(_kernels(member, evidence)), np.asarray, roles=("consumer",)
        )

    def indicator(self, kernels: Scores) -> Scores:
        """Return v, [channels], of `kernels` [channels, kernels, taps]."""
        sparsity = stretched(np.abs(kernels).sum(axis=(1, 2), dtype=np.float64))
        spread = stretched(np.array([entropy(of_one, self.neighbours) for of_one in kernels]))
        return stretched(np.sqrt(sparsity / (1 + self.alpha * spread)))


def entropy(kernels: Scores, neighbours: int = 5) -> float:
    """Return the entropy in bits of kernel density, for `kernels` [kernels, taps] that read one channel.

    A kernel's density is the sum of its distances to its nearest neighbours, as a share of that of all. It is highest,
    log2 of their number, when all kernels are equally far from others; 0 when all are the same.
    """
    count = min(neighbours, len(kernels) - 1)
    if count < 1:
        return 0.0
    density = _on_a_line(kernels, count) if kernels.shape[1] == 1 else _in_space(kernels, count)
    if not density.sum():
        return 0.0
    shares = density[density > 0] / density.sum()
    return float(-(shares * np.log2(shares)).sum())


def stretched(values: Scores) -> Scores:
    """Return values moved and scaled to reach from 0 to 1; all 1 where they are the same."""
    low, high = values.min(initial=np.inf), values.max(initial=-np.inf)
    return (values - low) / (high - low) if high > low else np.ones(len(values))


def _in_space(kernels: Scores, count: int) -> Scores:
    """Return the sum of the distances to the `count` nearest others, from all pairs; equal kernels are 0 apart."""
    squared = np.zeros((len(kernels), len(kernels)))
    for tap in kernels.T.astype(np.float64):
        squared += np.square(tap[:, None] - tap[None, :])
    np.fill_diagonal(squared, np.inf)
    return np.asarray(np.sqrt(np.partition(squared, count - 1, axis=1)[:, :count]).sum(axis=1))


def _on_a_line(kernels: Scores, count: int) -> Scores:
    """Return the same for kernels of one tap: the nearest are among the next on both sides in order of size."""
    order = np.sort(kernels[:, 0].astype(np.float64))
    apart = np.full((len(order), 2 * count), np.inf)
    for step in range(1, count + 1):
        gaps = order[step:] - order[:-step]
        apart[step:, 2 * step - 2] = gaps
        apart[:-step, 2 * step - 1] = gaps
    return np.asarray(np.partition(apart, count - 1, axis=1)[:, :count].sum(axis=1))


def _kernels(member: Member, evidence: Evidence) -> Scores:
    """Return a weight as [units, kernels of the unit, taps]."""
    weights = evidence.producer_weights(member)
    ops = {evidence.nodes[node].op for node, _ in member.use.sites}
    shape = weight_array(evidence.model, member.tensor).shape if ops & _CONVOLUTIONS else ()
    taps = int(np.prod(shape[2:]))
    return weights.reshape(len(weights), -1, taps)
