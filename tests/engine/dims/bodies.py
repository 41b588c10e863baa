"""Models written down as text, bodies included; weights are declared there and filled with random numbers."""

import zlib
from collections.abc import Iterator, Mapping

import numpy as np
import onnx
from onnx import GraphProto, helper, numpy_helper, parser

from graphrewrite import cost
from graphrewrite.dims import groups
from graphrewrite.ir import Model
from tests.engine.dims.cases import described, prove
from tests.support.verdict import model_faults


def filled(graph: str, opset: int = 17) -> Model:
    """Return the model of a graph in onnx's text form.

    What a graph declares among its tensors and nobody makes is a weight: it gets normal numbers, seeded by its name,
    that keep the variance of what they multiply.
    """
    proto = parser.parse_model(f'<ir_version: 8, opset_import: ["": {opset}]> {graph}')
    for nested in _graphs(proto.graph):
        made = {name for node in nested.node for name in node.output}
        made.update(tensor.name for tensor in nested.initializer)
        for info in list(nested.value_info):
            if info.name not in made:
                nested.value_info.remove(info)
                nested.initializer.append(_weight(info))
    return Model.from_proto(proto)


def _weight(info: onnx.ValueInfoProto) -> onnx.TensorProto:
    shape = [dim.dim_value for dim in info.type.tensor_type.shape.dim]
    dtype = helper.tensor_dtype_to_np_dtype(info.type.tensor_type.elem_type)
    rng = np.random.default_rng(zlib.crc32(info.name.encode()))
    numbers = rng.standard_normal(shape) * (1.5 / (shape[-1] if shape else 1)) ** 0.5
    return numpy_helper.from_array(numbers.astype(dtype), info.name)


def _graphs(graph: GraphProto) -> Iterator[GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _graphs(attribute.g)


def demand(model: Model, *expect: str, pins: Mapping[str, str] | None = None) -> None:
    """Check the groups, the reasons of pins, the counts, and random cuts of a model."""
    found = groups(model)
    assert described(found) == sorted(expect), found.pinned
    reasons = {name.split(" ")[0]: reason for name, reason in found.pinned.items()}
    for place, part in (pins or {}).items():
        assert part in reasons.get(place, ""), (
            f"{place} is pinned because {reasons.get(place)!r}, not {part!r}"
        )
    assert found.macs() == cost.of(found.analysis.model).macs
    assert not model_faults(model, 0, budget=False)
    assert prove(model, found) or not expect
