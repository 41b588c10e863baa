"""onnxsim's structured pruning on one file, in the orders a user could call it; the best that runs counts."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import onnx
import onnxruntime as ort

from graphrewrite import cost
from graphrewrite.ir import Model
from graphrewrite.ir.inline import inlined
from tests.bench.common import timed
from tests.corpus.index import Array, Entry

Proto = onnx.ModelProto


@dataclass(frozen=True)
class Pruned:
    """A model after pruning that ran at every batch size with outputs of the old shapes."""

    setting: str
    proto: Proto
    macs: float
    params: float
    seconds: float


def as_exported(proto: Proto, ratio: float) -> Proto:
    """Prune the file as it is."""
    return _prune(proto, ratio)


def simplified(proto: Proto, ratio: float) -> Proto:
    """Simplify with the defaults, then prune."""
    library = importlib.import_module("onnxsim")
    return _prune(library.simplify(proto)[0], ratio)


def fused(proto: Proto, ratio: float) -> Proto:
    """Fuse attention, keep the products three-dimensional (its Gemm form hides them), prune channels and heads."""
    library = importlib.import_module("onnxsim")
    simple = library.simplify(
        proto,
        extra_optimizers=["fuse_attention", "fuse_gqa"],
        skipped_optimizers=["fuse_matmul_add_bias_into_gemm_batched"],
    )[0]
    return _prune(simple, ratio)


def _prune(proto: Proto, ratio: float) -> Proto:
    library = importlib.import_module("onnxsim")
    return library.apply_attention_head_pruning(library.apply_structured_pruning(proto, ratio), ratio)


SETTINGS: tuple[Callable[[Proto, float], Proto], ...] = (as_exported, simplified, fused)


def prune(entry: Entry, ratio: float) -> Pruned:
    """Try every setting and return the one that keeps the fewest MACs; shares of the original.

    Raises:
        RuntimeError: no setting gave a model that runs; the message has the first reason.
    """
    proto = onnx.load(entry.path)
    feeds = [entry.sample(batch, seed=batch) for batch in ((2, 3) if entry.dynamic_batch else (2,))]
    before = [shapes(run(proto, feed)) for feed in feeds]
    macs, params = size(proto)
    found: list[Pruned] = []
    reasons: list[str] = []
    for setting in SETTINGS:
        try:
            given = Proto()
            given.CopyFrom(proto)
            result, spent = timed(partial(setting, given, ratio))
            after = [shapes(run(result, feed)) for feed in feeds]
            if after != before:
                raise ValueError(f"outputs changed from {before[0]} to {after[0]}")
            left = size(result)
            found.append(
                Pruned(setting.__name__, result, left[0] / max(macs, 1), left[1] / max(params, 1), spent.cpu)
            )
        except Exception as error:  # a rival's failure is a result
            reasons.append(f"{type(error).__name__}: {' '.join(str(error).split())[:110]}")
    if not found:
        raise RuntimeError(reasons[0])
    return min(found, key=lambda one: one.macs)


def run(proto: Proto, feeds: dict[str, Array]) -> list[Array]:
    """Run in onnxruntime; raises ValueError when an output is not finite."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    wanted = {value.name for value in session.get_inputs()}
    found = [np.asarray(v) for v in session.run(None, {k: v for k, v in feeds.items() if k in wanted})]
    if not all(np.isfinite(v).all() for v in found if np.issubdtype(v.dtype, np.floating)):
        raise ValueError("an output is not finite")
    return found


def shapes(values: list[Array]) -> list[tuple[int, ...]]:
    """Return the shape of each value."""
    return [value.shape for value in values]


def size(proto: Proto) -> tuple[float, int]:
    """Return MACs and parameters, counted the same way before and after and for every tool that writes ONNX."""
    found = cost.of(inlined(Model.from_proto(proto)))
    return found.total("macs"), found.params
