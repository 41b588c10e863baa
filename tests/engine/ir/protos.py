"""Protos for the tests of the model: short forms to write them, onnx's own test models, and what "the same" means."""

import warnings
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import (
    FunctionProto,
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
    ValueInfoProto,
    helper,
    numpy_helper,
)

Array = npt.NDArray[np.generic]
Dims = Sequence[int | str | None] | None

node = helper.make_node


def info(name: str, dims: Dims = (2,), kind: int = TensorProto.FLOAT) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, dims)


def tensor(name: str, values: npt.ArrayLike, dtype: npt.DTypeLike = np.float32) -> TensorProto:
    return numpy_helper.from_array(np.asarray(values, dtype=dtype), name)


def graph(
    nodes: Sequence[NodeProto],
    inputs: Sequence[ValueInfoProto] = (),
    outputs: Sequence[ValueInfoProto] = (),
    initializers: Sequence[TensorProto] = (),
    doc_string: str | None = None,
    value_info: Sequence[ValueInfoProto] = (),
) -> GraphProto:
    return helper.make_graph(
        list(nodes), "g", list(inputs), list(outputs), list(initializers), doc_string, list(value_info)
    )


def model(
    nodes: Sequence[NodeProto],
    inputs: Sequence[ValueInfoProto] = (),
    outputs: Sequence[ValueInfoProto] = (),
    initializers: Sequence[TensorProto] = (),
    opset: int = 21,
    ir_version: int = 10,
    functions: Sequence[FunctionProto] = (),
    domains: Sequence[str] = (),
) -> ModelProto:
    return helper.make_model(
        graph(nodes, inputs, outputs, initializers),
        opset_imports=[
            helper.make_opsetid("", opset),
            *(helper.make_opsetid(domain, 1) for domain in domains),
        ],
        functions=list(functions),
        ir_version=ir_version,
    )


def canonical(proto: ModelProto) -> ModelProto:
    """Return a copy whose value infos are in order of name, at every depth: their order means nothing."""
    copy = ModelProto()
    copy.CopyFrom(proto)
    graphs = [copy.graph]
    while graphs:
        current = graphs.pop()
        infos = sorted(current.value_info, key=lambda item: item.name)
        current.ClearField("value_info")
        current.value_info.extend(infos)
        for each in current.node:
            for attribute in each.attribute:
                graphs += [attribute.g] if attribute.HasField("g") else []
                graphs += attribute.graphs
    return copy


def same(one: ModelProto, two: ModelProto) -> bool:
    return bool(canonical(one) == canonical(two))


@cache
def backend_cases() -> tuple[tuple[str, ModelProto, Sequence[tuple[Sequence[Array], Sequence[Array]]]], ...]:
    """Return (name, model, (inputs, outputs) of each data set) of the node tests that onnx generates; 5 seconds."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = collect_testcases(None)
    return tuple((case.name, case.model, case.data_sets or ()) for case in cases if case.model is not None)


def backend_files() -> list[Path]:
    """Return the model files that the onnx package ships with its tests."""
    return sorted((Path(onnx.__file__).parent / "backend" / "test" / "data").rglob("*.onnx"))


def data_of(path: Path) -> Iterator[list[Array]]:
    """Yield the input arrays of each data set that lies beside a shipped model."""
    for folder in sorted(path.parent.glob("test_data_set_*")):
        arrays = []
        for file in sorted(folder.glob("input_*.pb"), key=lambda found: int(found.stem.split("_")[1])):
            read = TensorProto()
            read.ParseFromString(file.read_bytes())
            arrays.append(numpy_helper.to_array(read))
        yield arrays
