"""Numbers of every element type go in and out bit for bit, and declarations follow the changes of a pass."""

import ml_dtypes
import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from onnx import AttributeProto, ModelProto, TensorProto, helper, numpy_helper

from graphrewrite.errors import InvalidModel
from graphrewrite.ir import Model, array_of, constant_value
from tests.engine.ir.protos import info, model, node, same, tensor
from tests.engine.ir.test_round_trip_fields import (
    again,
    every_kind_of_attribute,
    functions,
    identity,
    infos_of_nothing,
    initializers_as_inputs,
    metadata_props,
    sparse_initializers,
    text_tensors,
)

# -------------------------------------------------------------------------------------------- element types

KINDS = [
    kind for kind in TensorProto.DataType.values() if kind not in (TensorProto.UNDEFINED, TensorProto.STRING)
]


def some_values(kind: int, count: int) -> np.ndarray:
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    return (np.arange(count) % 2).astype(np.float32).astype(dtype)


@pytest.mark.parametrize("count", [0, 1, 3, 5, 700])
@pytest.mark.parametrize("kind", KINDS, ids=TensorProto.DataType.Name)
def test_every_element_type_raw_and_typed(kind: int, count: int) -> None:
    values = some_values(kind, count)
    raw = numpy_helper.from_array(values, "raw")
    typed = helper.make_tensor("typed", kind, [count], values)
    assert raw.HasField("raw_data") and not typed.HasField("raw_data")
    proto = model([], [], [info("raw", [count], kind)], [raw, typed])
    assert same(again(proto), proto)
    loaded = Model.from_proto(proto)
    for name in ("raw", "typed"):
        array = loaded.weights[name]
        assert array.dtype == values.dtype and array.shape == (count,)
        assert array.tobytes() == values.tobytes()
        assert not array.flags.writeable
    assert same(loaded.to_proto(), proto)  # reading the numbers changes nothing


@pytest.mark.parametrize("kind", KINDS, ids=TensorProto.DataType.Name)
def test_every_element_type_as_a_new_weight(kind: int) -> None:
    loaded = Model.from_proto(model([], [], [info("w", [3, 1], kind)], [tensor("w", [[0], [0], [0]])]))
    values = some_values(kind, 3).reshape(3, 1)
    loaded.weights["w"] = values
    back = loaded.to_proto()
    assert back.graph.initializer[0].data_type == kind
    assert numpy_helper.to_array(back.graph.initializer[0]).tobytes() == values.tobytes()


def test_bits_of_floats_are_kept() -> None:
    odd = np.asarray([0x7FC00001, 0xFFC12345, 0x80000000, 0x00000001], np.uint32).view(np.float32)
    proto = model([], [], [info("w", [400])], [numpy_helper.from_array(np.tile(odd, 100), "w")])
    loaded = Model.from_proto(proto)
    loaded.weights["w"] = loaded.weights["w"].copy()
    assert same(loaded.to_proto(), proto)


def test_text_tensors_read_as_objects() -> None:
    proto = identity()
    text_tensors(proto)
    assert Model.from_proto(proto).weights["s"].tolist() == [["grüße"], [b"\xff"]]


@pytest.mark.parametrize(
    "values", [np.asarray(["a", "bc"], object), np.asarray(["a", "bc"]), np.asarray([b"\xff", "ü"], object)]
)
def test_text_can_be_set(values: np.ndarray) -> None:
    loaded = Model.from_proto(identity())
    loaded.weights["s"] = values
    written = loaded.to_proto().graph.initializer[0]
    assert written.data_type == TensorProto.STRING
    assert list(written.string_data) == [v if isinstance(v, bytes) else v.encode() for v in values.tolist()]


def test_sparse_numbers_by_hand() -> None:
    proto = identity()
    sparse_initializers(proto)
    loaded = Model.from_proto(proto)
    assert loaded.weights["flat"].tolist() == [[1, 0, 0], [0, 0, 2]]
    assert loaded.weights["rows"].tolist() == [[0, 1, 0], [0, 0, 2]]
    assert loaded.weights["none"].tolist() == [[0, 0, 0], [0, 0, 0]]
    loaded.weights["flat"] = np.ones((1, 3), np.float32)
    written = loaded.to_proto().graph
    assert [sparse.values.name for sparse in written.sparse_initializer] == ["rows", "none"]
    assert [dense.name for dense in written.initializer] == ["flat"]


# ------------------------------------------------------------------------- what follows a change, and what does not


def test_a_new_type_replaces_the_declaration_but_not_the_notes() -> None:
    proto = identity()
    proto.graph.value_info.append(info("h", ["N", 3]))
    proto.graph.value_info[0].doc_string = "kept"
    loaded = Model.from_proto(proto)
    hidden = loaded.nodes("Relu")[0].inputs[0]
    hidden.shape = ("N", np.int64(2), None)
    hidden.dtype = np.float16
    (written,) = loaded.to_proto().graph.value_info
    expected = info("h", ["N", 2, None], TensorProto.FLOAT16)
    expected.doc_string = "kept"
    assert written == expected


def test_a_forgotten_type_is_not_declared() -> None:
    proto = identity()
    proto.graph.value_info.append(info("h"))
    loaded = Model.from_proto(proto)
    hidden = loaded.nodes("Relu")[0].inputs[0]
    hidden.dtype = hidden.shape = None
    assert not loaded.to_proto().graph.value_info


def test_a_renamed_tensor_keeps_its_declaration() -> None:
    proto = identity()
    proto.graph.value_info.append(info("h", ["N", 3]))
    loaded = Model.from_proto(proto)
    loaded.nodes("Relu")[0].inputs[0].name = "new"
    assert list(loaded.to_proto().graph.value_info) == [info("new", ["N", 3])]


def test_an_initializer_declared_as_input_follows_its_numbers() -> None:
    proto = identity()
    initializers_as_inputs(proto)
    loaded = Model.from_proto(proto)
    loaded.weights["w"] = np.zeros(5, ml_dtypes.bfloat16)
    written = {value.name: value for value in loaded.to_proto().graph.input}
    assert written["w"] == info("w", [5], TensorProto.BFLOAT16)
    assert written["v"] == info("v", ["A", "B"])


def test_new_weights_of_an_old_file_are_listed_as_inputs() -> None:
    proto = identity()
    proto.ir_version = 3
    proto.opset_import[0].version = 7
    loaded = Model.from_proto(proto)
    loaded.weights["new"] = np.zeros(2, np.float32)
    back = loaded.to_proto()
    assert back.graph.input[-1] == info("new")
    onnx.checker.check_model(back)


def test_of_two_initializers_of_one_name_the_later_counts() -> None:
    proto = model([], [], [info("w", [1])], [tensor("w", [1]), tensor("w", [2])])
    assert Model.from_proto(proto).weights["w"].tolist() == [2]


def test_the_proto_it_came_from_can_be_changed() -> None:
    proto = identity()
    for change in (metadata_props, every_kind_of_attribute, functions, infos_of_nothing):
        change(proto)
    kept = ModelProto()
    kept.CopyFrom(proto)
    loaded = Model.from_proto(proto)
    proto.Clear()
    assert same(loaded.to_proto(), kept)


@pytest.mark.parametrize("value", [object(), {"a": 1}, [object()], [None], None])
def test_an_attribute_that_onnx_cannot_store_is_named(value: object) -> None:
    loaded = Model.from_proto(identity())
    loaded.nodes()[0].attrs["odd"] = value
    with pytest.raises(InvalidModel, match="'odd'"):
        loaded.to_proto()


def test_arrays_and_numpy_numbers_as_attributes() -> None:
    loaded = Model.from_proto(identity())
    loaded.nodes()[0].attrs.update(
        a=np.int64(3), b=np.float32(0.5), c=np.arange(3), d=(1, 2), e=[np.int32(1)], f=True
    )
    written = {value.name: value for value in loaded.to_proto().graph.node[0].attribute}
    assert (written["a"].i, written["b"].f, list(written["d"].ints), list(written["e"].ints)) == (
        3,
        0.5,
        [1, 2],
        [1],
    )
    assert numpy_helper.to_array(written["c"].t).tolist() == [0, 1, 2]
    assert (written["f"].type, written["f"].i) == (AttributeProto.INT, 1)


def test_an_array_no_tensor_can_hold_is_refused() -> None:
    loaded = Model.from_proto(identity())
    loaded.weights["w"] = np.zeros(2, "datetime64[s]")
    with pytest.raises(InvalidModel, match="datetime64"):
        loaded.to_proto()


def test_reading_hands_out_no_writable_array() -> None:
    loaded = Model.from_proto(identity())
    mine = np.zeros(2, np.float32)
    loaded.weights["w"] = mine
    assert not loaded.weights["w"].flags.writeable
    assert not array_of(gs.Constant("c", mine)).flags.writeable
    assert mine.flags.writeable


def test_what_was_said_twice_goes_when_it_is_no_longer_true() -> None:
    proto = identity()
    proto.graph.value_info.append(info("x"))
    loaded = Model.from_proto(proto)
    assert same(loaded.to_proto(), proto)
    loaded.inputs[0].shape = ["N"]
    written = loaded.to_proto().graph
    assert list(written.input) == [info("x", ["N"])]
    assert not written.value_info


def test_a_new_tensor_of_a_name_that_was_only_declared_is_declared_once() -> None:
    proto = identity()
    infos_of_nothing(proto)
    loaded = Model.from_proto(proto)
    hidden = loaded.nodes("Relu")[0].inputs[0]
    hidden.name, hidden.dtype, hidden.shape = "my::F/inner", np.dtype(np.float32), [7]
    assert list(loaded.to_proto().graph.value_info) == [info("my::F/inner", [7])]


def test_constants_in_both_homes() -> None:
    attributes = {
        "value": (tensor("", [1, 2]), [1, 2]),
        "value_float": (0.5, 0.5),
        "value_floats": ([0.5, 1.0], [0.5, 1.0]),
        "value_int": (3, 3),
        "value_ints": ([3, 4], [3, 4]),
        "value_string": ("a", "a"),
        "value_strings": (["a", "b"], ["a", "b"]),
        "sparse_value": (
            helper.make_sparse_tensor(tensor("v", [7]), tensor("i", [1], np.int64), [3]),
            [0, 7, 0],
        ),
    }
    nodes = [node("Constant", [], [name]) for name in attributes]
    for each, (name, (value, _)) in zip(nodes, attributes.items(), strict=True):
        each.attribute.append(helper.make_attribute(name, value))
    loaded = Model.from_proto(model(nodes, [], [info("value")], [tensor("w", [5])]))
    for made, (_, expected) in zip(loaded.nodes(), attributes.values(), strict=True):
        found = constant_value(made.outputs[0])
        assert found is not None and found.tolist() == expected, made.outputs[0].name
    kept = constant_value(loaded.graph.initializers["w"])
    assert kept is not None and kept.tolist() == [5]
    assert constant_value(gs.Variable("v")) is None
