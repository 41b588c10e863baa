"""The measured latency of a cut, relative to the original."""

from graphrewrite.dims import Groups, shrink
from graphrewrite.dims.structure import Mask
from graphrewrite.ir import Model, ShapeInfo
from graphrewrite.pipeline import Context

# For one comparison; a search makes about seven of them.
_SECONDS = 2.0


def relative_latency(model: Model, found: Groups, dead: Mask, context: Context) -> float:
    """Cut for real and return the ratio of the latencies."""
    cut = shrink(found.analysis, found.dead_labels(dead)).model
    return ratio_of(model, cut, found.analysis.info, context)


def ratio_of(model: Model, smaller: Model, info: ShapeInfo, context: Context) -> float:
    """Run two models interleaved in onnxruntime and return the ratio of their times; `info` is that of the first."""
    from graphrewrite.runtime import sample_inputs
    from graphrewrite.runtime.bench import latency

    feeds = sample_inputs(model, seed=context.seed, info=info)
    pair = [("original", model), ("cut", smaller)]
    return latency(pair, feeds, threads=context.threads, budget=_SECONDS)[1].ratio
