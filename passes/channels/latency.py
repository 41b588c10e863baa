"""The measured latency of a cut, relative to the original."""

from graphrewrite.dims import Groups, shrink
from graphrewrite.dims.structure import Mask
from graphrewrite.ir import Model
from graphrewrite.pipeline import Context

# For one comparison; a search makes about seven of them.
_SECONDS = 2.0


def relative_latency(model: Model, found: Groups, dead: Mask, context: Context) -> float:
    """Cut for real, run both models interleaved in onnxruntime, and return the ratio of their times."""
    from graphrewrite.runtime import sample_inputs
    from graphrewrite.runtime.bench import latency

    cut = shrink(found.analysis, found.dead_labels(dead)).model
    feeds = sample_inputs(model, seed=context.seed, info=found.analysis.info)
    pair = [("original", model), ("cut", cut)]
    return latency(pair, feeds, threads=context.threads, budget=_SECONDS)[1].ratio
