"""The measured latency of a cut, relative to the original."""

from graphrewrite.dims import Groups, shrink
from graphrewrite.dims.structure import Mask
from graphrewrite.ir import Model, ShapeInfo
from graphrewrite.pipeline import Context
from graphrewrite.runtime import Ports

# For one comparison; a search makes about seven of them.
_SECONDS = 2.0


def relative_latency(model: Model, found: Groups, dead: Mask, context: Context) -> float:
    """Cut for real and return the ratio of the latencies."""
    cut = shrink(found.analysis, found.dead_labels(dead))
    return ratio_of(model, cut.model, found.analysis.info, context, cut.ports)


def ratio_of(
    model: Model, smaller: Model, info: ShapeInfo, context: Context, ports: Ports | None = None
) -> float:
    """Run two models interleaved in onnxruntime and return the ratio of their times.

    `info` is that of the first; `ports` says what is left of the first one's inputs for the second.
    """
    from graphrewrite.runtime import sample_inputs, take_kept
    from graphrewrite.runtime.bench import latency

    feeds = sample_inputs(model, seed=context.seed, info=info)
    pair = [("original", model), ("cut", smaller)]
    each = [feeds, take_kept(feeds, ports or {})]
    return latency(pair, each, threads=context.threads, budget=_SECONDS)[1].ratio
