"""How much of the outputs is noise, or how much accuracy is lost, once a model has been quantised."""

from collections.abc import Sequence
from math import sqrt
from typing import NamedTuple

from graphrewrite.data import DataSource
from graphrewrite.ir import Model
from graphrewrite.pipeline import Context
from graphrewrite.pipeline.quality import Agreement, batches, quality

_NORMAL_95 = 1.644854  # of the normal distribution, 95 % lie below


class Lost(NamedTuple):
    """What a model lost: of the accuracy, or the share of noise; and the most it may be, as far as samples tell."""

    share: float
    most: float


class Judge(NamedTuple):
    """Compares models with the one before on the samples there are, `batch` at a time."""

    before: Model
    data: DataSource
    context: Context
    batch: int

    def noise(self, model: Model, samples: int) -> float:
        """Return the share of noise in the energy of the outputs, their mean, on so many samples."""
        given = []
        for feeds in batches(self.before, self.data, self.context.seed, min(self.batch, samples)):
            given.append(feeds)
            if len(given) * self.batch >= samples:
                break
        return _share(quality(self.before, model, given, None, self.context.threads).agreement)

    def lost(self, model: Model) -> Lost:
        """Return what is lost of the accuracy on all samples; where nobody knows labels, the share of noise.

        The most is the end of the 95 % interval on one side: each sample whose class is another may have cost a right
        answer or brought one.
        """
        given = batches(self.before, self.data, self.context.seed, self.batch)
        found = quality(self.before, model, given, self.data.labels, self.context.threads)
        if found.before is None or found.after is None:
            share = _share(found.agreement)
            return Lost(share, share)
        other = max((1 - each.same_top for each in found.agreement if each.same_top is not None), default=0.0)
        share = found.before.share - found.after.share
        return Lost(share, share + _NORMAL_95 * sqrt(other / found.samples))


def _share(agreement: Sequence[Agreement]) -> float:
    shares = [10 ** (-each.snr / 10) for each in agreement]
    return sum(shares) / len(shares) if shares else 0.0
