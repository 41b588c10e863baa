"""Statistics of norms measured anew, after weights in front of them were changed without training."""

from collections.abc import Callable

from graphrewrite.bridge.gradients import Steps
from graphrewrite.bridge.module import GraphModule
from graphrewrite.bridge.optable.batchnorm import Measuring, RunningNorm
from graphrewrite.data import DataSource
from graphrewrite.data.stats import no_full_batch
from graphrewrite.ir import Model


def recalibrated(
    model: Model,
    source: DataSource,
    batch: int = 64,
    seed: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
) -> Model:
    """Return a copy whose batch norms have the mean and variance of their inputs over the data.

    Each norm measures its batches while those before it normalise by the same batch, as in training; the averages over
    batches, by their numbers of samples, are kept. All else runs as it would serve. Norms whose statistics the graph
    computes keep to them.

    Raises:
        UnsupportedOp: an operator has no torch form.
        InvalidData: a batch does not fit the inputs, or there is no full batch.
    """
    module = GraphModule(model).eval()
    norms = [each for each in module.modules() if isinstance(each, (RunningNorm, Measuring))]
    done = 0
    for feeds, here in Steps(model, source, batch, seed):
        done += len(here)
        share = len(here) / done
        for norm in norms:
            norm.train()
            if isinstance(norm, RunningNorm):
                norm.pace = share
            else:
                norm.momentum = 1 - share
        module.run(feeds)
        if progress is not None:
            progress("statistics", done, len(source))
    if not done:
        raise no_full_batch(source, model)
    return module.write_back()
