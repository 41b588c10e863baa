"""What a model is and costs: the facts `inspect` prints, as dataclasses that turn into JSON as they stand."""

import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import onnx
import onnx_graphsurgeon as gs

from graphrewrite import cost
from graphrewrite.cli.files import data_files, sha256
from graphrewrite.ir import Builder, Model
from graphrewrite.ir.domains import domain_name
from graphrewrite.ir.edit import all_graphs
from graphrewrite.ir.shapes import ShapeInfo, infer
from graphrewrite.pipeline.base import Json

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


@dataclass(frozen=True)
class FileFacts:
    """Where a model came from; `bytes` counts its external data files, `sha256` is of the model file alone."""

    path: str
    bytes: int
    sha256: str
    external_data: dict[str, int]


@dataclass(frozen=True)
class TensorFacts:
    """An input or output as it is declared; `shape` is None, or an entry of it, where the model does not say."""

    name: str
    type: str
    shape: tuple[int | str | None, ...] | None


@dataclass(frozen=True)
class OperatorFacts:
    """One operator type: its nodes, and what those in the main graph cost for one sample."""

    op: str
    nodes: int
    macs: int
    params: int


@dataclass(frozen=True)
class Facts:
    """Format, inputs and outputs, operators and costs of a model.

    `macs` and the activation bytes are for one sample: the figures at `sizes` divided by `batch`, which is 1 where the
    model fixes its batch. Their totals leave out the nodes in `no_cost_rule` (operator -> nodes) and `unsized`;
    `estimates` (node -> reason) are in the totals.
    """

    opset: int
    opsets: dict[str, int]
    ir_version: int
    producer: str
    producer_version: str
    doc: str
    inputs: tuple[TensorFacts, ...]
    outputs: tuple[TensorFacts, ...]
    nodes: int
    nodes_in_subgraphs: int
    initializers: int
    functions: tuple[str, ...]
    macs: int
    params: int
    weight_bytes: int
    activation_bytes: int
    peak_activation_bytes: int
    batch: int
    sizes: dict[str, tuple[int, ...]]
    operators: tuple[OperatorFacts, ...]
    no_cost_rule: dict[str, tuple[str, ...]]
    unsized: tuple[str, ...]
    estimates: dict[str, str]
    metadata: dict[str, str]


def describe(model: Model, info: ShapeInfo | None = None) -> Facts:
    """Collect the facts of a model; `info` saves inferring shapes again."""
    table = cost.of(model, info or infer(model))
    header = _header(model)
    every = [node for graph in all_graphs(model.graph) for node in graph.nodes]
    return Facts(
        opset=model.opset,
        opsets={domain or "ai.onnx": version for domain, version in model.opsets.items()},
        ir_version=model.ir_version,
        producer=header.producer_name,
        producer_version=header.producer_version,
        doc=header.doc_string,
        inputs=tuple(map(_declared, model.inputs)),
        outputs=tuple(map(_declared, model.outputs)),
        nodes=len(model.graph.nodes),
        nodes_in_subgraphs=len(every) - len(model.graph.nodes),
        initializers=len(model.weights),
        functions=tuple(f"{entry.domain}.{entry.name}" for entry in model.functions),
        macs=table.per_sample("macs"),
        params=table.params,
        weight_bytes=table.weight_bytes,
        activation_bytes=table.per_sample("activation_bytes"),
        peak_activation_bytes=table.per_sample("peak_bytes"),
        batch=table.batch,
        sizes=dict(table.inputs),
        operators=_operators(every, table),
        no_cost_rule=dict(table.unknown),
        unsized=table.unsized,
        estimates=dict(table.notes()),
        metadata=dict(model.metadata),
    )


def describe_file(path: str | os.PathLike[str], model: Model) -> FileFacts:
    """Describe the file that `model` was loaded from."""
    file = Path(path)
    beside = {entry.name: entry.stat().st_size for entry in data_files(model)}
    return FileFacts(str(path), file.stat().st_size + sum(beside.values()), sha256(file), beside)


def as_json(facts: "DataclassInstance") -> dict[str, Json]:
    """Return a dataclass of plain values as a JSON object, field by field."""
    return cast(dict[str, Json], asdict(facts))


def _declared(tensor: gs.Tensor) -> TensorFacts:
    kind = getattr(tensor, "type", "tensor_type")
    dtype = str(tensor.dtype) if tensor.dtype is not None else "?"
    shape = None
    if tensor.shape is not None:
        shape = tuple(
            entry if isinstance(entry, (int, str)) and entry != "" else None for entry in tensor.shape
        )
    return TensorFacts(tensor.name, dtype if kind == "tensor_type" else kind.removesuffix("_type"), shape)


def _operators(nodes: Iterable[gs.Node], table: cost.CostTable) -> tuple[OperatorFacts, ...]:
    counts: dict[str, int] = {}
    for node in nodes:
        name = node.op if not domain_name(node.domain) else f"{node.domain}.{node.op}"
        counts[name] = counts.get(name, 0) + 1
    macs, params = table.by_op("macs"), table.by_op("params")
    rows = [
        OperatorFacts(name, number, round(macs.get(name, 0) / table.batch), params.get(name, 0))
        for name, number in counts.items()
    ]
    return tuple(sorted(rows, key=lambda row: (-row.macs, -row.nodes, row.op)))


def _header(model: Model) -> onnx.ModelProto:
    """Return the model's proto without graph and functions."""
    shell = model.clone()
    shell.graph, shell.functions = Builder().graph, []
    return shell.to_proto()
