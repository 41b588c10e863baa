"""Sequences and optionals, as parts of graphs and as their inputs and outputs."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from graphrewrite.bridge import GraphModule
from graphrewrite.bridge.numbers import Fed
from graphrewrite.bridge.optable.sequence import erase, get_element, insert, split_to_sequence
from graphrewrite.errors import InvalidData
from graphrewrite.ir import Model
from tests.engine.bridge.backend import difference

X = np.arange(12, dtype=np.float32).reshape(6, 2)


def model_of(*nodes: onnx.NodeProto, outputs: tuple[str, ...] = ("y",), opset: int = 18) -> onnx.ModelProto:
    """Return a model of nodes that read x, with the positions 0, 1 and -1 at hand as n0, n1 and m1."""
    graph = helper.make_graph(
        list(nodes),
        "sequences",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2])],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [
            numpy_helper.from_array(np.array(value), name)
            for name, value in (("n0", 0), ("n1", 1), ("m1", -1))
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def node(op: str, reads: str, makes: str, **attributes: object) -> onnx.NodeProto:
    """Return a node given the names it reads and makes, with blanks between."""
    made = helper.make_node(op, reads.split(" ") if reads else [], makes.split(" "))
    made.attribute.extend(helper.make_attribute(name, value) for name, value in attributes.items())
    return made


@pytest.mark.parametrize(
    "nodes",
    [
        (node("SequenceConstruct", "x x x", "s"), node("ConcatFromSequence", "s", "y", axis=0)),
        (
            node("SplitToSequence", "x n1", "s", axis=1),
            node("ConcatFromSequence", "s", "y", axis=0, new_axis=1),
        ),
        (node("SplitToSequence", "x", "s", keepdims=0), node("SequenceAt", "s m1", "y")),
        (
            node("SequenceEmpty", "", "s0"),
            node("SequenceInsert", "s0 x", "s1"),
            node("Neg", "x", "z"),
            node("SequenceInsert", "s1 z n0", "s2"),
            node("SequenceInsert", "s2 z m1", "s3"),
            node("SequenceErase", "s3 n1", "s4"),
            node("ConcatFromSequence", "s4", "y", axis=-1, new_axis=1),
        ),
        (
            node("SplitToSequence", "x", "s"),
            node("SequenceErase", "s", "t"),
            node("SequenceLength", "t", "y"),
        ),
        (node("Optional", "x", "o"), node("OptionalHasElement", "o", "y")),
        (node("SequenceConstruct", "x x", "y"),),
    ],
)
def test_graphs_of_sequences(nodes: tuple[onnx.NodeProto, ...]) -> None:
    proto = model_of(*nodes)
    (wanted,) = ReferenceEvaluator(proto).run(None, {"x": X})
    found = GraphModule(Model.from_proto(proto)).run({"x": X})["y"]
    plain: Fed = list(wanted) if isinstance(wanted, list) else np.asarray(wanted)
    assert not difference(plain, found, 1e-6, 0)


def test_lists_are_not_written_into() -> None:
    two = [torch.zeros(1), torch.ones(1)]
    assert len(insert(two, torch.ones(2), -1)) == 3 and len(erase(two)) == 1 and len(two) == 2
    assert insert(two, torch.ones(2), -1)[1].shape == (2,)  # before the last, as positions count


def test_parts_of_a_size_that_does_not_divide() -> None:
    assert [len(part) for part in split_to_sequence(torch.zeros(5), 2)] == [2, 2, 1]
    assert [len(part) for part in split_to_sequence(torch.zeros(5), (4, 1))] == [4, 1]


def test_gradients_flow_through_sequences() -> None:
    proto = model_of(
        node("SplitToSequence", "x", "s"),
        node("SequenceAt", "s n1", "a"),
        node("SequenceConstruct", "a x a", "t"),
        node("ConcatFromSequence", "t", "y", axis=0),
    )
    x = torch.ones(3, 2, requires_grad=True)
    GraphModule(Model.from_proto(proto))(x).sum().backward()
    assert x.grad is not None and x.grad[:, 0].tolist() == [1, 3, 1]


def test_an_empty_optional_has_no_element() -> None:
    with pytest.raises(InvalidData, match="empty optional"):
        get_element(None)


def test_an_optional_is_what_it_holds() -> None:
    proto = model_of(node("Optional", "x", "o"), node("OptionalGetElement", "o", "y"), outputs=("o", "y"))
    found = GraphModule(Model.from_proto(proto)).run({"x": X})
    assert not difference(X, found["o"], 0, 0) and not difference(X, found["y"], 0, 0)


def test_the_length_of_a_sequence_is_known_without_reading_a_tensor() -> None:
    proto = model_of(
        node("SplitToSequence", "x", "s"),
        node("SequenceLength", "s", "n"),
        node("Sub", "n n1", "last"),
        node("SequenceAt", "s last", "y"),
    )
    module = GraphModule(Model.from_proto(proto))
    assert torch.equal(module(torch.tensor(X)), torch.tensor(X[-1:])) and "to_numbers" not in module.code
