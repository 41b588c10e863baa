"""Numbers in files beside the model: written whole or not at all."""

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from graphrewrite.errors import InvalidModel
from graphrewrite.ir import Builder, Model
from graphrewrite.ir.datafile import DataFile, FileRange
from graphrewrite.ir.external import ExternalWriter, write_beside
from tests.engine.ir.data_files import VALUES, files, locations, outside, reader, whole, write
from tests.engine.ir.protos import same, tensor


@pytest.fixture
def low_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let models count as too large for one proto above 2000 bytes of tensors."""
    monkeypatch.setattr("graphrewrite.ir.model.INLINE_LIMIT", 2000)


# ------------------------------------------------------------------------------------------------------- writing


def test_small_models_stay_in_one_file(tmp_path: Path) -> None:
    Model.from_proto(reader(tensor("w", VALUES))).save(tmp_path / "m.onnx")
    assert files(tmp_path) == ["m.onnx"]
    assert same(whole(tmp_path / "m.onnx"), reader(tensor("w", VALUES)))


@pytest.mark.usefixtures("low_limit")
def test_large_models_get_a_data_file(tmp_path: Path) -> None:
    values = {
        "w": VALUES,
        "v": VALUES[::-1].copy(),
        "small": np.ones(255, np.float32),
        "edge": np.ones(256, np.float32),
    }
    proto = reader(*(tensor(name, value) for name, value in values.items()))
    proto.graph.initializer[0].doc_string = "kept"
    proto.graph.initializer[0].metadata_props.add(key="k", value="v")
    Model.from_proto(proto).save(tmp_path / "m.onnx")
    assert files(tmp_path) == ["m.onnx", "m.onnx.data"]
    assert locations(tmp_path / "m.onnx") == dict.fromkeys(("w", "v", "edge"), "m.onnx.data")
    assert same(whole(tmp_path / "m.onnx"), proto)
    onnx.checker.check_model(str(tmp_path / "m.onnx"))


@pytest.mark.usefixtures("low_limit")
def test_data_is_aligned_and_shared_arrays_are_written_once(tmp_path: Path) -> None:
    b = Builder()
    x = b.input([2000], "x")
    first = b.constant(np.arange(2000, dtype=np.float32), "first")
    twin = b.constant(np.zeros(2000, np.float32), "twin")
    twin.values = first.values
    m = b.model(b.add(b.add(x, first), twin))
    m.save(tmp_path / "m.onnx")
    proto = onnx.load(str(tmp_path / "m.onnx"), load_external_data=False)
    entries = [{e.key: e.value for e in t.external_data} for t in proto.graph.initializer]
    assert entries[0] == entries[1] == {"location": "m.onnx.data", "offset": "0", "length": "8000"}
    m.weights["twin"] = m.weights["twin"].copy()
    m.save(tmp_path / "m.onnx")
    proto = onnx.load(str(tmp_path / "m.onnx"), load_external_data=False)
    assert [next(e.value for e in t.external_data if e.key == "offset") for t in proto.graph.initializer] == [
        "0",
        "8192",
    ]


@pytest.mark.usefixtures("low_limit")
def test_one_proto_that_cannot_hold_it_is_refused() -> None:
    with pytest.raises(InvalidModel, match=r"GB.*use save\(\)"):
        Model.from_proto(reader(tensor("w", VALUES))).to_proto()


def test_came_external_goes_external(tmp_path: Path) -> None:
    path = write(tmp_path / "in", reader(outside("w", [1000], location="d.bin")), d=VALUES.tobytes())
    (tmp_path / "out").mkdir()
    loaded = Model.load(path)
    assert loaded.graph.initializers["w"].values[1] == 1  # read through gs, which forgets where it lay
    loaded.clone().save(tmp_path / "out" / "m.onnx")
    assert files(tmp_path / "out") == ["m.onnx", "m.onnx.data"]
    assert same(whole(tmp_path / "out" / "m.onnx"), reader(tensor("w", VALUES)))


def test_no_data_file_when_nothing_large_is_left(tmp_path: Path) -> None:
    path = write(tmp_path / "in", reader(outside("w", [1000], location="d.bin")), d=VALUES.tobytes())
    (tmp_path / "out").mkdir()
    loaded = Model.load(path)
    loaded.weights["w"] = np.ones(1, np.float32)
    loaded.save(tmp_path / "out" / "m.onnx")
    assert files(tmp_path / "out") == ["m.onnx"]


def test_save_over_the_very_files_it_came_from(tmp_path: Path) -> None:
    """Another order and another size in the data file, while two models still read the old one."""
    first = Model.from_proto(reader(tensor("a", VALUES), tensor("b", VALUES * 2), tensor("c", VALUES * 3)))
    first.graph.initializers["a"].values = first.graph.initializers["a"].values.copy()
    path = tmp_path / "m.onnx"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("graphrewrite.ir.model.INLINE_LIMIT", 100)
        first.save(path)
    loaded = Model.load(path)
    untouched = loaded.clone()
    assert np.array_equal(loaded.weights["c"], VALUES * 3)  # read before
    loaded.weights["a"] = VALUES[:500].copy()
    loaded.graph.initializers = dict(reversed(loaded.graph.initializers.items()))
    loaded.save(path)
    loaded.save(path)  # once more, from the half replaced model
    assert files(tmp_path) == ["m.onnx", "m.onnx.data"]
    for m, a in ((loaded, VALUES[:500]), (untouched, VALUES), (Model.load(path), VALUES[:500])):
        assert np.array_equal(m.weights["a"], a)
        assert np.array_equal(m.weights["b"], VALUES * 2)
        assert np.array_equal(m.weights["c"], VALUES * 3)
    untouched.save(tmp_path / "old.onnx")
    assert np.array_equal(
        numpy_helper.to_array(whole(tmp_path / "old.onnx").graph.initializer[1]), VALUES * 2
    )


def test_a_range_knows_that_its_path_was_replaced(tmp_path: Path) -> None:
    (tmp_path / "d.bin").write_bytes(VALUES.tobytes())
    source = FileRange(tmp_path / "d.bin", 0, 4000, DataFile(tmp_path / "d.bin"))
    assert source.is_current()
    (tmp_path / "new").write_bytes(VALUES.tobytes())
    os.replace(tmp_path / "new", tmp_path / "d.bin")
    assert not source.is_current()
    (tmp_path / "d.bin").unlink()
    assert not source.is_current()
    assert np.array_equal(source.read().view(np.float32), VALUES)


def test_an_inline_save_leaves_a_data_file_of_before_but_does_not_name_it(tmp_path: Path) -> None:
    (tmp_path / "m.onnx.data").write_bytes(b"of an older save")
    Model.from_proto(reader(tensor("w", VALUES))).save(tmp_path / "m.onnx")
    assert locations(tmp_path / "m.onnx") == {}
    assert (tmp_path / "m.onnx.data").read_bytes() == b"of an older save"


@pytest.mark.usefixtures("low_limit")
def test_a_data_file_of_an_older_save_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "m.onnx.data").write_bytes(b"x" * 100_000)
    Model.from_proto(reader(tensor("w", VALUES))).save(tmp_path / "m.onnx")
    assert (tmp_path / "m.onnx.data").read_bytes() == VALUES.tobytes()


# ------------------------------------------------------------------------------------------- failures in the middle


class Full(OSError):
    """The disk is full."""


def fail_at(monkeypatch: pytest.MonkeyPatch, target: str, call: int) -> None:
    """Let the `call`-th use of a function of the os module fail."""
    real = getattr(os, target)
    seen = 0

    def stumble(*given: object) -> object:
        nonlocal seen
        seen += 1
        if seen == call:
            raise Full(28, "No space left on device")
        return real(*given)

    monkeypatch.setattr(os, target, stumble)


@pytest.mark.parametrize("existed", [True, False])
@pytest.mark.parametrize(("target", "call"), [("fsync", 1), ("fsync", 2), ("replace", 1), ("replace", 2)])
@pytest.mark.usefixtures("low_limit")
def test_a_failed_save_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, call: int, existed: bool
) -> None:
    path = tmp_path / "m.onnx"
    if existed:
        Model.from_proto(reader(tensor("w", VALUES))).save(path)
    before = {name: (tmp_path / name).read_bytes() for name in files(tmp_path)}
    assert len(before) == 2 * existed
    with monkeypatch.context() as patch:
        fail_at(patch, target, call)
        with pytest.raises(InvalidModel, match="No space left"):
            Model.from_proto(reader(tensor("w", VALUES + 1))).save(path)
    assert {name: (tmp_path / name).read_bytes() for name in files(tmp_path)} == before
    Model.from_proto(reader(tensor("w", VALUES + 1))).save(path)  # and without the failure it works
    assert numpy_helper.to_array(whole(path).graph.initializer[0]).tobytes() == (VALUES + 1).tobytes()
    assert files(tmp_path) == ["m.onnx", "m.onnx.data"]


@pytest.mark.usefixtures("low_limit")
def test_a_file_system_without_hard_links_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.onnx"
    Model.from_proto(reader(tensor("w", VALUES))).save(path)
    before = {name: (tmp_path / name).read_bytes() for name in files(tmp_path)}

    def no_links(*given: object) -> None:
        raise OSError(95, "not supported")

    monkeypatch.setattr(os, "link", no_links)
    with monkeypatch.context() as patch:
        fail_at(patch, "replace", 4)  # each file is moved aside first
        with pytest.raises(InvalidModel, match="No space left"):
            Model.from_proto(reader(tensor("w", VALUES + 1))).save(path)
    assert {name: (tmp_path / name).read_bytes() for name in files(tmp_path)} == before
    Model.from_proto(reader(tensor("w", VALUES + 1))).save(path)
    assert files(tmp_path) == ["m.onnx", "m.onnx.data"]
    assert numpy_helper.to_array(whole(path).graph.initializer[0]).tobytes() == (VALUES + 1).tobytes()


@pytest.mark.usefixtures("low_limit")
def test_a_defect_while_encoding_leaves_nothing_behind(tmp_path: Path) -> None:
    m = Model.from_proto(reader(tensor("w", VALUES)))
    m.nodes()[0].attrs["odd"] = object()
    with pytest.raises(InvalidModel, match="'odd'"):
        m.save(tmp_path / "m.onnx")
    assert files(tmp_path) == []


@pytest.mark.usefixtures("low_limit")
def test_a_folder_where_the_data_file_goes(tmp_path: Path) -> None:
    (tmp_path / "m.onnx.data").mkdir()
    (tmp_path / "m.onnx.data" / "mine").write_text("kept")
    with pytest.raises(InvalidModel, match="is a folder"):
        Model.from_proto(reader(tensor("w", VALUES))).save(tmp_path / "m.onnx")
    assert files(tmp_path) == ["m.onnx.data", "mine"]


def test_where_one_cannot_save(tmp_path: Path) -> None:
    m = Model.from_proto(reader(tensor("w", VALUES)))
    for path in (tmp_path, tmp_path / "missing" / "m.onnx", Path("")):
        with pytest.raises(InvalidModel, match="existing folder"):
            m.save(path)
    with pytest.raises(InvalidModel, match="cannot write"):
        m.save(tmp_path / ("x" * 300))
    assert files(tmp_path) == []


def test_writer_by_hand(tmp_path: Path) -> None:
    """Without a model file of its own: commit moves the data alone; without commit nothing stays."""
    m = Model.from_proto(reader(tensor("w", VALUES), tensor("s", [1])))
    with ExternalWriter(tmp_path / "d.bin", threshold=8) as writer:
        protos = [writer.encode(constant) for constant in m.graph.initializers.values()]
        assert writer.commit()
    assert [bool(p.external_data) for p in protos if isinstance(p, TensorProto)] == [True, False]
    assert (tmp_path / "d.bin").read_bytes() == VALUES.tobytes()
    with ExternalWriter(tmp_path / "e.bin", threshold=8) as writer:
        writer.encode(m.graph.initializers["w"])
    with ExternalWriter(tmp_path / "f.bin", threshold=8) as writer:
        writer.encode(m.graph.initializers["s"])
        assert not writer.commit()
    assert files(tmp_path) == ["d.bin"]
    write_beside(tmp_path / "text", b"abc")
    assert (tmp_path / "text").read_bytes() == b"abc"
