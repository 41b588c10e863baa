"""The measured latency of a cut, relative to the original."""

from graphrewrite.dims import Groups, shrink
from graphrewrite.dims.structure import Mask
from graphrewrite.ir import Model
from graphrewrite.pipeline import Context


def relative_latency(model: Model, found: Groups, dead: Mask, context: Context) -> float:
    """Cut for real, run both models interleaved in onnxruntime, and return the ratio of the median times."""
    from graphrewrite.runtime import sample_inputs
    from graphrewrite.runtime.bench import latency

    cut = shrink(found.analysis, found.dead_labels(dead)).model
    feeds = sample_inputs(model, seed=context.seed, info=found.analysis.info)
    first, second = latency([("original", model), ("cut", cut)], feeds, threads=context.threads)
    return second.median / first.median
