"""The bar a file must pass to enter the corpus; below it a graph proves nothing or fails by itself."""

import numpy as np
import onnx
import onnxruntime as ort
from onnx import numpy_helper

from tests.corpus.index import Array, Feed

MAX_BYTES = 64_000_000
WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
# Deep random nets amplify; beyond this, float32 noise would drown a comparison of outputs.
LARGEST_OUTPUT = 1e6


class UnfitError(Exception):
    """The graph was made but is of no use to the corpus; the message is the reason kept in failures.json."""


def check(proto: onnx.ModelProto, feeds: tuple[Feed, ...], standard: bool = True) -> None:
    """Check the graph, run it at batch sizes 1, 2 and 3 where the batch is free, and look at its outputs.

    Off the `standard`, a tool's dialect, the checker is not asked.

    Raises:
        UnfitError: too large, a constant weight, an output that is not finite or ignores the input.
    """
    content = proto.SerializeToString()
    if len(content) > MAX_BYTES:
        raise UnfitError(f"{len(content) / 1e6:.0f} MB, more than {MAX_BYTES / 1e6:.0f} MB")
    if standard:
        onnx.checker.check_model(proto)
    _refuse_constant_weights(proto)
    session = _session(content)
    rng = np.random.default_rng(0)
    reference = _run(session, feeds, 2, rng)
    for batch in (1, 3) if any(None in feed.shape for feed in feeds) else ():
        _run(session, feeds, batch, rng)
    other = _run(session, feeds, 2, rng)
    if not any(_differs(a, b) for a, b in zip(reference, other, strict=True)):
        raise UnfitError("no output depends on the input")


def runs_at(proto: onnx.ModelProto, feeds: tuple[Feed, ...], batch: int) -> bool:
    """Whether onnxruntime accepts this batch size; tells a truly dynamic batch from a declared one."""
    try:
        _run(_session(proto.SerializeToString()), feeds, batch, np.random.default_rng(0))
    except UnfitError:
        raise
    except Exception:  # onnxruntime raises many kinds; any of them means no
        return False
    return True


def count_params(proto: onnx.ModelProto) -> int:
    """Float elements in initializers and Constant nodes, those of functions and subgraphs not counted."""
    tensors = list(proto.graph.initializer)
    tensors += [a.t for node in proto.graph.node if node.op_type == "Constant" for a in node.attribute]
    floats = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)
    return sum(int(np.prod(t.dims)) for t in tensors if t.data_type in floats)


def opset(proto: onnx.ModelProto) -> int:
    """Version of the default operator set."""
    return next(o.version for o in proto.opset_import if o.domain in ("", "ai.onnx"))


def _session(content: bytes) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _run(
    session: ort.InferenceSession, feeds: tuple[Feed, ...], batch: int, rng: np.random.Generator
) -> list[Array]:
    wanted = {value.name for value in session.get_inputs()}
    # A constant mask or unused input may be folded away by the exporter.
    inputs = {feed.name: feed.sample(batch, rng) for feed in feeds if feed.name in wanted}
    outputs = [np.asarray(value) for value in session.run(None, inputs) if isinstance(value, np.ndarray)]
    for value in outputs:
        if not np.issubdtype(value.dtype, np.floating):
            continue
        if not np.isfinite(value).all():
            raise UnfitError("an output is not finite")
        if value.size and np.abs(value).max() > LARGEST_OUTPUT:
            raise UnfitError(f"an output reaches {np.abs(value).max():.1e}")
    return outputs


def _differs(a: Array, b: Array) -> bool:
    if a.shape != b.shape:
        return True
    if not np.issubdtype(a.dtype, np.floating):
        return bool((a != b).any())
    x, y = a.astype(np.float64), b.astype(np.float64)
    return bool(x.size) and float(np.abs(x - y).max()) > 1e-3 * float(np.abs(x).max())


def _refuse_constant_weights(proto: onnx.ModelProto) -> None:
    """Constant weights make all units equal, and then every wrong cut of the right size looks right."""
    weights = {t.name: t for t in proto.graph.initializer}
    for node in proto.graph.node:
        for name in node.input[1:2] if node.op_type in WEIGHTED else ():
            if name not in weights or np.prod(weights[name].dims) < 64:
                continue
            values = numpy_helper.to_array(weights[name])
            if values.min() == values.max():
                raise UnfitError(f"weight {name} is constant")
