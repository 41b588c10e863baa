"""The onnx package's operator examples as models: as they are, with constants for inputs, with symbolic sizes."""

import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.backend.test.case.node import collect_testcases

from graphrewrite.ir import Model, ShapeInfo
from tests.engine.ir.shapes.agreement import Array

Form = Literal["plain", "small constants", "all constants", "symbolic"]

# Longer inputs stay inputs; shape-like inputs (targets, axes, pads, scales) are shorter.
_SMALL = 64
_SHORT = 8


@dataclass(frozen=True)
class Case:
    """A model without declared output shapes, and inputs for it where its sizes are static."""

    name: str
    proto: onnx.ModelProto
    feeds: Mapping[str, Array]


def cases(form: Form, pattern: str = "") -> Iterator[Case]:
    """Yield the examples whose name fits the pattern, in the given form."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        found = collect_testcases(None)
    for case in found:
        if not re.search(pattern, case.name) or not case.data_sets:
            continue
        given: list[object] = list(case.data_sets[0][0])
        values = [np.asarray(value) for value in given if isinstance(value, (np.ndarray, np.generic))]
        if case.model is None or len(values) < len(given) or any(value.dtype == object for value in values):
            continue  # sequences, optionals and strings have no sizes to compare
        yield _in_form(case.name, case.model, values, form)


def _in_form(name: str, model: onnx.ModelProto, values: list[Array], form: Form) -> Case:
    proto = onnx.ModelProto()
    proto.CopyFrom(model)
    for output in proto.graph.output:
        if output.type.HasField("tensor_type"):
            output.type.tensor_type.ClearField("shape")
    inputs = list(zip(list(proto.graph.input), values, strict=False))
    del proto.graph.input[:]
    feeds: dict[str, Array] = {}
    for position, (info, value) in enumerate(inputs):
        small = value.size <= _SMALL and value.dtype.kind in "iub" or value.size <= _SHORT
        constant = form == "all constants" and value.size <= 4096 or form == "small constants" and small
        if constant or (form == "symbolic" and small and position > 0):
            proto.graph.initializer.append(numpy_helper.from_array(value, info.name))
            continue
        # A kernel as large as an image proves little and takes seconds.
        kernel = position > 0 and any("Conv" in node.op_type for node in proto.graph.node)
        if form == "symbolic" and not kernel:
            for dim in info.type.tensor_type.shape.dim:
                if dim.dim_value > 1:
                    dim.dim_param = f"s{dim.dim_value}"  # equal sizes may have to be equal: one symbol
        proto.graph.input.append(info)
        feeds[info.name] = value
    return Case(name, proto, feeds)


def invented(model: Model, info: ShapeInfo, world: int) -> dict[str, Array]:
    """Return random inputs with the sizes of a sample world."""
    rng = np.random.default_rng(0)
    shapes = info.sample_shapes(world)
    feeds: dict[str, Array] = {}
    for tensor in model.inputs:
        dtype = np.dtype(tensor.dtype)
        numbers = rng.random(shapes[tensor.name]) if dtype.kind == "f" else np.ones(shapes[tensor.name])
        feeds[tensor.name] = np.asarray(numbers).astype(dtype)
    return feeds
