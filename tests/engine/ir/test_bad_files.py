"""Whatever is in a file: a model, or one clear line of the error family. Never anything else, never a crash."""

import os
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper

from graphrewrite.errors import GraphRewriteError, InvalidModel
from graphrewrite.ir import Model
from graphrewrite.ir.check import check
from tests.engine.ir.protos import graph, info, model, node, tensor


def rich() -> ModelProto:
    """A small model with one of nearly everything; its external data is `d.bin`."""
    then = graph([node("Relu", ["c"], ["q"])], [], [info("q", None)])
    other = graph(
        [node("Constant", [], ["k"], value=tensor("", range(100))), node("Neg", ["c"], ["z"])],
        [],
        [info("z", None)],
    )
    outside = TensorProto(
        name="outside", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL
    )
    for key, value in (("location", "d.bin"), ("offset", "4"), ("length", "16")):
        outside.external_data.add(key=key, value=value)
    text = TensorProto(name="text", data_type=TensorProto.STRING, dims=[2], string_data=[b"a", b"\xff"])
    nodes = [
        node("Conv", ["x", "w", "b"], ["c"], name="conv", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        node("If", ["go"], ["r"], then_branch=then, else_branch=other),
        node("Add", ["r", "outside"], ["s"]),
        node("F", ["s"], ["y"], domain="my"),
        node("Strange", ["y", "text"], ["u"], domain="of.nobody", words=["a", "b"], number=1.5),
    ]
    constants = [
        tensor("w", np.ones((4, 3, 3, 3))),
        helper.make_tensor("b", TensorProto.FLOAT, [4], [1, 2, 3, 4]),
        helper.make_tensor("packed", TensorProto.INT4, [3], [1, 2, 3]),
        text,
        outside,
    ]
    made = helper.make_function(
        "my", "F", ["a"], ["b"], [node("Relu", ["a"], ["b"])], [helper.make_opsetid("", 21)]
    )
    proto = model(
        nodes,
        [info("x", ["N", 3, "h", 4]), info("go", [], TensorProto.BOOL)],
        [info("y", ["N", 4, None, 4]), info("u", [1])],
        constants,
        functions=[made],
        domains=["my", "of.nobody"],
    )
    proto.graph.sparse_initializer.append(
        helper.make_sparse_tensor(tensor("sparse", [1, 2]), tensor("", [0, 3], np.int64), [4])
    )
    proto.graph.value_info.append(info("c", ["N", 4, "h", 4]))
    helper.set_model_props(proto, {"author": "someone"})
    return proto


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "d.bin").write_bytes(bytes(range(64)))
    return tmp_path


def put(folder: Path, content: bytes) -> Path:
    (folder / "m.onnx").write_bytes(content)
    return folder / "m.onnx"


def complaint(path: Path) -> str:
    """Load and check; return the line that comes instead of a model."""
    with pytest.raises(InvalidModel) as caught:
        check(Model.load(path))
    text = str(caught.value)
    assert "\n" not in text and len(text) > 40
    return text


# --------------------------------------------------------------------------------------------- not a model at all


def test_the_rich_model_is_sound(folder: Path) -> None:
    path = put(folder, rich().SerializeToString())
    check(Model.load(path))


def test_no_file_a_folder_a_pipe_a_locked_file(tmp_path: Path) -> None:
    assert "no file" in complaint(tmp_path / "missing.onnx")
    assert "is not a file" in complaint(tmp_path)
    assert "cannot be read" in complaint(tmp_path / ("x" * 300))
    assert "check the path" in complaint(tmp_path / "a\0b")
    os.mkfifo(tmp_path / "pipe")
    assert "is not a file" in complaint(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    assert "no file" in complaint(tmp_path / "loop")


def test_a_locked_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(tmp_path, b"")

    def refuse(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert "Permission denied" in complaint(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0",
        b"\0" * 1000,
        b"hello, this is text\n" * 50,
        b"{}",
        b"PK\x03\x04" + b"\0" * 30,
        b"\xff" * 100,
        "größe\n".encode(),
    ],
    ids=["empty", "zero", "zeros", "text", "json", "zip", "ones", "utf8"],
)
def test_other_files(tmp_path: Path, content: bytes) -> None:
    path = put(tmp_path, content)
    text = complaint(path)
    assert str(path) in text
    assert "ONNX" in text


def test_random_bytes(tmp_path: Path) -> None:
    for seed in range(200):
        draw = random.Random(seed)
        complaint(put(tmp_path, draw.randbytes(draw.randrange(1, 400))))


def test_protos_that_are_no_models(tmp_path: Path) -> None:
    for other in (rich().graph, tensor("t", range(10)), node("Relu", ["x"], ["y"]), info("x")):
        complaint(put(tmp_path, other.SerializeToString()))


# ---------------------------------------------------------------------------------------------- damaged models


def test_truncated_anywhere(folder: Path) -> None:
    content = rich().SerializeToString()
    for cut in range(20):
        text = complaint(put(folder, content[: len(content) * cut // 20]))
        assert str(folder / "m.onnx") in text or "'" in text


def test_garbage_at_the_end(folder: Path) -> None:
    """Protobuf cannot tell some garbage from fields of a later version: then the model is what it was."""
    content = rich().SerializeToString()
    put(folder, content)
    clean = Model.load(folder / "m.onnx").to_proto()
    survived = 0
    for seed in range(100):
        garbage = random.Random(seed).randbytes(40)
        try:
            loaded = Model.load(put(folder, content + garbage))
            check(loaded)
            survived += 1
        except GraphRewriteError as error:
            assert "\n" not in str(error)
    assert survived < 50
    assert Model.load(put(folder, content + b"\xfa\x3f\x02hi")).to_proto() == clean  # an unknown field


def mutations(content: bytes, seeds: range) -> Iterator[tuple[int, bytes]]:
    """Yield damaged copies: bits flipped, bytes replaced, taken out, put in."""
    for seed in seeds:
        draw = random.Random(seed)
        damaged = bytearray(content)
        kind = draw.random()
        for _ in range(draw.choice((1, 1, 2, 4, 16))):
            place = draw.randrange(len(damaged))
            if kind < 0.4:
                damaged[place] ^= 1 << draw.randrange(8)
            elif kind < 0.7:
                damaged[place] = draw.randrange(256)
            elif kind < 0.85:
                del damaged[place : place + draw.randrange(1, 9)]
            else:
                damaged[place:place] = draw.randbytes(draw.randrange(1, 5))
        yield seed, bytes(damaged)


@pytest.mark.parametrize(
    "seeds", [range(700), pytest.param(range(700, 8000), marks=pytest.mark.slow)], ids=["few", "many"]
)
def test_damaged_bytes(folder: Path, seeds: range) -> None:
    """A model that passes can also be cloned, written, and read to the last number; what does not pass says so."""
    verdicts: Counter[str] = Counter()
    for seed, damaged in mutations(rich().SerializeToString(), seeds):
        path = put(folder, damaged)
        try:
            loaded = Model.load(path)
            verdicts["loaded"] += 1
            check(loaded)
            verdicts["sound"] += 1
        except GraphRewriteError as error:
            assert "\n" not in str(error), seed
            continue
        loaded.clone().to_proto()
        for name in loaded.weights:
            assert loaded.weights[name].shape == loaded.weights.shape(name), seed
    assert len(seeds) > verdicts["loaded"] > verdicts["sound"] > len(seeds) // 10


def test_a_damaged_file_is_not_touched(folder: Path) -> None:
    content = rich().SerializeToString()[:-30]
    path = put(folder, content)
    complaint(path)
    assert path.read_bytes() == content
    assert sorted(p.name for p in folder.iterdir()) == ["d.bin", "m.onnx"]


# --------------------------------------------------------------------------------- models that onnx cannot take


def test_versions_and_rules(folder: Path) -> None:
    newer, future, wrong, bare = rich(), rich(), rich(), rich()
    newer.opset_import[0].version = 999
    assert "version 999" in complaint(put(folder, newer.SerializeToString()))
    future.ir_version = 99
    assert "IR version 99" in complaint(put(folder, future.SerializeToString()))
    wrong.graph.node[0].ClearField("input")
    assert "Conv" in complaint(put(folder, wrong.SerializeToString()))
    bare.ClearField("opset_import")
    assert "no operator set" in complaint(put(folder, bare.SerializeToString()))


def test_missing_and_short_data(folder: Path) -> None:
    path = put(folder, rich().SerializeToString())
    (folder / "d.bin").write_bytes(bytes(19))
    assert "which has 19 bytes" in complaint(path)
    (folder / "d.bin").unlink()
    assert "'d.bin' beside the model, but there is no such file" in complaint(path)


def count_wrong(holder: TensorProto) -> None:
    holder.dims[0] += 2


def negative(holder: TensorProto) -> None:
    holder.dims[0] = -1


def enormous(holder: TensorProto) -> None:
    holder.dims.extend([2**62, 2**62])


def no_type(holder: TensorProto) -> None:
    holder.ClearField("data_type")


def unknown_type(holder: TensorProto) -> None:
    holder.data_type = 77


def in_segments(holder: TensorProto) -> None:
    holder.segment.begin = 0
    holder.segment.end = 4


@pytest.mark.parametrize(
    "change", [count_wrong, negative, enormous, no_type, unknown_type, in_segments], ids=lambda c: c.__name__
)
@pytest.mark.parametrize(
    "where", ["raw", "typed", "packed", "text", "outside", "attribute", "sparse values", "sparse indices"]
)
def test_tensors_that_do_not_add_up(folder: Path, where: str, change: object) -> None:
    proto = rich()
    holders = dict(zip(("raw", "typed", "packed", "text", "outside"), proto.graph.initializer, strict=True))
    holders["attribute"] = proto.graph.node[1].attribute[0].g.node[0].attribute[0].t
    holders["sparse values"] = proto.graph.sparse_initializer[0].values
    holders["sparse indices"] = proto.graph.sparse_initializer[0].indices
    assert callable(change)
    change(holders[where])
    text = complaint(put(folder, proto.SerializeToString()))
    assert "tensor" in text


def test_sparse_indices_that_leave_the_shape(folder: Path) -> None:
    for indices in ([0, 4], [-1, 0], [0], [[0, 0], [0, 1]]):
        proto = rich()
        proto.graph.sparse_initializer[0].indices.CopyFrom(tensor("", indices, np.int64))
        assert "indices that do not fit" in complaint(put(folder, proto.SerializeToString()))


@pytest.mark.parametrize(
    "place", ["node", "operator", "input", "attribute", "metadata", "symbol", "note", "function", "location"]
)
def test_text_that_is_not_utf8(folder: Path, place: str) -> None:
    proto = rich()
    mark = "@@@@"
    if place == "node":
        proto.graph.node[0].name = mark
    elif place == "operator":
        proto.graph.node[0].op_type = mark
    elif place == "input":
        proto.graph.node[0].input[0] = mark
    elif place == "attribute":
        proto.graph.node[0].attribute[0].name = mark
    elif place == "metadata":
        proto.metadata_props[0].value = mark
    elif place == "symbol":
        proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param = mark
    elif place == "note":
        proto.graph.node[0].doc_string = mark
    elif place == "function":
        proto.functions[0].node[0].op_type = mark
    else:
        proto.graph.initializer[4].external_data[0].value = mark
    content = proto.SerializeToString().replace(mark.encode(), b"\xff\xfe\xfd\xfc")
    assert "not UTF-8" in complaint(put(folder, content))


# ----------------------------------------------------------------------------------------- odd, but a model all right


def test_unknown_operators_pass_through_byte_for_byte(folder: Path) -> None:
    nodes = [
        node(
            "Strange",
            ["x", "w", ""],
            ["h", ""],
            domain="of.nobody",
            name="s",
            depth=3,
            words=["a"],
            table=tensor("t", range(9)),
        ),
        node("Relu", ["h"], ["y"], name="r"),
    ]
    proto = model(
        nodes, [info("x", ["N", None])], [info("y", None)], [tensor("w", range(500))], domains=["of.nobody"]
    )
    content = proto.SerializeToString(deterministic=True)
    path = put(folder, content)
    loaded = Model.load(path)
    check(loaded)
    loaded.clone().save(folder / "out.onnx")
    assert (folder / "out.onnx").read_bytes() == content


def test_nothing_known_of_any_size(folder: Path) -> None:
    for dims in (None, [], [None], [None, "N"], ["a", "a*b"]):
        proto = model([node("Relu", ["x"], ["y"])], [info("x", dims)], [info("y", dims)])
        loaded = Model.load(put(folder, proto.SerializeToString()))
        check(loaded)
        assert loaded.inputs[0].shape == dims
        assert loaded.to_proto() == proto


def test_graphs_without_nodes(folder: Path) -> None:
    through = model([], [info("x")], [info("x")])
    constant = model([], [], [info("w")], [tensor("w", [1, 2])])
    for proto in (through, constant):
        loaded = Model.load(put(folder, proto.SerializeToString()))
        check(loaded)
        assert loaded.to_proto() == proto
    assert "no outputs" in complaint(put(folder, model([], [info("x")], []).SerializeToString()))
    empty = ModelProto(ir_version=8)
    empty.opset_import.add(version=17)
    assert "no ONNX graph" in complaint(put(folder, empty.SerializeToString()))


# ------------------------------------------------------------------------------------------- the oracle can fail


def test_another_exception_would_be_seen(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def clumsy(path: Path) -> Model:
        return Model.from_proto(onnx.load_model_from_string(path.read_bytes()))

    monkeypatch.setattr(Model, "load", clumsy)
    with pytest.raises(Exception, match="parsing") as caught:
        complaint(put(folder, b"\xff" * 100))
    assert not isinstance(caught.value, GraphRewriteError)
