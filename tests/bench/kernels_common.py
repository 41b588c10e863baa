"""What the benches of the custom operators share: rivals timed in turns, layers in a chain, caches made cold.

Times are taken while nobody else wants a core: on one thread CPU seconds of that thread, on more wall seconds. Threads
of a session spin while a run lasts, never between runs. A layer's time inside a network is the slope between a session
of one layer and one of five.
"""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from statistics import median

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper

from graphrewrite import custom_ops
from graphrewrite.ir import Array
from tests.bench.alone import Patience

Layer = tuple[onnx.NodeProto, Mapping[str, Array]]  # a node, and its constants by name
Maker = Callable[[int, str, str], Layer]  # given a number and the names of its input and output

# Kernel size, channels in and out, size of the picture: the four stages of a residual net.
CONVOLUTIONS = tuple((k, c, size) for k in (3, 1) for c, size in ((64, 56), (128, 28), (256, 14), (512, 7)))
MATRICES = ((4096, 4096), (1024, 1024), (768, 3072))  # inputs, outputs
LAYERS = 5  # of the longer chain
OPSET = 18
_EVICTED = 96 << 20  # bytes: more than the last cache holds


def options_of(doc: str | None, rounds: int) -> argparse.ArgumentParser:
    """Return the options all these benches have: `--rounds` and `--threads`."""
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--threads", type=int, default=1, help="of every session, ours and the rivals'")
    return parser


def row(cells: Sequence[str]) -> str:
    """Return a line of a Markdown table."""
    return "| " + " | ".join(cells) + " |"


def head(cells: Sequence[str]) -> list[str]:
    """Return the first two lines of a Markdown table."""
    return [row(cells), "|---" * len(cells) + "|"]


def told(ratio: float, must: float = 0.0, digits: int = 1) -> str:
    """Return a ratio as text, in bold where it is below what it must be."""
    text = f"{ratio:.{digits}f}"
    return text if ratio >= must else f"**{text}**"


def us(seconds: float) -> str:
    """Return seconds as whole microseconds."""
    return f"{seconds * 1e6:.0f}"


def clock(threads: int) -> Callable[[], int]:
    """Return the clock in nanoseconds for sessions of so many threads."""
    return time.thread_time_ns if threads == 1 else time.perf_counter_ns


def middle_of(threads: int) -> Callable[[Sequence[float]], float]:
    """Return what sums up measurements: the median of CPU times, the least of wall times, to which others only add."""
    return median if threads == 1 else min


def in_turns(
    rivals: Mapping[str, Callable[[], object]], rounds: int, cold: bool = False, threads: int = 1
) -> dict[str, float]:
    """Return the seconds of each rival's call (`middle_of`), in turns; `cold` empties the caches before each.

    A call of a model of one node then brings the code of Python and onnxruntime back, which is warm in a network too.
    """
    now = clock(threads)
    spent: dict[str, list[float]] = {name: [] for name in rivals}
    evict = _evictor(threads) if cold else None
    small = _small_call()
    for run in rivals.values():
        run()

    def once(run: Callable[[], object]) -> float:
        if evict is None:
            run()  # so that it finds its own data in the cache, not those of the rival before
        else:
            evict()
            small()
        start = now()
        run()
        return (now() - start) * 1e-9

    patience = Patience()
    for _ in range(rounds):
        for name, run in rivals.items():
            spent[name].append(patience.alone(partial(once, run)))
    return {name: middle_of(threads)(values) for name, values in spent.items()}


def _evictor(threads: int) -> Callable[[], object]:
    """Return a call that fills the caches of so many cores with something else."""
    other = np.ones(_EVICTED // 8)
    if threads == 1:
        return other.sum
    pool = ThreadPoolExecutor(threads)
    return lambda: list(pool.map(np.sum, [other] * threads))


def read_rate(threads: int) -> float:
    """Return the bytes a second at which so many threads add up numbers that fit into no cache; the best of some."""
    parts = np.split(np.ones(_EVICTED // 8), threads)
    best = float("inf")
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(31):
            start = time.perf_counter()
            list(pool.map(np.sum, parts))
            best = min(best, time.perf_counter() - start)
    return _EVICTED / best


def _small_call() -> Callable[[], object]:
    x = np.ones((1, 16), np.float32)
    return call(
        chained(x, 1, lambda number, a, b: (helper.make_node("MatMul", [a, "w"], [b]), {"w": x.T @ x})), x
    )


def in_a_network(
    makers: Mapping[str, tuple[Array, Maker]], rounds: int, cold: bool = False, threads: int = 1
) -> dict[str, float]:
    """Return the seconds that one layer of each maker adds to a network fed with its array.

    Layers follow each other, data still in the caches; with `cold` they lie side by side after the caches were emptied,
    so that weights come from memory, while what a session costs once does not count.
    """
    model = abreast if cold else chained
    calls = {
        name: [call(model(x, count, maker), x, threads) for count in (1, LAYERS)]
        for name, (x, maker) in makers.items()
    }
    return slopes(calls, rounds, cold, threads)


def slopes(
    rivals: Mapping[str, Sequence[Callable[[], object]]], rounds: int, cold: bool = False, threads: int = 1
) -> dict[str, float]:
    """Return the seconds that one layer of each rival adds, given calls of one layer and of `LAYERS`."""
    calls = {f"{name}/{i}": run for name, pair in rivals.items() for i, run in enumerate(pair)}
    spent = in_turns(calls, rounds, cold, threads)
    return {name: (spent[f"{name}/1"] - spent[f"{name}/0"]) / (LAYERS - 1) for name in rivals}


def session(model: onnx.ModelProto, threads: int = 1) -> ort.InferenceSession:
    """Start a model with our kernels on so many threads, which sleep once a run is over: other rivals' runs follow."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.force_spinning_stop", "1")
    custom_ops.register(options)
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def call(model: onnx.ModelProto, x: Array, threads: int = 1) -> Callable[[], object]:
    """Return a call of a model whose one input is `x`; outputs are left where the session puts them."""
    started = session(model, threads)
    value = ort.OrtValue.ortvalue_from_numpy(x)
    outputs = [output.name for output in started.get_outputs()]
    return lambda: started.run_with_ort_values(outputs, {"x": value})


def ours(
    op: str,
    x: str,
    y: str,
    number: int,
    constants: Mapping[str, Array],
    attributes: Mapping[str, int | Sequence[int]],
) -> Layer:
    """Return a layer of one of our operators; constants are in the order of its inputs."""
    named = {f"{name}{number}": value for name, value in constants.items()}
    filled = custom_ops.find(op).filled(attributes)
    node = helper.make_node(op, [x, *named], [y], domain=custom_ops.DOMAIN, **filled)  # type: ignore[arg-type]
    return node, named


def square(channels: int, kernel: int) -> dict[str, int | Sequence[int]]:
    """Return attributes of a convolution over blocks that keeps the number of channels and the size."""
    sizes = {"kernel_shape": [kernel] * 2, "pads": [kernel // 2] * 4}
    return {"in_channels": channels, "out_channels": channels, **sizes}


def abreast(x: Array, layers: int, layer: Maker) -> onnx.ModelProto:
    """Return a model of `layers` layers that all read the input, as `chained` otherwise."""
    return _model(x, layers, layer, chain=False)


def chained(x: Array, layers: int, layer: Maker) -> onnx.ModelProto:
    """Return a model of `layers` layers one after the other.

    `layer` is given a number and the names of its input and output, and returns a node and its constants by name.
    """
    return _model(x, layers, layer, chain=True)


def _model(x: Array, layers: int, layer: Maker, chain: bool) -> onnx.ModelProto:
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
