"""Models run as they are: any tensor by name, any element type, weights from files, failures on one line."""

import subprocess
import sys
import textwrap
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from graphrewrite.errors import GraphRewriteError, InvalidModel, UnsupportedOp
from graphrewrite.ir import Builder, Model
from graphrewrite.runtime import run, run_session, session
from graphrewrite.runtime.stage import staged

ONES = np.ones((2, 3), np.float32)


def assert_close(found: object, expected: object, rtol: float = 1e-3, atol: float = 1e-4) -> None:
    np.testing.assert_allclose(
        np.asarray(found, np.float64), np.asarray(expected, np.float64), rtol=rtol, atol=atol
    )


def doubled() -> Model:
    b = Builder()
    x = b.input(["N", 3], "x")
    twice = b.op("Mul", x, b.constant(np.array(2, np.float32), "two"), name="twice")
    return b.model(b.op("Add", twice, b.constant(np.array(1, np.float32), "one"), name="plus"))


def drawn(
    nodes: list[onnx.NodeProto], inputs: dict[str, int], outputs: dict[str, int], opset: int = 19
) -> Model:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, kind, ["N", 3]) for name, kind in inputs.items()],
        [helper.make_tensor_value_info(name, kind, None) for name, kind in outputs.items()],
    )
    return Model.from_proto(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    )


# ------------------------------------------------------------------------------------------------ results


def test_the_outputs_come_back_by_name() -> None:
    found = run(doubled(), {"x": ONES})

    assert list(found) == ["plus_out"]
    assert found["plus_out"].tolist() == (3 * ONES).tolist()


def test_any_tensor_can_be_asked_for_in_any_order() -> None:
    found = run(doubled(), {"x": ONES}, outputs=["two", "plus_out", "x", "twice_out"])

    assert list(found) == ["two", "plus_out", "x", "twice_out"]
    assert found["twice_out"].tolist() == (2 * ONES).tolist()
    assert found["two"].tolist() == 2 and found["x"] is ONES


def test_asking_for_a_tensor_leaves_the_model_as_it_was() -> None:
    model = doubled()
    run(model, {"x": ONES}, outputs=["twice_out"])

    assert [tensor.name for tensor in model.outputs] == ["plus_out"]


def test_a_weight_added_to_a_model_of_an_early_version_is_listed_among_its_inputs() -> None:
    """Up to IR version 3 an initializer is the default of a graph input, and onnxruntime insists."""
    b = Builder(opset=8, ir_version=3)
    x = b.input([2, 3])
    model = b.model(b.op("Add", x, b.constant(np.array([1, 2, 3], np.float32), "late")))
    model.graph.inputs = [tensor for tensor in model.graph.inputs if tensor.name == x.name]

    (result,) = run(model, {x.name: np.zeros((2, 3), np.float32)}).values()

    assert (result == [1, 2, 3]).all()


def test_a_constant_node_is_read_without_running() -> None:
    model = drawn(
        [
            helper.make_node("Constant", [], ["c"], value_float=2.5),
            helper.make_node("Mul", ["x", "c"], ["y"]),
        ],
        {"x": 1},
        {"y": 1},
    )

    assert run(model, {"x": ONES}, outputs=["c"])["c"] == 2.5


def test_with_and_without_optimisations_the_result_is_the_same() -> None:
    b = Builder()
    x = b.input(["N", 3, 8, 8], "x")
    model = b.model(b.relu(b.batchnorm(b.conv(x, out=4, into=3), 4)))
    feeds = {"x": np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)}

    one, two = (next(iter(run(model, feeds, optimize=optimize).values())) for optimize in (False, True))
    assert_close(one, two, rtol=1e-4, atol=1e-5)


def test_sequences_come_back_item_by_item() -> None:
    split = helper.make_node("SplitToSequence", ["x"], ["s"], axis=0)
    graph = helper.make_graph(
        [split],
        "g",
        [helper.make_tensor_value_info("x", 1, ["N", 3])],
        [helper.make_tensor_sequence_value_info("s", 1, None)],
    )
    model = Model.from_proto(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    )

    found = run(model, {"x": np.arange(6, dtype=np.float32).reshape(2, 3)})

    assert {name: array.tolist() for name, array in found.items()} == {
        "s[0]": [[0, 1, 2]],
        "s[1]": [[3, 4, 5]],
    }
    assert list(run(model, {"x": ONES}, outputs=["s"])) == ["s[0]", "s[1]"]


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, np.float16])
def test_element_types_numpy_has_no_name_for_go_in_and_out(dtype: type) -> None:
    number = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    model = drawn(
        [
            helper.make_node("Cast", ["x"], ["small"], to=number),
            helper.make_node("Cast", ["y"], ["wide"], to=TensorProto.FLOAT),
        ],
        {"x": TensorProto.FLOAT, "y": number},
        {"small": number, "wide": TensorProto.FLOAT},
    )
    values = np.array([[1, -2, 0.5]], np.float32)

    found = run(model, {"x": values, "y": values.astype(dtype)})

    assert found["small"].dtype == dtype
    assert found["small"].astype(np.float32).tolist() == values.tolist()
    assert found["wide"].tolist() == values.tolist()


def test_a_session_serves_a_file_and_takes_taps() -> None:
    started = session(doubled(), threads=1, outputs=["twice_out"])

    assert list(run_session(started, {"x": ONES})) == ["plus_out", "twice_out"]
    assert list(run_session(started, {"x": ONES}, ["twice_out"])) == ["twice_out"]


def test_a_path_is_run_like_a_model(tmp_path: Path) -> None:
    doubled().save(tmp_path / "m.onnx")

    assert run(tmp_path / "m.onnx", {"x": ONES}, ["twice_out"])["twice_out"].tolist() == (2 * ONES).tolist()
    assert list(run_session(session(tmp_path / "m.onnx", outputs=["twice_out"]), {"x": ONES})) == [
        "plus_out",
        "twice_out",
    ]


# ------------------------------------------------------------------------------------------------ large weights


def chain(count: int = 3, width: int = 512) -> Model:
    b = Builder()
    y = b.input(["N", width], "x")
    for index in range(count):
        y = b.op("MatMul", y, b.weight(width, width, name=f"w{index}"), name=f"m{index}")
    return b.model(y)


def by_hand(model: Model, x: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> object:
    for name in model.weights:
        x = x @ model.weights[name].astype(np.float32)
    return x


def test_weights_in_memory_go_through_a_file_that_is_gone_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("graphrewrite.runtime.stage.STAGE_ABOVE", 1)
    model = chain()
    x = np.random.default_rng(1).standard_normal((2, 512)).astype(np.float32)

    with staged(model, above=1) as (content, folder):
        assert len(content) < 10_000  # three megabytes of weights are not in it
        assert folder is not None and sum(f.stat().st_size for f in folder.iterdir()) == 3 * 512 * 512 * 4
    for optimize in (False, True):
        assert_close(run(model, {"x": x}, optimize=optimize)["m2_out"], by_hand(model, x), rtol=1e-3)
    assert list(tmp_path.iterdir()) == []


def test_weights_in_several_folders_are_read_from_there(tmp_path: Path) -> None:
    model = chain()
    whole = model.to_proto()
    for index, folder in enumerate(("one", "two/deep", "")):
        tensor = whole.graph.initializer[index]
        path = tmp_path / folder / f"w{index}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\0" * 64 + tensor.raw_data)
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", str(Path(folder) / path.name)), ("offset", "64")):
            tensor.external_data.add(key=key, value=value)
    (tmp_path / "m.onnx").write_bytes(whole.SerializeToString())
    loaded = Model.load(tmp_path / "m.onnx")
    x = np.random.default_rng(1).standard_normal((2, 512)).astype(np.float32)

    with staged(loaded) as (content, folder_used):
        assert folder_used == tmp_path.resolve() and len(content) < 10_000
    assert_close(run(loaded, {"x": x})["m2_out"], by_hand(model, x), rtol=1e-3, atol=1e-4)

    # A pass has replaced one weight: that one goes inline, the others still come from their files.
    loaded.weights["w1"] = np.eye(512, dtype=np.float32)
    model.weights["w1"] = np.eye(512, dtype=np.float32)
    assert_close(run(loaded, {"x": x})["m2_out"], by_hand(model, x), rtol=1e-3, atol=1e-4)


def test_a_data_file_replaced_on_disk_is_not_read_by_mistake(tmp_path: Path) -> None:
    model = chain()
    proto = model.to_proto()
    onnx.save(proto, tmp_path / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    loaded = Model.load(tmp_path / "m.onnx")
    (tmp_path / "new.bin").write_bytes(b"\0" * (tmp_path / "w.bin").stat().st_size)
    (tmp_path / "new.bin").replace(tmp_path / "w.bin")
    x = np.ones((1, 512), np.float32)

    assert_close(run(loaded, {"x": x})["m2_out"], by_hand(model, x), rtol=1e-3, atol=1e-4)


def test_a_full_disk_is_a_clear_error_only_when_memory_is_no_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("graphrewrite.runtime.stage._write", full)
    model = chain()
    with staged(model, above=1) as (content, folder):
        assert folder is None and len(content) > 3 * 512 * 512 * 4
    monkeypatch.setattr("graphrewrite.runtime.stage.INLINE_LIMIT", 1000)
    with pytest.raises(InvalidModel, match="No space left on device.*TMPDIR"), staged(model, above=1):
        pass


def test_running_from_files_takes_one_copy_of_the_weights(tmp_path: Path) -> None:
    """256 MB of weights in a file, all read before: the process grows by the pages of the file, and hardly beyond."""
    script = textwrap.dedent(
        f"""
        import numpy as np, onnxruntime
        from graphrewrite.ir import Builder, Model
        from graphrewrite.ir.external import ExternalWriter
        from graphrewrite.runtime import run
        from onnx import TensorProto, helper

        size, count = 4096, 4
        with open({str(tmp_path / "w.bin")!r}, "wb") as file:
            for _ in range(count):
                np.full((size, size), 1 / size, np.float32).tofile(file)
        nodes, weights = [], []
        for i in range(count):
            nodes.append(helper.make_node("MatMul", [f"y{{i}}" if i else "x", f"w{{i}}"], [f"y{{i + 1}}"]))
            tensor = TensorProto(name=f"w{{i}}", data_type=1, dims=[size, size], data_location=1)
            for key, value in (("location", "w.bin"), ("offset", str(4 * size * size * i))):
                tensor.external_data.add(key=key, value=value)
            weights.append(tensor)
        info = helper.make_tensor_value_info
        graph = helper.make_graph(nodes, "g", [info("x", 1, ["N", size])], [info("y4", 1, ["N", size])], weights)
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        open({str(tmp_path / "m.onnx")!r}, "wb").write(proto.SerializeToString())

        def resident(key):
            return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(key)) // 1024

        model = Model.load({str(tmp_path / "m.onnx")!r})
        before = resident("VmHWM")
        assert all(model.weights[name].max() > 0 for name in model.weights)  # a pass has looked at every page
        found = run(model, {{"x": np.ones((1, size), np.float32)}})["y4"]
        assert np.allclose(found, 1.0, rtol=1e-3), found
        print(resident("VmHWM") - before, resident("RssAnon"))
        """
    )
    if not Path("/proc/self/status").exists():
        pytest.skip("needs /proc to measure memory")

    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=200, check=False
    )

    assert done.returncode == 0, done.stderr
    grown, anonymous = map(int, done.stdout.split())
    assert grown < 1.3 * 256
    assert anonymous < 128


# ------------------------------------------------------------------------------------------------ failures


def failure(
    model: Model, feeds: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]] | None = None
) -> GraphRewriteError:
    with pytest.raises(GraphRewriteError) as error:
        run(model, {"x": ONES} if feeds is None else feeds)
    assert "\n" not in str(error.value)
    return error.value


def test_an_operator_of_an_unknown_domain_is_named() -> None:
    b = Builder()
    error = failure(b.model(b.op("Foo", b.input(["N", 3], "x"), domain="my.domain")))

    assert isinstance(error, UnsupportedOp)
    assert "my.domain:Foo" in str(error) and "function body" in str(error)


def test_an_unknown_operator_of_the_default_domain_is_named() -> None:
    b = Builder()
    error = failure(b.model(b.op("Foo", b.input(["N", 3], "x"))))

    assert isinstance(error, UnsupportedOp) and "does not know the operator Foo" in str(error)


def test_an_operator_without_a_kernel_is_named() -> None:
    b = Builder(opset=5)
    model = b.model(b.op("Relu", b.input(["N", 3], "x"), name="old"))
    model.opsets[""] = 5  # older than any kernel onnxruntime has

    error = failure(model)
    assert isinstance(error, UnsupportedOp) and "no CPU kernel for Relu (node 'old')" in str(error)


def test_a_file_format_that_is_too_new_is_said_with_both_numbers() -> None:
    b = Builder(ir_version=99)
    error = failure(b.model(b.relu(b.input(["N", 3], "x"))))

    assert isinstance(error, InvalidModel)
    assert "IR version 99" in str(error) and "reads up to" in str(error)


def test_an_operator_set_that_is_too_new_is_said_with_both_numbers() -> None:
    b = Builder(opset=99)
    error = failure(b.model(b.relu(b.input(["N", 3], "x"))))

    assert isinstance(error, InvalidModel)
    assert "operator set 99" in str(error) and "at most" in str(error)


def test_a_node_that_fails_while_running_is_named_with_the_reason(capfd: pytest.CaptureFixture[str]) -> None:
    b = Builder()
    size = b.constant(np.array([4, 5]))
    error = failure(b.model(b.op("Reshape", b.input(["N", 3], "x"), size, name="wrong")))

    assert "Name:'wrong'" in str(error) and "Input shape:{2,3}, requested shape:{4,5}" in str(error)
    assert "onnxruntime_src" not in str(error)
    assert capfd.readouterr().err == ""


def test_inputs_that_do_not_fit_are_an_error() -> None:
    assert "Got: 4 Expected: 3" in str(failure(doubled(), {"x": np.ones((2, 4), np.float32)}))
    assert "missing" in str(failure(doubled(), {}))


def test_an_unknown_tensor_lists_close_names() -> None:
    with pytest.raises(InvalidModel, match="no tensor 'twice'.*did you mean twice_out"):
        run(doubled(), {"x": ONES}, outputs=["twice"])


def test_what_is_no_model_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("hello", encoding="utf-8")

    with pytest.raises(InvalidModel, match=r"text\.onnx.*[Pp]rotobuf"):
        session(tmp_path / "text.onnx")
    with pytest.raises(InvalidModel, match="no model file"):
        session(tmp_path / "absent.onnx")
