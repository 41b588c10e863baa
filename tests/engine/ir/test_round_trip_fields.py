"""What a bare graph would lose on the way: each field that a model file can hold, one at a time."""

from collections.abc import Callable

import numpy as np
import pytest
from onnx import AttributeProto, ModelProto, TensorProto, helper

from graphrewrite.ir import Model
from tests.engine.ir.protos import graph, info, model, node, same, tensor

F, I64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def again(proto: ModelProto) -> ModelProto:
    """There and back, by way of bytes and of a clone."""
    parsed = ModelProto()
    parsed.ParseFromString(proto.SerializeToString())
    return Model.from_proto(parsed).clone().to_proto()


def identity() -> ModelProto:
    return model(
        [node("Identity", ["x"], ["h"], name="first"), node("Relu", ["h"], ["y"])], [info("x")], [info("y")]
    )


# ------------------------------------------------------------------------------------------ notes on everything


def metadata(proto: ModelProto) -> None:
    helper.set_model_props(proto, {"author": "someone", "Ünïcode": "ö", "empty": ""})


def provenance(proto: ModelProto) -> None:
    proto.producer_name, proto.producer_version, proto.domain, proto.model_version = (
        "maker",
        "1.2",
        "org.example",
        7,
    )


def doc_strings(proto: ModelProto) -> None:
    proto.doc_string = "of the model"
    proto.graph.doc_string = "of the graph\nin two lines"
    proto.graph.node[0].doc_string = "of the node"
    proto.graph.input[0].doc_string = "of the input"
    proto.graph.output[0].doc_string = "of the output"
    proto.graph.value_info.append(info("h"))
    proto.graph.value_info[0].doc_string = "of a tensor inside"
    proto.graph.initializer.append(tensor("w", range(3)))
    proto.graph.initializer[0].doc_string = "of a small weight"
    proto.graph.initializer.append(tensor("large", range(300)))
    proto.graph.initializer[1].doc_string = "of a large weight"
    for name, value in (("a", 1), ("b", [1.0]), ("c", tensor("t", range(300))), ("d", "text"), ("e", [])):
        attribute = helper.make_attribute(
            name, value, attr_type=AttributeProto.STRINGS if value == [] else None
        )
        attribute.doc_string = f"of the attribute {name}"
        proto.graph.node[0].attribute.append(attribute)


def metadata_props(proto: ModelProto) -> None:
    proto.graph.initializer.extend([tensor("w", range(3)), tensor("large", range(300))])
    proto.graph.value_info.append(info("h"))
    holders = [
        proto.graph,
        proto.graph.node[0],
        proto.graph.input[0],
        proto.graph.value_info[0],
        *proto.graph.initializer,
    ]
    for index, holder in enumerate(holders):
        holder.metadata_props.add(key="k", value=f"v{index}")


def node_devices(proto: ModelProto) -> None:
    configuration = proto.configuration.add(name="two")
    configuration.num_devices = 2
    proto.graph.node[0].device_configurations.add(configuration_id="two", pipeline_stage=1)


def quantization_annotation(proto: ModelProto) -> None:
    proto.graph.initializer.append(tensor("scale", [0.1]))
    note = proto.graph.quantization_annotation.add(tensor_name="h")
    note.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="scale")


def training_info(proto: ModelProto) -> None:
    step = proto.training_info.add()
    step.algorithm.CopyFrom(graph([node("Relu", ["x"], ["z"])], [], [info("z")], [tensor("w", range(300))]))
    step.initialization.CopyFrom(graph([], [], [info("w")], [tensor("w", [1, 2])]))
    step.update_binding.add(key="w", value="z")


def functions(proto: ModelProto) -> None:
    proto.opset_import.add(domain="my", version=1)
    opsets = [helper.make_opsetid("", 21)]
    inner = [node("Elu", ["a"], ["b"])]
    inner[0].attribute.append(AttributeProto(name="alpha", ref_attr_name="slope", type=AttributeProto.FLOAT))
    made = helper.make_function(
        "my",
        "F",
        ["a"],
        ["b"],
        inner,
        opsets,
        ["other"],
        [helper.make_attribute("slope", 0.5)],
        value_info=[info("b")],
    )
    made.doc_string = "of the function"
    made.metadata_props.add(key="k", value="v")
    proto.functions.append(made)
    proto.functions.append(made)
    proto.functions[1].overload = "second"
    proto.graph.node.append(node("F", ["x"], ["z"], domain="my", overload="second"))


def operator_sets(proto: ModelProto) -> None:
    proto.opset_import[0].domain = "ai.onnx"
    for domain in ("ai.onnx.ml", "com.microsoft", "of.nobody"):
        proto.opset_import.add(domain=domain, version=1)
    proto.graph.node[0].domain = "ai.onnx"


def custom_operator(proto: ModelProto) -> None:
    proto.opset_import.add(domain="of.nobody", version=3)
    proto.graph.node.append(
        node("Strange", ["x", "", "h"], ["", "z"], domain="of.nobody", name="s", secret=3)
    )


# ------------------------------------------------------------------------------------------------- attributes


def every_kind_of_attribute(proto: ModelProto) -> None:
    body = graph([node("Relu", ["h"], ["r"])], [], [info("r")])
    for name, value in {
        "int": -(2**62),
        "float": 0.1,
        "text": "grüße",
        "bytes": b"\xff\xfe\x00",
        "ints": [1, -1],
        "floats": [0.5, 2.0],
        "texts": ["a", "ü", b"\xff"],
        "tensor": tensor("t", [[1, 2]]),
        "large": tensor("t", range(300)),
        "sparse": helper.make_sparse_tensor(tensor("v", [1, 2]), tensor("i", [0, 3], np.int64), [5]),
        "graph": body,
        "graphs": [body, body],
        "type": helper.make_tensor_type_proto(F, ["N", 3]),
        "types": [helper.make_sequence_type_proto(helper.make_tensor_type_proto(F, None))],
        "tensors": [tensor("t", [1]), tensor("u", range(300))],
    }.items():
        proto.graph.node[0].attribute.append(helper.make_attribute(name, value))
    sparse = AttributeProto(name="sparse_tensors", type=AttributeProto.SPARSE_TENSORS)
    sparse.sparse_tensors.append(helper.make_sparse_tensor(tensor("v", [1]), tensor("i", [0], np.int64), [5]))
    proto.graph.node[0].attribute.append(sparse)


def empty_lists(proto: ModelProto) -> None:
    kinds = ("INTS", "FLOATS", "STRINGS", "TENSORS", "GRAPHS", "SPARSE_TENSORS", "TYPE_PROTOS")
    for name in kinds:
        proto.graph.node[0].attribute.append(
            AttributeProto(name=name, type=AttributeProto.AttributeType.Value(name))
        )


# -------------------------------------------------------------------------------------------- declared types


def denotations_and_unknown_sizes(proto: ModelProto) -> None:
    declared = proto.graph.input[0]
    declared.CopyFrom(info("x", ["batch", None, 3, 0, "h*2"]))
    declared.type.denotation = "IMAGE"
    declared.type.tensor_type.shape.dim[0].denotation = "DATA_BATCH"
    proto.graph.value_info.append(info("h", None))
    proto.graph.output[0].CopyFrom(info("y", []))


def half_declared(proto: ModelProto) -> None:
    proto.graph.value_info.append(info("h", [3, "N"], TensorProto.UNDEFINED))
    proto.graph.output[0].type.tensor_type.elem_type = 0


def infos_of_nothing(proto: ModelProto) -> None:
    """Exporters note tensors inside functions under names that no tensor of the graph has."""
    proto.graph.value_info.append(info("my::F/inner", ["N"]))


def sequences_maps_optionals(proto: ModelProto) -> None:
    inner = helper.make_tensor_type_proto(F, ["N"])
    types = {
        "seq": helper.make_sequence_type_proto(inner),
        "opt": helper.make_optional_type_proto(helper.make_sequence_type_proto(inner)),
        "map": helper.make_map_type_proto(I64, inner),
        "sparse": helper.make_sparse_tensor_type_proto(F, [3, None]),
    }
    for name, kind in types.items():
        proto.graph.input.append(helper.make_value_info(name, kind))
        proto.graph.node.append(node("Identity", [name], [f"{name}_inside"]))
        proto.graph.value_info.append(helper.make_value_info(f"{name}_inside", kind))
        proto.graph.node.append(node("Identity", [f"{name}_inside"], [f"{name}_out"]))
        proto.graph.output.append(helper.make_value_info(f"{name}_out", kind))


# ---------------------------------------------------------------------------------- who is input, who is output


def initializers_as_inputs(proto: ModelProto) -> None:
    proto.graph.initializer.extend([tensor("w", [1, 2]), tensor("v", [[1, 2]]), tensor("u", [1, 2, 3])])
    proto.graph.input.extend([info("w"), info("v", ["A", "B"]), info("u", None)])
    proto.graph.node.append(node("Add", ["x", "w"], ["z"]))


def old_file(proto: ModelProto) -> None:
    initializers_as_inputs(proto)
    proto.ir_version = 3
    proto.opset_import[0].version = 7


def unused_parts(proto: ModelProto) -> None:
    proto.graph.input.extend([info("unused", ["N"])])
    proto.graph.initializer.extend([tensor("also_unused", [1]), tensor("large_unused", range(300))])
    proto.graph.node.append(node("Relu", ["x"], ["dead"]))


def input_returned(proto: ModelProto) -> None:
    """Declared in one way as an input and in another as an output."""
    proto.graph.input[0].CopyFrom(info("x", ["N"]))
    proto.graph.output.append(info("x", None))
    proto.graph.output[1].doc_string = "the input again"


def initializer_returned(proto: ModelProto) -> None:
    proto.graph.initializer.append(tensor("w", [[1, 2]]))
    proto.graph.output.append(info("w", [1, 2]))


def output_listed_twice(proto: ModelProto) -> None:
    proto.graph.output.append(proto.graph.output[0])


def not_sorted(proto: ModelProto) -> None:
    proto.graph.node.reverse()


# --------------------------------------------------------------------------------------- subgraphs and constants


def bodies_in_bodies(proto: ModelProto) -> None:
    """An If inside a Loop, reading from both graphs around it, with weights of its own."""
    then = graph([node("Add", ["carried", "outer"], ["sum"]), node("Mul", ["sum", "w"], ["t"])], [], [info("t")],
                 [tensor("w", range(100))], doc_string="then")  # fmt: skip
    other = graph([node("Constant", [], ["e"], value=tensor("", [1, 2]))], [], [info("e")], value_info=[])
    body = graph(
        [
            node("If", ["go"], ["next"], then_branch=then, else_branch=other),
            node("Identity", ["go"], ["again"]),
        ],
        [info("i", [], I64), info("go", [], BOOL), info("carried")],
        [info("again", [], BOOL), info("next")],
        [tensor("unused", [0])],
        value_info=[info("again", [], BOOL)],
    )
    proto.graph.initializer.extend(
        [tensor("outer", [1, 2]), tensor("trips", 3, np.int64), tensor("yes", True, bool)]
    )
    proto.graph.node.append(node("Loop", ["trips", "yes", "x"], ["looped"], body=body))
    proto.graph.output.append(info("looped"))


def body_before_what_it_captures(proto: ModelProto) -> None:
    bodies_in_bodies(proto)
    del proto.graph.initializer[0]
    proto.graph.node.append(node("Exp", ["x"], ["outer"]))


def sparse_initializers(proto: ModelProto) -> None:
    flat = helper.make_sparse_tensor(tensor("flat", [1, 2]), tensor("", [0, 5], np.int64), [2, 3])
    rows = helper.make_sparse_tensor(tensor("rows", [1, 2]), tensor("", [[0, 1], [1, 2]], np.int64), [2, 3])
    none = helper.make_sparse_tensor(tensor("none", []), tensor("", np.zeros(0), np.int64), [2, 3])
    proto.graph.sparse_initializer.extend([flat, rows, none])
    proto.graph.node.append(node("Add", ["flat", "rows"], ["z"]))


def text_tensors(proto: ModelProto) -> None:
    texts = TensorProto(name="s", data_type=TensorProto.STRING, dims=[2, 1])
    texts.string_data.extend(["grüße".encode(), b"\xff"])
    proto.graph.initializer.append(texts)


CHANGES = [
    metadata, provenance, doc_strings, metadata_props, node_devices, quantization_annotation, training_info, functions,
    operator_sets, custom_operator, every_kind_of_attribute, empty_lists, denotations_and_unknown_sizes, half_declared,
    infos_of_nothing, sequences_maps_optionals, initializers_as_inputs, old_file, unused_parts, input_returned,
    initializer_returned, output_listed_twice, not_sorted, bodies_in_bodies, body_before_what_it_captures,
    sparse_initializers, text_tensors,
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_it_survives(change: Callable[[ModelProto], None]) -> None:
    proto = identity()
    change(proto)
    assert proto != identity()
    assert same(again(proto), proto)


def test_all_at_once() -> None:
    proto = identity()
    for change in (
        metadata,
        provenance,
        doc_strings,
        functions,
        every_kind_of_attribute,
        bodies_in_bodies,
        text_tensors,
    ):
        change(proto)
    assert same(again(proto), proto)


def test_order_is_kept() -> None:
    proto = identity()
    bodies_in_bodies(proto)
    unused_parts(proto)
    back = again(proto)
    for field in ("node", "initializer", "input", "output"):
        assert [item.name for item in getattr(back.graph, field)] == [
            item.name for item in getattr(proto.graph, field)
        ]


# ----------------------------------------------------------------------------------------- what the API shows


def test_what_a_loaded_model_says_of_itself() -> None:
    proto = identity()
    for change in (metadata, operator_sets, initializers_as_inputs):
        change(proto)
    loaded = Model.from_proto(proto)
    assert loaded.metadata == {"author": "someone", "Ünïcode": "ö", "empty": ""}
    assert loaded.opsets == {"": 21, "ai.onnx.ml": 1, "com.microsoft": 1, "of.nobody": 1}
    assert (loaded.opset, loaded.ir_version) == (21, 10)
    assert [value.name for value in loaded.inputs] == ["x"]
    assert [value.name for value in loaded.graph.inputs] == ["x", "w", "v", "u"]
    assert [value.name for value in loaded.outputs] == ["y"]
    assert [each.op for each in loaded.nodes()] == ["Identity", "Relu", "Add"]
    assert [each.op for each in loaded.nodes("Relu", "Add")] == ["Relu", "Add"]


def test_changed_metadata_and_opsets_are_written() -> None:
    loaded = Model.from_proto(identity())
    loaded.metadata["key"] = "value"
    loaded.opsets["my"] = 2
    back = loaded.to_proto()
    assert [(entry.key, entry.value) for entry in back.metadata_props] == [("key", "value")]
    assert [(entry.domain, entry.version) for entry in back.opset_import] == [("", 21), ("my", 2)]


def test_captures_are_the_outer_tensors_themselves() -> None:
    for change in (bodies_in_bodies, body_before_what_it_captures):
        proto = identity()
        change(proto)
        loaded = Model.from_proto(proto)
        (loop,) = loaded.nodes("Loop")
        body = loop.attrs["body"]
        (branch,) = [each for each in body.nodes if each.op == "If"]
        add = branch.attrs["then_branch"].nodes[0]
        assert add.inputs[0] is body.inputs[2]
        outer = loaded.weights and loaded.graph.initializers.get("outer") or loaded.nodes("Exp")[0].outputs[0]
        assert add.inputs[1] is outer
        assert [each.op for each in outer.outputs] == ["Add"]
