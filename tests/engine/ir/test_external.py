"""Numbers in files beside the model: read where they lie, and never from elsewhere."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from google.protobuf.message import Message
from onnx import ModelProto, TensorProto, helper, numpy_helper

from graphrewrite.errors import InvalidModel
from graphrewrite.ir import Model, array_of, constant_value
from graphrewrite.ir.external import HELD_FILES
from tests.engine.ir.data_files import VALUES, files, locations, outside, reader, whole, write
from tests.engine.ir.protos import graph, info, model, node, same, tensor

# ------------------------------------------------------------------------------------------------------- reading


def test_reads_what_onnx_reads(tmp_path: Path) -> None:
    data = VALUES.tobytes()
    path = write(
        tmp_path,
        reader(
            outside("plain", [1000], location="d.bin"),
            outside("placed", [250], location="d.bin", offset=1000, length=1000),
            outside("overlapping", [2, 100], location="d.bin", offset=1400, length=800),
            outside("odd_offset", [10], location="d.bin", offset=3, length=40),
            outside("bytes", [7], TensorProto.UINT8, location="d.bin", offset=3993, length=7),
            outside("nothing", [0, 3], location="d.bin", offset=4000, length=0),
        ),
        d=data,
    )
    loaded = Model.load(path)
    expected = {each.name: numpy_helper.to_array(each) for each in whole(path).graph.initializer}
    assert len(expected) == 6
    for name, array in expected.items():
        assert loaded.weights[name].tobytes() == array.tobytes(), name
        assert loaded.weights[name].shape == array.shape
        assert not loaded.weights[name].flags.writeable
    assert same(loaded.to_proto(), whole(path))


def test_a_subfolder_is_inside(tmp_path: Path) -> None:
    (tmp_path / "sub" / "deep").mkdir(parents=True)
    (tmp_path / "sub" / "deep" / "d.bin").write_bytes(VALUES.tobytes())
    path = write(tmp_path, reader(outside("w", [1000], location="sub/deep/d.bin")))
    assert np.array_equal(Model.load(path).weights["w"], VALUES)


def test_a_link_that_stays_inside_is_followed(tmp_path: Path) -> None:
    path = write(tmp_path, reader(outside("w", [1000], location="link.bin")), d=VALUES.tobytes())
    (tmp_path / "link.bin").symlink_to("d.bin")
    assert np.array_equal(Model.load(path).weights["w"], VALUES)


def test_a_model_reached_through_a_link_to_its_folder_is_read(tmp_path: Path) -> None:
    write(tmp_path / "real", reader(outside("w", [1000], location="d.bin")), d=VALUES.tobytes())
    (tmp_path / "link").symlink_to(tmp_path / "real", target_is_directory=True)
    assert np.array_equal(Model.load(tmp_path / "link" / "m.onnx").weights["w"], VALUES)


SUB_BYTE = ["INT4", "UINT4", "FLOAT4E2M1", "INT2", "UINT2", "FLOAT6E2M3", "FLOAT6E3M2"]


@pytest.mark.parametrize("count", [1, 3, 5, 3001])
@pytest.mark.parametrize(
    "name", [name for name in (*SUB_BYTE, "BFLOAT16", "FLOAT8E4M3FN", "BOOL") if hasattr(TensorProto, name)]
)
def test_every_width_of_element(tmp_path: Path, name: str, count: int) -> None:
    kind = getattr(TensorProto, name)
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    values = (np.arange(count) % 2).astype(np.float32).astype(dtype)
    raw = numpy_helper.from_array(values).raw_data
    path = write(
        tmp_path, model([], [], [info("w", [count], kind)], [outside("w", [count], kind, location="d.bin", offset=5)]),
        d=b"\xee" * 5 + raw,
    )  # fmt: skip
    loaded = Model.load(path)
    assert loaded.weights["w"].dtype == dtype
    assert loaded.weights["w"].tobytes() == values.tobytes()
    loaded.save(tmp_path / "again.onnx")
    (written,) = whole(tmp_path / "again.onnx").graph.initializer
    assert written.raw_data == raw
    loaded.weights["w"] = values.copy()  # from memory now, not from the file
    loaded.save(tmp_path / "new.onnx")
    (written,) = whole(tmp_path / "new.onnx").graph.initializer
    assert written.raw_data == raw
    assert ("new.onnx.data" in files(tmp_path)) == (len(raw) >= 1024)


def everywhere() -> ModelProto:
    """External tensors in a body, in Constant nodes, in lists, in a function, in a sparse tensor, in training data."""
    big = outside("", [1000], location="d.bin")
    body = graph(
        [node("Constant", [], ["k"], value=big), node("Add", ["k", "w"], ["r"])], [], [info("r", [1000])]
    )
    body.initializer.append(outside("w", [1000], location="d.bin"))
    nodes = [
        node("Constant", [], ["c"], value=big),
        node("If", ["go"], ["y"], then_branch=body, else_branch=body),
    ]
    nodes[0].attribute.append(helper.make_attribute("tensors", [big, tensor("t", [1])]))
    proto = model(nodes, [info("go", [], TensorProto.BOOL)], [info("y", [1000])], domains=["my"])
    inner = node("Constant", [], ["b"], value=outside("", [10], location="d.bin"))
    proto.functions.append(helper.make_function("my", "F", [], ["b"], [inner], [helper.make_opsetid("", 21)]))
    sparse = helper.make_sparse_tensor(tensor("s", [0, 1]), tensor("", [1, 2], np.int64), [5])
    sparse.values.CopyFrom(outside("s", [2], location="d.bin"))
    proto.graph.sparse_initializer.append(sparse)
    step = proto.training_info.add()
    step.algorithm.initializer.append(outside("a", [10], location="d.bin"))
    return proto


def external_anywhere(proto: ModelProto) -> int:
    return proto.SerializeToString().count(b"location")


def inlined_by_hand(proto: ModelProto, data: bytes) -> ModelProto:
    """Bring in every external tensor at offset 0, found by walking all fields."""
    copy = ModelProto()
    copy.CopyFrom(proto)
    stack: list[Message] = [copy]
    while stack:
        current = stack.pop()
        if isinstance(current, TensorProto) and current.external_data:
            current.raw_data = data[: 4 * current.dims[0]]
            current.ClearField("external_data")
            current.ClearField("data_location")
        for field, value in current.ListFields():
            if field.message_type is not None:
                stack += [value] if isinstance(value, Message) else value
    return copy


def test_external_tensors_are_found_wherever_they_hide(tmp_path: Path) -> None:
    proto = everywhere()
    assert external_anywhere(proto) == 9
    path = write(tmp_path, proto, d=VALUES.tobytes())
    loaded = Model.load(path)
    constant = constant_value(loaded.nodes("Constant")[0].outputs[0])
    assert constant is not None and np.array_equal(constant, VALUES)
    body = loaded.nodes("If")[0].attrs["then_branch"]
    assert np.array_equal(array_of(body.initializers["w"]), VALUES)
    assert loaded.weights["s"].tolist() == [0, 0, 1, 0, 0]
    expected = inlined_by_hand(proto, VALUES.tobytes())
    assert external_anywhere(expected) == 0
    assert same(loaded.to_proto(), expected)


def test_what_hid_is_external_again_when_saved(tmp_path: Path) -> None:
    path = write(tmp_path / "in", everywhere(), d=VALUES.tobytes())
    (tmp_path / "out").mkdir()
    Model.load(path).save(tmp_path / "out" / "m.onnx")
    assert files(tmp_path / "out") == ["m.onnx", "m.onnx.data"]
    written = onnx.load(str(tmp_path / "out" / "m.onnx"), load_external_data=False)
    assert (
        external_anywhere(written) == 2 * 2 + 1
    )  # in each body, in the node; lists, functions, sparse: inside
    assert same(
        Model.load(tmp_path / "out" / "m.onnx").to_proto(), inlined_by_hand(everywhere(), VALUES.tobytes())
    )


def test_one_map_serves_all_tensors_of_a_file(tmp_path: Path) -> None:
    """2000 tensors in one file take one open file each for reading and mapping, not one per tensor."""
    tensors = [outside(f"w{i}", [1], location="d.bin", offset=4 * (i % 1000), length=4) for i in range(2000)]
    path = write(tmp_path, reader(*tensors), d=VALUES.tobytes())
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    loaded = Model.load(path)
    assert sum(float(loaded.weights[f"w{i}"][0]) for i in range(2000)) == 2 * VALUES.sum()
    if before:
        assert len(os.listdir("/proc/self/fd")) - before <= 3


def test_thousands_of_data_files_do_not_use_up_the_open_files(tmp_path: Path) -> None:
    count = HELD_FILES * 3
    tensors = []
    for i in range(count):
        (tmp_path / f"d{i}").write_bytes(VALUES[i : i + 1].tobytes())
        tensors.append(outside(f"w{i}", [1], location=f"d{i}"))
    path = write(tmp_path, reader(*tensors))
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    loaded = Model.load(path)
    assert [loaded.weights[f"w{i}"].tolist() for i in range(count)] == [[float(i)] for i in range(count)]
    if before:
        assert len(os.listdir("/proc/self/fd")) - before <= 2 * HELD_FILES + 1
    last = f"d{count - 1}"
    (tmp_path / last).unlink()
    (tmp_path / last).write_bytes(VALUES[5:6].tobytes())
    with pytest.raises(InvalidModel, match="no longer what it was"):
        loaded.weights[f"w{count - 1}"]
    (tmp_path / last).unlink()
    with pytest.raises(InvalidModel, match="no longer what it was"):
        loaded.save(tmp_path / "out.onnx")
    assert not list(tmp_path.glob("*out.onnx*"))


RESIDENT = """
import sys
from graphrewrite.ir import Model

def resident() -> int:
    return int(open("/proc/self/statm").read().split()[1]) * 4096

before = resident()
model = Model.load(sys.argv[1])
clone = model.clone()
loaded = resident() - before
clone.save(sys.argv[2])
saved = resident() - before
total = float(clone.weights["w3"][-1])
print(loaded, saved, total)
"""


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="reads the resident set from /proc")
def test_numbers_stay_on_disk_until_they_are_read(tmp_path: Path) -> None:
    """128 MB of weights: loading, cloning and saving keep less than 25 MB in memory."""
    data = tmp_path / "d.bin"
    with open(data, "wb") as file:
        for i in range(4):
            file.write(np.full(8 << 20, i, np.float32).tobytes())
    tensors = [outside(f"w{i}", [8 << 20], location="d.bin", offset=i * (32 << 20)) for i in range(4)]
    path = write(tmp_path, reader(*tensors))
    command = [sys.executable, "-c", RESIDENT, str(path), str(tmp_path / "out.onnx")]
    out = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    loaded, saved, total = out.stdout.split()
    assert float(total) == 3
    assert int(loaded) < 5e6
    assert int(saved) < 25e6
    assert (tmp_path / "out.onnx.data").stat().st_size == data.stat().st_size
    assert locations(tmp_path / "out.onnx") == {f"w{i}": "out.onnx.data" for i in range(4)}


# ------------------------------------------------------------------------------------------------ what is refused


def absolute(folder: Path) -> dict[str, object]:
    return {"location": str(folder / "d.bin")}


def parent(folder: Path) -> dict[str, object]:
    return {"location": "../secret.bin"}


def parent_in_disguise(folder: Path) -> dict[str, object]:
    (folder / "sub").mkdir()
    return {"location": "sub/../../secret.bin"}


def file_link(folder: Path) -> dict[str, object]:
    (folder / "link.bin").symlink_to(folder.parent / "secret.bin")
    return {"location": "link.bin"}


def folder_link(folder: Path) -> dict[str, object]:
    (folder / "sub").symlink_to(folder.parent, target_is_directory=True)
    return {"location": "sub/secret.bin"}


def chain_of_links(folder: Path) -> dict[str, object]:
    (folder / "a").symlink_to("b")
    (folder / "b").symlink_to("../secret.bin")
    return {"location": "a"}


def loop_of_links(folder: Path) -> dict[str, object]:
    (folder / "a").symlink_to("b")
    (folder / "b").symlink_to("a")
    return {"location": "a"}


def named_pipe(folder: Path) -> dict[str, object]:
    os.mkfifo(folder / "pipe")
    return {"location": "pipe"}


def settings(**where: object) -> Callable[[Path], dict[str, object]]:
    def make(folder: Path) -> dict[str, object]:
        return where

    make.__name__ = " ".join(f"{key}={str(value)[:12]!r}" for key, value in where.items()) or "nothing"
    return make


REFUSED = [
    (absolute, "only a relative path"),
    (parent, "outside the model's folder"),
    (parent_in_disguise, "outside the model's folder"),
    (file_link, "symbolic link out of"),
    (folder_link, "symbolic link out of"),
    (chain_of_links, "symbolic link out of"),
    (loop_of_links, "no such file"),
    (named_pipe, "no such file"),
    (settings(), "only a relative path"),
    (settings(location=""), "only a relative path"),
    (settings(location="."), "only a relative path"),
    (settings(location="C:d.bin"), "only a relative path"),
    (settings(location="a\\d.bin"), "only a relative path"),
    (settings(location="a\0b"), "only a relative path"),
    (settings(location="x" * 300), "no such file"),
    (settings(location="sub"), "no such file"),
    (settings(location="missing.bin"), "no such file"),
    (settings(location="d.bin/d.bin"), "no such file"),
    (settings(location="d.bin", offset="one"), "offset 'one'"),
    (settings(location="d.bin", offset="-4"), "offset '-4'"),
    (settings(location="d.bin", offset="1e2"), "offset '1e2'"),
    (settings(location="d.bin", offset="9" * 30), "offset '999"),
    (settings(location="d.bin", length="0x10"), "length '0x10'"),
    (settings(location="d.bin", length="-1"), "length '-1'"),
    (settings(location="d.bin", offset=4), "which has 4000 bytes"),
    (settings(location="d.bin", offset=8000), "which has 4000 bytes"),
    (settings(location="d.bin", length=4001), "which has 4000 bytes"),
    (settings(location="d.bin", length=3999), "needs 4000 bytes but 3999"),
]


@pytest.mark.parametrize(("where", "complaint"), REFUSED, ids=lambda value: getattr(value, "__name__", ""))
def test_refused(tmp_path: Path, where: Callable[[Path], dict[str, object]], complaint: str) -> None:
    (tmp_path / "secret.bin").write_bytes(VALUES.tobytes())
    folder = tmp_path / "folder"
    folder.mkdir()
    path = write(folder, reader(outside("w", [1000], TensorProto.FLOAT, **where(folder))), d=VALUES.tobytes())
    with pytest.raises(InvalidModel, match=complaint) as caught:
        Model.load(path)
    assert "'w'" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_short_file(tmp_path: Path) -> None:
    path = write(tmp_path, reader(outside("w", [1000], location="d.bin")), d=VALUES.tobytes()[:-1])
    with pytest.raises(InvalidModel, match="3999 bytes.*truncated"):
        Model.load(path)


@pytest.mark.parametrize("hide", ["initializer", "attribute", "body", "function"])
def test_a_bare_proto_with_external_tensors_is_refused(hide: str) -> None:
    big = outside("w", [1000], location="d.bin")
    constant = node("Constant", [], ["y"], value=big)
    proto = model([], [info("c", [], TensorProto.BOOL)], [info("y")])
    if hide == "initializer":
        proto.graph.initializer.append(big)
    elif hide == "attribute":
        proto.graph.node.append(constant)
    elif hide == "body":
        proto.graph.node.append(node("If", ["c"], ["y"], then_branch=graph([constant], [], [info("y")])))
    else:
        proto.functions.append(helper.make_function("my", "F", [], ["y"], [constant], []))
    with pytest.raises(InvalidModel, match="'w' lies in an external file.*Model.load"):
        Model.from_proto(proto)


def test_text_cannot_be_external(tmp_path: Path) -> None:
    path = write(tmp_path, reader(outside("w", [2], TensorProto.STRING, location="d.bin")), d=b"ab")
    with pytest.raises(InvalidModel, match="text tensor 'w'"):
        Model.load(path)


# ------------------------------------------------------------------------------------------- the oracles can fail


def test_numbers_of_another_place_would_be_seen(tmp_path: Path) -> None:
    path = write(tmp_path, reader(outside("w", [999], location="d.bin", offset=4)), d=VALUES.tobytes())
    assert not same(Model.load(path).to_proto(), reader(tensor("w", VALUES[:-1])))
    assert same(Model.load(path).to_proto(), reader(tensor("w", VALUES[1:])))
