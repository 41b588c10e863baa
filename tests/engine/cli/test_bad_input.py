"""Every kind of bad file against every verb: one clear line and code 2, or a correct result; never a traceback."""

import hashlib
import itertools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from graphrewrite.cli import main
from graphrewrite.ir import Builder, Model
from tests.engine.cli.conftest import Run, small_model

VERBS: dict[str, Callable[[Path, Path], list[str]]] = {
    "inspect": lambda model, out: ["inspect", str(model), "--groups"],
    "tidy": lambda model, out: ["tidy", str(model), "-o", str(out)],
    "prune": lambda model, out: ["prune", str(model), "-o", str(out), "--ratio", "0.5"],
    "compare": lambda model, out: ["compare", str(model), str(model)],
    "bench": lambda model, out: ["bench", str(model), "--seconds", "0.02"],
}


def no_file(path: Path) -> None: ...


def folder(path: Path) -> None:
    path.mkdir()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def text(path: Path) -> None:
    path.write_text("This is no model.\n" * 50)


def random_bytes(path: Path) -> None:
    path.write_bytes(np.random.default_rng(1).bytes(5000))


def truncated(path: Path) -> None:
    content = small_model().to_proto().SerializeToString()
    path.write_bytes(content[: len(content) // 2])


def other_protobuf(path: Path) -> None:
    path.write_bytes(helper.make_tensor("t", TensorProto.FLOAT, [2], [1.0, 2.0]).SerializeToString())


def broken(change: Callable[[onnx.ModelProto], object]) -> Callable[[Path], None]:
    """Return a maker of the small model with one thing broken."""

    def make(path: Path) -> None:
        proto = small_model().to_proto()
        change(proto)
        path.write_bytes(proto.SerializeToString())

    return make


def unknown_input(proto: onnx.ModelProto) -> None:
    proto.graph.node[1].input[0] = "nobody_makes_this"


def cycle(proto: onnx.ModelProto) -> None:
    proto.graph.node[0].input[0] = proto.graph.node[1].output[0]


def unknown_operator(proto: onnx.ModelProto) -> None:
    proto.graph.node[1].op_type = "Rellu"


def bad_attribute(proto: onnx.ModelProto) -> None:
    proto.graph.node[0].attribute.append(helper.make_attribute("colour", "red"))


def future_opset(proto: onnx.ModelProto) -> None:
    proto.opset_import[0].version = 999


def future_ir(proto: onnx.ModelProto) -> None:
    proto.ir_version = 999


def no_opset(proto: onnx.ModelProto) -> None:
    del proto.opset_import[:]


def no_output(proto: onnx.ModelProto) -> None:
    del proto.graph.output[:]


def short_weight(proto: onnx.ModelProto) -> None:
    proto.graph.initializer[0].raw_data = proto.graph.initializer[0].raw_data[:-4]


def missing_external(path: Path) -> None:
    save_external(path)
    (path.parent / "weights.bin").unlink()


def short_external(path: Path) -> None:
    save_external(path)
    data = path.parent / "weights.bin"
    data.write_bytes(data.read_bytes()[:100])


def escaping_external(path: Path) -> None:
    save_external(path)
    proto = onnx.load(str(path), load_external_data=False)
    for tensor in proto.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../../secret"
    path.write_bytes(proto.SerializeToString())


def save_external(path: Path) -> None:
    onnx.save_model(
        small_model().to_proto(),
        str(path),
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
    )


BAD: dict[str, Callable[[Path], None]] = {
    "no file": no_file,
    "folder": folder,
    "empty file": empty,
    "text": text,
    "random bytes": random_bytes,
    "truncated": truncated,
    "another protobuf": other_protobuf,
    "unknown input": broken(unknown_input),
    "cycle": broken(cycle),
    "bad attribute": broken(bad_attribute),
    "future opset": broken(future_opset),
    "future IR": broken(future_ir),
    "no opset": broken(no_opset),
    "no output": broken(no_output),
    "short weight": broken(short_weight),
    "missing external data": missing_external,
    "short external data": short_external,
    "external data outside": escaping_external,
}


@pytest.mark.parametrize(("kind", "verb"), list(itertools.product(BAD, VERBS)))
def test_bad_files_are_one_clear_line(run: Run, tmp_path: Path, kind: str, verb: str) -> None:
    model, out = tmp_path / "bad.onnx", tmp_path / "out.onnx"
    BAD[kind](model)
    before = listing(tmp_path)
    ran = run(*VERBS[verb](model, out))
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("graphrewrite: error: ") and ran.err.count("\n") == 1
    assert "Traceback" not in ran.err and "internal error" not in ran.err
    assert "bad.onnx" in ran.err
    assert listing(tmp_path) == before, "something was written, or the input was touched"


def listing(folder: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
        if path.is_file()
    }


# ------------------------------------------------------------------------------------- odd, but not bad


def custom_operator(path: Path) -> None:
    b = Builder()
    x = b.input(["n", 3, 8, 8], name="x")
    hidden = b.relu(b.conv(x, out=8, into=3, name="first"))
    odd = b.op("Mystery", b.conv(hidden, out=6, into=8, name="second"), domain="com.example", name="odd")
    b.model(odd).save(path)


def dynamic_everything(path: Path) -> None:
    b = Builder()
    x = b.input(["n", "c", "h", "w"], name="x")
    b.model(b.relu(b.op("MatMul", b.op("GlobalAveragePool", x), b.weight(1, 4)))).save(path)


def no_rank(path: Path) -> None:
    b = Builder()
    x = b.input([1], name="x")
    x.shape = None
    b.model(b.relu(x)).save(path)


def no_nodes(path: Path) -> None:
    b = Builder()
    b.model(b.input([2, 3], name="x")).save(path)


def no_inputs(path: Path) -> None:
    b = Builder()
    b.model(b.relu(b.constant(np.ones((2, 3), dtype=np.float32)))).save(path)


ODD: dict[str, Callable[[Path], None]] = {
    "custom operator": custom_operator,
    "dynamic everything": dynamic_everything,
    "no rank": no_rank,
    "no nodes": no_nodes,
    "no inputs": no_inputs,
}


@pytest.mark.parametrize(("kind", "verb"), list(itertools.product(ODD, VERBS)))
def test_odd_models_give_a_result_or_one_clear_line(run: Run, tmp_path: Path, kind: str, verb: str) -> None:
    model, out = tmp_path / "odd.onnx", tmp_path / "out.onnx"
    ODD[kind](model)
    before = listing(tmp_path)["odd.onnx"]
    ran = run(*VERBS[verb](model, out))
    assert "Traceback" not in ran.err and "internal error" not in ran.err
    assert listing(tmp_path)["odd.onnx"] == before
    if ran.code == 2:
        assert ran.err.count("\n") == 1
        assert not out.exists()
        assert kind == "custom operator" and verb in ("compare", "bench"), ran.err
    else:
        assert ran.code == 0
        if verb in ("tidy", "prune"):
            Model.load(out)


def test_around_a_custom_operator_pruning_goes_on(run: Run, tmp_path: Path) -> None:
    custom_operator(tmp_path / "odd.onnx")
    told = run(
        "prune", tmp_path / "odd.onnx", "-o", tmp_path / "out.onnx", "--ratio", "0.5", "--json"
    ).document
    first, second = Model.load(tmp_path / "out.onnx").nodes("Conv")
    assert (first.inputs[1].shape[0], second.inputs[1].shape[:2]) == (4, (6, 4))
    (node,) = Model.load(tmp_path / "out.onnx").nodes("Mystery")
    assert (node.domain, node.name) == ("com.example", "odd")
    assert any("Mystery" in reason for reason in told["pinned"].values())
    assert told["verified"]["how"] == "structure", "it cannot be run"


def test_random_damage_never_brings_a_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Flip bytes of a sound file: the outcome is a result or one line, whatever is hit."""
    content = bytearray(small_model().to_proto().SerializeToString())
    rng = np.random.default_rng(7)
    for trial in range(60):
        damaged = bytearray(content)
        for place in rng.integers(0, len(content), 3):
            damaged[place] = int(rng.integers(0, 256))
        model = tmp_path / f"{trial}.onnx"
        model.write_bytes(bytes(damaged))
        code = main(["inspect", str(model), "--groups"])
        printed = capsys.readouterr()
        assert code in (0, 2), printed.err
        assert "internal error" not in printed.err, (trial, printed.err)


def test_a_process_of_its_own_shows_no_traceback(tmp_path: Path) -> None:
    text(tmp_path / "bad.onnx")
    words = [
        sys.executable,
        "-P",
        "-m",
        "graphrewrite",
        "prune",
        "bad.onnx",
        "-o",
        "out.onnx",
        "--macs",
        "0.5",
    ]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)


@pytest.mark.parametrize(
    ("content", "word"),
    [(None, "no data"), (b"not a zip", "cannot be read"), ("folder", "holds no data")],
)
def test_bad_data_is_one_clear_line(
    run: Run, small: Path, tmp_path: Path, content: bytes | str | None, word: str
) -> None:
    data = tmp_path / "data.npz"
    if isinstance(content, bytes):
        data.write_bytes(content)
    elif content:
        data.mkdir()
    ran = run("prune", small, "-o", tmp_path / "out.onnx", "--macs", "0.5", "--data", data)
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert word in ran.err


def test_data_of_another_shape_is_told_what_was_expected(run: Run, small: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", x=np.zeros((4, 5, 8, 8), dtype=np.float32))
    ran = run("compare", small, small, "--data", tmp_path / "data.npz")
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert "[batch, 3, 8, 8]" in ran.err


def test_samples_to_test_on_are_opened_before_the_work(run: Run, small: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    ran = run(
        "factorize", small, "-o", out, "--method", "svd", "--smallest", "8", "--test", tmp_path / "none.npz"
    )
    assert ran.code == 2 and "there is no data at" in ran.err and not out.exists()


def test_samples_that_are_not_finite_are_no_defect_of_the_pass(run: Run, small: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "bad.npz", x=np.full((4, 3, 8, 8), np.nan, np.float32))
    words = ("--ratio", "0.5", "--data", tmp_path / "bad.npz", "--reconstruct", "least_squares")
    ran = run("prune", small, "-o", tmp_path / "out.onnx", *words)
    assert ran.code == 2 and "not finite" in ran.err and not (tmp_path / "out.onnx").exists()
