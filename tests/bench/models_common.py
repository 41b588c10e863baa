"""What the benches of whole models share: selves of a model timed in turns, onnxruntime's own int8 selves."""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from graphrewrite.ir import Builder, Model
from graphrewrite.runtime import Feeds, sample_inputs
from tests.bench.alone import Patience
from tests.bench.common import Spent, middle, timed
from tests.bench.kernels_common import session


def measure(models: Mapping[str, Model], rounds: int, threads: int) -> dict[str, Spent]:
    """Return the wall and CPU seconds of a run of each, in turns: the median on one thread, on more the shortest run's.

    CPU seconds are those of all threads, which spin while they wait for each other.
    """
    calls: dict[str, Callable[[], object]] = {
        name: partial(session(each.to_proto(), threads).run, None, sample_inputs(each))
        for name, each in models.items()
    }
    spent: dict[str, list[Spent]] = {name: [] for name in calls}
    patience = Patience()
    for number in range(rounds + 1):
        for name, call in calls.items():
            took = patience.alone(partial(timed, call))[1]
            if number:
                spent[name].append(took)
    if threads == 1:
        return {name: middle(values) for name, values in spent.items()}
    return {name: min(values, key=lambda took: took.wall) for name, values in spent.items()}


def times(rival: Spent, own: Spent, threads: int) -> float:
    """Return how many times as long a rival takes: CPU time on one thread, on more wall clock."""
    return rival.cpu / own.cpu if threads == 1 else rival.wall / own.wall


def cell(spent: Mapping[str, Spent], name: str, threads: int) -> str:
    """Return wall and CPU milliseconds of one self, and how many times as long fp32 takes; "-" without such a self."""
    if name not in spent:
        return "-"
    took = spent[name]
    gain = "" if name == "fp32" else f", {times(spent['fp32'], took, threads):.1f}x"
    return f"{took.wall * 1e3:.2f} ({took.cpu * 1e3:.2f}{gain})"


class _Samples(CalibrationDataReader):
    def __init__(self, samples: Sequence[Feeds]) -> None:
        self._left: Iterator[Feeds] = iter(samples)

    def get_next(self) -> Feeds | None:
        return next(self._left, None)


def statically_int8(
    model: Model, samples: Sequence[Feeds] = (), weights: QuantType = QuantType.QInt8
) -> Model:
    """Return what onnxruntime's static quantisation makes of it, per channel and of two random samples unless told."""
    read = samples or [sample_inputs(model, seed) for seed in range(2)]

    def quantise(source: Path, target: Path) -> None:
        types = {"activation_type": QuantType.QUInt8, "weight_type": weights}
        quantize_static(source, target, _Samples(read), per_channel=True, **types)

    return _through_files(model, quantise)


def dynamically_int8(model: Model) -> Model:
    """Return what onnxruntime's dynamic quantisation makes of a model: int8 weights, inputs rounded inside."""
    return _through_files(model, partial(quantize_dynamic, weight_type=QuantType.QInt8))


def prepared(model: Model) -> Model:
    """Return what onnxruntime advises to quantise in the place of a model: its shapes known, its norms folded."""
    return _through_files(model, partial(quant_pre_process, skip_symbolic_shape=True))  # which fails on some


def _through_files(model: Model, quantise: Callable[[Path, Path], object]) -> Model:
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        model.save(source)
        quantise(source, target)
        return Model.from_proto(onnx.load(target))


def recurrent(op: str, width: int, steps: int) -> Model:
    """Return a GRU or LSTM over so many steps of one sequence."""
    b = Builder(opset=17, seed=1)
    gates = {"GRU": 3, "LSTM": 4}[op] * width
    x = b.input([steps, 1, width], "x")
    biases = b.constant((0.1 * b.rng.standard_normal((1, 2 * gates))).astype(np.float32))
    weights = [b.weight(1, gates, width) for _ in range(2)]
    return b.model(b.op(op, x, *weights, biases, name="cell", hidden_size=width))
