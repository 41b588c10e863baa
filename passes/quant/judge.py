"""How much of the outputs is noise, or how much accuracy is lost, once a model has been quantised."""

from collections.abc import Sequence
from typing import NamedTuple

from graphrewrite.data import DataSource
from graphrewrite.ir import Model
from graphrewrite.pipeline import Context
from graphrewrite.pipeline.quality import Agreement, batches, quality


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

    def lost(self, model: Model) -> float:
        """Return what is lost of the accuracy on all samples; where nobody knows labels, the share of noise."""
        given = batches(self.before, self.data, self.context.seed, self.batch)
        found = quality(self.before, model, given, self.data.labels, self.context.threads)
        if found.before is None or found.after is None:
            return _share(found.agreement)
        return found.before.share - found.after.share


def _share(agreement: Sequence[Agreement]) -> float:
    shares = [10 ** (-each.snr / 10) for each in agreement]
    return sum(shares) / len(shares) if shares else 0.0
