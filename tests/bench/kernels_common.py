"""What the benches of the custom operators share: rivals timed in turns, layers in a chain, caches made cold.

Times are CPU seconds of the calling thread, so that other work on the machine does not count; sessions have one thread
and do not spin. A layer's time inside a network is the slope between a session of one layer and one of five.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper

from graphrewrite import custom_ops
from graphrewrite.ir import Array

# Given a number and the names of its input and output: a node, and its constants by name.
MakesLayer = Callable[[int, str, str], tuple[onnx.NodeProto, Mapping[str, Array]]]

LAYERS = 5  # of the longer chain
OPSET = 18
_EVICTED = 96 << 20  # bytes: more than the last cache holds


def in_turns(rivals: Mapping[str, Callable[[], object]], rounds: int, cold: bool = False) -> dict[str, float]:
    """Return the median CPU seconds of each rival's call, all measured in turns; `cold` empties the caches before each.

    A call of a model of one node then brings the code of Python and onnxruntime back, which is warm in a network too.
    """
    spent: dict[str, list[float]] = {name: [] for name in rivals}
    other = np.ones(_EVICTED // 8) if cold else None
    small = _small_call()
    for run in rivals.values():
        run()
    for _ in range(rounds):
        for name, run in rivals.items():
            if other is None:
                run()  # so that it finds its own data in the cache, not those of the rival before
            else:
                other.sum()
                small()
            start = time.thread_time_ns()
            run()
            spent[name].append((time.thread_time_ns() - start) * 1e-9)
    return {name: median(values) for name, values in spent.items()}


def _small_call() -> Callable[[], object]:
    x = np.ones((1, 16), np.float32)
    return call(
        chained(x, 1, lambda number, a, b: (helper.make_node("MatMul", [a, "w"], [b]), {"w": x.T @ x})), x
    )


def in_a_chain(
    rivals: Mapping[str, Sequence[Callable[[], object]]], rounds: int, cold: bool = False
) -> dict[str, float]:
    """Return what one layer of each rival adds to a network, given calls of one layer and of `LAYERS`.

    With `cold` its weights come from memory, while what a session costs once does not count.
    """
    calls = {(name, i): run for name, pair in rivals.items() for i, run in enumerate(pair)}
    spent = in_turns({f"{name}/{i}": run for (name, i), run in calls.items()}, rounds, cold)
    return {name: (spent[f"{name}/1"] - spent[f"{name}/0"]) / (LAYERS - 1) for name in rivals}


def session(model: onnx.ModelProto, kernels: bool = True, threads: int = 1) -> ort.InferenceSession:
    """Start a model as a user would, on so many threads."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if kernels:
        custom_ops.register(options)
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def call(model: onnx.ModelProto, x: Array, kernels: bool = True, threads: int = 1) -> Callable[[], object]:
    """Return a call of a model whose one input is `x`; outputs are left where the session puts them."""
    started = session(model, kernels, threads)
    value = ort.OrtValue.ortvalue_from_numpy(x)
    outputs = [output.name for output in started.get_outputs()]
    return lambda: started.run_with_ort_values(outputs, {"x": value})


def abreast(x: Array, layers: int, layer: MakesLayer) -> onnx.ModelProto:
    """Return a model of `layers` layers that all read the input, as `chained` otherwise."""
    return _model(x, layers, layer, chain=False)


def chained(x: Array, layers: int, layer: MakesLayer) -> onnx.ModelProto:
    """Return a model of `layers` layers one after the other.

    `layer` is given a number and the names of its input and output, and returns a node and its constants by name.
    """
    return _model(x, layers, layer, chain=True)


def _model(x: Array, layers: int, layer: MakesLayer, chain: bool) -> onnx.ModelProto:
    constants: dict[str, Array] = {}
    nodes, name = [], "x"
    outputs = [f"y{number}" for number in range(layers)]
    for number, output in enumerate(outputs):
        node, its_constants = layer(number, name, output)
        nodes.append(node)
        constants.update(its_constants)
        name = output if chain else name
    kind = helper.np_dtype_to_tensor_dtype(x.dtype)
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("x", kind, x.shape)],
        [
            helper.make_tensor_value_info(y, kind, [None] * x.ndim)
            for y in (outputs[-1:] if chain else outputs)
        ],
        [onnx.numpy_helper.from_array(np.ascontiguousarray(value), key) for key, value in constants.items()],
    )
    # Without function bodies: where a kernel is missing, this must not measure onnxruntime's own operators.
    return helper.make_model(
        graph,
        opset_imports=[
            helper.make_opsetid("", OPSET),
            helper.make_opsetid(custom_ops.DOMAIN, custom_ops.VERSION),
        ],
        ir_version=9,
    )
