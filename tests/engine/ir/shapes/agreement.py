"""Compare what `infer` says with what onnxruntime computes: every tensor of the main graph, both sample worlds."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort

from graphrewrite.ir import Model

Array = npt.NDArray[np.generic]


class Told(Protocol):
    """The part of `ShapeInfo` that is compared."""

    def sizes(self, name: str, world: int = 0) -> tuple[int, ...] | None: ...

    def dtype(self, name: str) -> np.dtype[np.generic] | None: ...

    def numbers(self, name: str, world: int = 0) -> Array | None: ...


@dataclass
class Agreement:
    """What a comparison found; `wrong` must stay empty, `unknown` is what the inference could not tell."""

    tensors: int = 0
    unknown: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    values: int = 0

    def add(self, other: "Agreement") -> None:
        self.tensors += other.tensors
        self.values += other.values
        self.unknown += other.unknown
        self.wrong += other.wrong


def all_tensors(proto: onnx.ModelProto, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Run a model with every node output of the main graph as an output, optimiser off."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    present = {output.name for output in copy.graph.output}
    for node in copy.graph.node:
        for name in node.output:
            if name and name not in present:
                present.add(name)
                copy.graph.output.add(name=name)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = ort.InferenceSession(copy.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    wanted = {entry.name for entry in session.get_inputs()}
    results = session.run(names, {name: array for name, array in feeds.items() if name in wanted})
    return {
        name: result for name, result in zip(names, results, strict=True) if isinstance(result, np.ndarray)
    }


def compare(model: Model, info: Told, actual: Mapping[str, Array], world: int) -> Agreement:
    """Compare sizes, types and values of one world with arrays by tensor name."""
    found = Agreement()
    # Half precision is rounded after every operation, in one order or another.
    half = any(array.dtype.itemsize == 2 and array.dtype.kind in "fV" for array in actual.values())
    rtol = 1e-2 if half else 1e-5
    for name, array in actual.items():
        found.tensors += 1
        sizes = info.sizes(name, world)
        if sizes is None:
            found.unknown.append(name)
        elif sizes != array.shape:
            found.wrong.append(f"{name}: shape {sizes}, really {array.shape}")
        dtype = info.dtype(name)
        if dtype is not None and dtype != array.dtype and array.dtype != object:
            found.wrong.append(f"{name}: type {dtype}, really {array.dtype}")
        value = info.numbers(name, world)
        if value is not None:
            found.values += 1
            if value.shape != array.shape or not _same(value, array, rtol):
                found.wrong.append(f"{name}: value {value.reshape(-1)[:6]}, really {array.reshape(-1)[:6]}")
    return found


def _same(value: Array, array: Array, rtol: float) -> bool:
    if array.dtype.kind not in "fiub" or value.dtype.kind not in "fiub":
        return True
    return bool(
        np.allclose(value.astype(np.float64), array.astype(np.float64), rtol=rtol, atol=1e-6, equal_nan=True)
    )
