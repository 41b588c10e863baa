"""Which samples make a step: the same for any number of processes and passes, known for every step beforehand."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Part:
    """What one process sees in one pass of a step; `share` is its weight in the mean over the step's samples.

    A process without samples of its own runs one all the same, with the weight 0: the others wait for its gradients.
    """

    numbers: Numbers
    share: float


@dataclass(frozen=True)
class Order:
    """The order of the samples, by seed and epoch, and how a step is spread.

    Attributes:
        samples: how many there are; the last step of an epoch takes what is left.
        batch: samples of a step over all processes and passes.
        seed: of the order.
        passes: how many parts a process takes a step in.
        rank: number of this process.
        processes: how many there are.
    """

    samples: int
    batch: int
    seed: int
    passes: int = 1
    rank: int = 0
    processes: int = 1

    @property
    def steps(self) -> int:
        """Steps in an epoch."""
        return -(-self.samples // self.batch)

    def whole(self, epoch: int, step: int) -> Numbers:
        """Return the samples of a step over all processes."""
        order = _shuffled(self.samples, self.seed, epoch)
        return order[step * self.batch : (step + 1) * self.batch]

    def parts(self, epoch: int, step: int) -> Iterator[Part]:
        """Yield what this process runs in a step, pass by pass.

        Gradients are averaged over processes, so shares are those of a mean over all samples times the processes.
        """
        whole = self.whole(epoch, step)
        own = np.array_split(whole, self.processes)[self.rank]
        if not len(own):
            yield Part(whole[:1], 0.0)
            return
        for numbers in np.array_split(own, min(self.passes, len(own))):
            yield Part(numbers, len(numbers) * self.processes / len(whole))

    def over(self, samples: int) -> "Order":
        """Return the same for another number of samples."""
        return replace(self, samples=samples)

    def stored(self) -> Iterator[Numbers]:
        """Yield this process's share of all samples in their stored order, in batches, for evaluation."""
        own = np.array_split(np.arange(self.samples), self.processes)[self.rank]
        for start in range(0, len(own), self.batch):
            yield own[start : start + self.batch]


@lru_cache(maxsize=2)
def _shuffled(samples: int, seed: int, epoch: int) -> Numbers:
    order = np.random.default_rng((seed, epoch)).permutation(samples)
    order.flags.writeable = False
    return order
