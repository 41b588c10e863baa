"""Running models in onnxruntime: sessions over models of any size, any intermediate tensor, one-line errors."""

import ctypes
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from graphrewrite import custom_ops
from graphrewrite.errors import InvalidModel, UnsupportedOp
from graphrewrite.ir import Array, Model, constant_value
from graphrewrite.ir.values import numpy_dtype_to_onnx, onnx_dtype_to_numpy
from graphrewrite.runtime.stage import staged

if TYPE_CHECKING:
    import onnxruntime as ort

Feeds: TypeAlias = Mapping[str, npt.NDArray[np.generic]]

# Element types that onnxruntime computes with but hands to Python under another name, or not at all.
_UNNAMED = ("bfloat16", "float8", "float4", "int4", "int2")


def session(
    model: Model | str | os.PathLike[str],
    *,
    threads: int = 0,
    optimize: bool = True,
    outputs: Sequence[str] = (),
    spinning: bool = True,
    kernels: bool = True,
) -> "ort.InferenceSession":
    """Load a model into onnxruntime on the CPU; `outputs` adds intermediate tensors to what it returns.

    With `optimize` onnxruntime rewrites the graph and packs the weights, which is how a served model runs. Without,
    the graph runs as it stands: the session starts at once, and weights that lie in files stay there, mapped, so that
    a model larger than memory costs no memory of its own. `threads` is the number inside one operator, 0 for all cores;
    `spinning=False` lets them sleep between operators, which is slower alone and fairer beside other sessions.
    With `kernels` the nodes of the domain `graphrewrite` run in our compiled library where there is one; without, as
    everywhere else, through their function bodies.

    Raises:
        UnsupportedOp: onnxruntime has no kernel for an operator (the message names it).
        InvalidModel: onnxruntime refuses the model; the message holds its reason on one line.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = (
        4  # failures arrive as exceptions; the same text on stderr would only repeat them
    )
    options.intra_op_num_threads = threads
    if not spinning:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if not optimize:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.add_session_config_entry("session.disable_prepacking", "1")
    if kernels and custom_ops.available():
        custom_ops.register(options)
    if isinstance(model, Model):
        with staged(model, outputs) as (content, folder):
            if folder is not None:
                options.add_session_config_entry(
                    "session.model_external_initializers_file_folder_path", str(folder)
                )
            return _start(content, options, "the model")
    path = Path(model)
    if not path.is_file():
        raise InvalidModel(f"there is no model file {str(path)!r}; expected an ONNX model; check the path")
    if outputs:
        return session(
            Model.load(path),
            threads=threads,
            optimize=optimize,
            outputs=outputs,
            spinning=spinning,
            kernels=kernels,
        )
    return _start(str(path), options, repr(str(path)))


def run(
    model: Model | str | os.PathLike[str],
    feeds: Feeds,
    outputs: Sequence[str] | None = None,
    threads: int = 0,
    optimize: bool = False,
) -> dict[str, Array]:
    """Run a model once and return its outputs by name, or those of `outputs`, which may be any tensor of the graph.

    A sequence comes back as `name[0]`, `name[1]`, ...; a map as `name[key]`; an absent optional not at all. By default
    the graph runs as it stands (see `session`), so that what is compared is the model and not onnxruntime's fusions.

    Raises:
        InvalidModel: onnxruntime refuses the model or fails while running it, or there is no such tensor.
        UnsupportedOp: onnxruntime has no kernel for an operator.
    """
    if not isinstance(model, Model):
        model = Model.load(model)
    ready, wanted = _without_running(model, feeds, outputs)
    if not wanted:
        return ready
    declared = {tensor.name for tensor in model.outputs}
    taps = [name for name in wanted if name not in declared]
    started = session(model, threads=threads, optimize=optimize, outputs=taps)
    ready |= run_session(started, feeds, wanted)
    if outputs is None:
        return ready
    return {key: ready[key] for name in outputs for key in ready if key == name or key.startswith(f"{name}[")}


def run_session(
    started: "ort.InferenceSession", feeds: Feeds, outputs: Sequence[str] | None = None
) -> dict[str, Array]:
    """Run a session that is already loaded; names and forms of the results as in `run`.

    Raises:
        InvalidModel: onnxruntime fails while running; the message names the node and the reason.
    """
    known = {argument.name: argument.type for argument in started.get_outputs()}
    names = list(known) if outputs is None else list(outputs)
    inputs = {argument.name: argument.type for argument in started.get_inputs()}
    wanted = {name: value for name, value in feeds.items() if name in inputs}
    odd = any(
        label in kind for kind in (*inputs.values(), *(known[name] for name in names)) for label in _UNNAMED
    )
    try:
        if odd:
            return dict(_run_by_pointer(started, wanted, names))
        values = started.run(names, {name: np.ascontiguousarray(value) for name, value in wanted.items()})
    except Exception as error:
        raise _translated(error, "the model") from error
    return {key: array for name, value in zip(names, values, strict=True) for key, array in flat(name, value)}


def reason(error: BaseException) -> str:
    """Return onnxruntime's message on one line, without its error codes and source file positions."""
    text = re.sub(r"\[ONNXRuntimeError\] : \d+ : (\w+) : ", "", str(error))
    text = re.sub(r"\S*onnxruntime\S*\.(?:h|cc|cpp):\d+ [^\n]*?\)(?: const)? (?=[A-Za-z_*])", "", text)
    return " ".join(text.split()).rstrip(" .")


def _start(source: bytes | str, options: "ort.SessionOptions", what: str) -> "ort.InferenceSession":
    import onnxruntime as ort

    try:
        return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own classes share no public base
        raise _translated(error, what) from error


def _translated(error: BaseException, what: str) -> InvalidModel | UnsupportedOp:
    import onnxruntime as ort

    text = reason(error)
    runtime = f"onnxruntime {ort.__version__}"
    missing = re.search(r"(?:Fatal error: )([^\s(]+)\(-?\d+\) is not a registered", text) or re.search(
        r"No Op registered for (\S+)", text
    )
    if missing:
        return UnsupportedOp(
            f"{runtime} does not know the operator {missing[1]} used by {what}; register its library, or give the "
            f"model a function body for it ({text})"
        )
    kernel = re.search(r"Could not find an implementation for (\S+?)\(\d+\) node with name '([^']*)'", text)
    if kernel:
        return UnsupportedOp(
            f"{runtime} has no CPU kernel for {kernel[1]} (node {kernel[2]!r}) of {what} with these element types and "
            "this operator-set version; export with other types or a newer operator set"
        )
    version = re.search(r"Unsupported model IR version: (\d+), max supported IR version: (\d+)", text)
    if version:
        return InvalidModel(
            f"{what} has IR version {version[1]}, {runtime} reads up to {version[2]}; export it with an older onnx "
            "release (or set ir_version lower), or install a newer onnxruntime"
        )
    opset = re.search(r"Opset (\d+) is under development.*till opset (\d+)", text)
    if opset:
        return InvalidModel(
            f"{what} uses operator set {opset[1]}, {runtime} runs up to {opset[2]}; export it with an operator set of "
            f"at most {opset[2]}, or install a newer onnxruntime"
        )
    return InvalidModel(f"{runtime} cannot run {what}: {text}")


def _without_running(
    model: Model, feeds: Feeds, outputs: Sequence[str] | None
) -> tuple[dict[str, Array], list[str]]:
    """Return what is known without a session (inputs and constants asked for by name), and the names left."""
    if outputs is None:
        return {}, [tensor.name for tensor in model.outputs]
    tensors = {tensor.name: tensor for node in model.graph.nodes for tensor in node.outputs}
    declared = {tensor.name for tensor in model.outputs}
    ready: dict[str, Array] = {}
    wanted: list[str] = []
    for name in outputs:
        if name in declared or (name in tensors and constant_value(tensors[name]) is None):
            wanted.append(name)
        elif name in tensors:
            ready[name] = np.asarray(constant_value(tensors[name]))
        elif name in feeds:
            ready[name] = np.asarray(feeds[name])
        elif name in model.graph.initializers:
            ready[name] = model.weights[name]
        else:
            close = get_close_matches(name, [*tensors, *model.weights], n=3)
            raise InvalidModel(
                f"the model has no tensor {name!r} in its main graph"
                + (f"; did you mean {', '.join(close)}?" if close else "; see the names in `inspect`")
            )
    return ready, list(dict.fromkeys(wanted))


def flat(name: str, value: object) -> Iterator[tuple[str, Array]]:
    """Yield one output as arrays by name: `name[0]`, ... for a sequence, `name[key]` for a map, nothing for None."""
    if isinstance(value, np.ndarray):
        yield name, value
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from flat(f"{name}[{index}]", item)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from flat(f"{name}[{key}]", item)
    elif value is not None:
        yield name, np.asarray(value)


def _run_by_pointer(
    started: "ort.InferenceSession", feeds: Feeds, names: list[str]
) -> Iterator[tuple[str, Array]]:
    """Run with element types numpy has no name for: bytes go in and come out under the type number."""
    import onnxruntime as ort

    kinds = {argument.name: argument.type for argument in started.get_inputs()}
    given = {}
    for name, value in feeds.items():
        array = np.ascontiguousarray(value)
        if any(label in kinds[name] for label in _UNNAMED):
            plain = array.view(np.dtype(f"u{array.dtype.itemsize}"))
            given[name] = ort.OrtValue.ortvalue_from_numpy_with_onnx_type(
                plain, numpy_dtype_to_onnx(array.dtype)
            )
        else:
            given[name] = ort.OrtValue.ortvalue_from_numpy(array)
    for name, value in zip(names, started.run_with_ort_values(names, given), strict=True):
        if value.is_tensor() and any(label in value.data_type() for label in _UNNAMED):
            dtype = onnx_dtype_to_numpy(value.element_type())
            raw = (
                ctypes.string_at(value.data_ptr(), value.tensor_size_in_bytes())
                if value.tensor_size_in_bytes()
                else b""
            )
            yield name, np.frombuffer(raw, dtype=dtype).reshape(value.shape())
        else:
            yield from flat(name, value.numpy())
