"""Samples ahead of time: the parts of each step, read here or by processes of their own."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch.utils.data import DataLoader, Dataset

from graphrewrite.bridge.train.batches import Order, Part
from graphrewrite.bridge.train.samples import Samples, Taken

Fed: TypeAlias = Sequence[tuple[Part, Taken]]


@dataclass(frozen=True)
class Feeder:
    """Reads what the steps of an epoch need.

    Attributes:
        samples: what is read.
        order: what each step takes.
        workers: processes that read ahead; 0 reads when a step is due. What is read is the same, as long as a
            transform draws from nothing but the generator it is given.
    """

    samples: Samples
    order: Order
    workers: int = 0

    def steps(self, epoch: int, first: int) -> Iterator[Fed]:
        """Yield the parts of each step of an epoch, from a first one on."""
        ahead = _Steps(self.samples, self.order, epoch, first)
        if not self.workers:
            return (ahead[step] for step in range(len(ahead)))
        # With a generator of its own the loader leaves torch's alone, so that runs with and without workers are equal.
        return iter(
            DataLoader(
                ahead,
                batch_size=None,
                collate_fn=_as_it_is,
                num_workers=self.workers,
                generator=torch.Generator(),
            )
        )


class _Steps(Dataset[Fed]):
    """The steps of an epoch by number."""

    def __init__(self, samples: Samples, order: Order, epoch: int, first: int) -> None:
        self._samples, self._order, self._epoch, self._first = samples, order, epoch, first

    def __len__(self) -> int:
        return self._order.steps - self._first

    def __getitem__(self, step: int) -> Fed:
        parts = self._order.parts(self._epoch, self._first + step)
        return [(part, self._samples.take(part.numbers, self._epoch)) for part in parts]


def _as_it_is(fed: Fed) -> Fed:
    return fed
