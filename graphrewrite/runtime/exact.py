"""Models at work in double precision, for when single precision cannot tell a defect from rounding.

onnxruntime has double kernels for part of the operators only (none for a convolution), so what it refuses goes to the
reference evaluator of the onnx package: numpy, some two seconds for a thousand million multiply-accumulates.
"""

from collections.abc import Sequence

import numpy as np

from graphrewrite.errors import GraphRewriteError, UnsupportedOp
from graphrewrite.ir import Array, Model
from graphrewrite.ir.widen import widen_feeds, widened
from graphrewrite.runtime.session import Feeds, flat, reason, run_session, session

_DOUBLE = np.dtype(np.float64)


def run_exact(model: Model, feeds: Sequence[Feeds], threads: int = 0) -> list[dict[str, Array]]:
    """Return what a model computes in float64, one result for each set of feeds; all its floats are widened first.

    Raises:
        UnsupportedOp: some operator has no kernel in float64 here, or a result still comes out in a narrower type.
    """
    wide, data = widened(model, _DOUBLE), [widen_feeds(each, _DOUBLE) for each in feeds]
    try:
        started = session(wide, threads=threads, optimize=False, spinning=False)
        found = [run_session(started, each) for each in data]
    except GraphRewriteError:
        found = _evaluated(wide, data)
    for outputs in found:
        for name, array in outputs.items():
            if array.dtype.kind not in "biuOUSc" and array.dtype != _DOUBLE:
                raise UnsupportedOp(
                    f"the output {name!r} comes out in {array.dtype} although the model was widened; expected float64; "
                    "compare in float32"
                )
    return found


def _evaluated(wide: Model, data: Sequence[Feeds]) -> list[dict[str, Array]]:
    from onnx.reference import ReferenceEvaluator

    names = [tensor.name for tensor in wide.outputs]
    try:
        evaluator = ReferenceEvaluator(wide.to_proto())
        with np.errstate(all="ignore"):
            results = [evaluator.run(None, dict(each)) for each in data]
    except Exception as error:  # the evaluator raises whatever its numpy code does
        raise UnsupportedOp(
            f"the model cannot be computed in float64: {reason(error)[:200] or type(error).__name__}; expected "
            "operators that onnxruntime or onnx's reference evaluator has in double precision; compare in float32"
        ) from error
    return [
        {key: array for name, value in zip(names, values, strict=True) for key, array in flat(name, value)}
        for values in results
    ]
