"""Every slot of onnxruntime's function table that we name, called on a live session and compared with the Python API.

A slot number that is off by one calls another function; what comes back here then differs from what the model holds.
"""

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.custom_ops.runtimes.compiled import ROOT, shared_library
from tests.custom_ops.runtimes.installed import OLDEST, TOO_OLD, Result, runtime

ABI = ROOT / "custom_ops" / "abi" / "ort.h"
WALKER = Path(__file__).with_name("walker.cc")
RELEASES = [
    "installed",
    pytest.param(OLDEST, marks=pytest.mark.slow),
    pytest.param("newest", marks=pytest.mark.slow),
]
X = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
CONSTANT = [7, -8, 9, 2**33]
INT, FLOAT, TEXT, INTS, FLOATS = -(2**62) + 1, 0.1, "gr\u00fcn", [3, -1, 2**40], [1.5, -2.25]


def walker() -> str:
    """Return the library of the test operators."""
    return str(shared_library(WALKER, includes=[ROOT / "custom_ops"]))


def model(path: Path, fail: int = 0, churn: int = 0) -> str:
    """Write a model of one Walk node and return its path."""
    node = helper.make_node(
        "Walk",
        ["x", "w"],
        ["report", "y"],
        name="a walking node",
        domain="graphrewrite.test",
        an_int=INT,
        a_float=FLOAT,
        a_string=TEXT,
        some_ints=INTS,
        some_floats=FLOATS,
        fail=fail,
        churn=churn,
    )
    graph = helper.make_graph(
        [node],
        "walk",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3])],
        [
            helper.make_tensor_value_info("report", TensorProto.UINT8, None),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, None),
        ],
        [numpy_helper.from_array(np.array(CONSTANT), "w")],
    )
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("graphrewrite.test", 1)]
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=8), path)
    return str(path)


def outputs(result: Result) -> list[list[object]]:
    """Return what a session gave, or fail with what it said instead."""
    assert "error" not in result, result
    found = result["outputs"]
    assert isinstance(found, list)
    return found


@pytest.mark.parametrize("release", RELEASES)
def test_every_slot_does_what_its_name_says(release: str, tmp_path: Path) -> None:
    step = {"model": model(tmp_path / "walk.onnx"), "library": walker(), "feed": {"x": X}, "threads": 2}

    _, (result,), _ = runtime(release).walk([step])

    raw, doubled = outputs(result)
    lines = bytes(byte for byte in raw if isinstance(byte, int)).decode().splitlines()
    assert dict(line.split(" ", 1) for line in lines) == {
        "same_table": "1",
        "node_name": "a walking node",
        "info_input_count": "2",
        "attribute_int": str(INT),
        "attribute_float": "0.1",
        "attribute_string": TEXT,
        "attribute_ints": "3 -1 1099511627776",
        "attribute_floats": "1.5 -2.25",
        "constant_input.0": "0",
        "constant_input.1": "1",
        "constant.element": "7",
        "constant.dims": "4",
        "constant.symbols": "-",
        "constant.data": "7 -8 9 8589934592",
        "refused": "1",
        "input_count": "2",
        "x.element": "1",
        "x.dims": "2 3",
        "x.symbols": "- -",
        "parallel_for": "64",
        "infer_input_count": "2",
        "infer_input.element": "1",
        "infer_input.dims": "-1 3",
        "infer_input.symbols": "N -",
        "read_attribute.integer": str(INT),
        "read_attribute.integers": "3 -1 1099511627776",
        "read_attribute.real": "0.1",
        "read_attribute.reals": "1.5 -2.25",
        "read_attribute.text": TEXT,
        "read_attribute.refused": "24",
        "made.0.element": "2",
        "made.0.dims": "-1",
        "made.0.symbols": "length",
        "made.1.element": "1",
        "made.1.dims": "-1 3",
        "made.1.symbols": "batch -",
    }
    assert doubled == [[2.0, 4.0, 6.0], [8.0, 10.0, 12.0]]
    # What the slots told us is what Python is told of the same session, and what shape inference set arrived.
    assert result["inputs"] == [["x", "tensor(float)", ["N", 3]]]
    assert result["signature"] == [
        ["report", "tensor(uint8)", ["length"]],
        ["y", "tensor(float)", ["batch", 3]],
    ]


@pytest.mark.parametrize("release", RELEASES)
def test_a_status_carries_code_and_text_and_is_freed(release: str, tmp_path: Path) -> None:
    failing = {"model": model(tmp_path / "fail.onnx", fail=1), "library": walker(), "feed": {"x": X}}
    calm = {"model": model(tmp_path / "calm.onnx"), "library": walker(), "feed": {"x": X}}
    churning = {"model": model(tmp_path / "churn.onnx", churn=50_000), "library": walker(), "feed": {"x": X}}

    _, (failed, before, after), _ = runtime(release).walk([failing, calm, churning])

    assert failed["kind"] == "InvalidArgument"
    assert "Name:'a walking node'" in str(failed["error"])
    assert str(failed["error"]).endswith("failed because it was asked to")
    # 50 000 statuses of 2 kB and as many shapes of 200 sizes: 180 MB if nobody freed them.
    assert outputs(before) and outputs(after)
    assert int(str(after["most_memory"])) - int(str(before["most_memory"])) < 40e6


def slots() -> dict[str, int]:
    """Return the slots the project declares, by name."""
    text = ABI.read_text(encoding="utf-8")
    body = re.search(r"enum class Slot[^{]*\{(.*?)\};", text, re.S)
    assert body is not None
    return {name: int(number) for name, number in re.findall(r"(\w+) = (\d+)", body[1])}


def test_no_slot_is_left_out_of_the_walk() -> None:
    called = set(re.findall(r"\bapi\.(\w+)\(", WALKER.read_text(encoding="utf-8")))
    assert len(slots()) > 30
    assert sorted(set(slots()) - called) == []


def test_no_two_names_share_a_slot() -> None:
    assert len(set(slots().values())) == len(slots())


@pytest.mark.slow
def test_a_runtime_that_is_too_old_is_told_what_to_do(library: Path, tmp_path: Path) -> None:
    step = {"model": model(tmp_path / "walk.onnx"), "library": str(library), "feed": {"x": X}}

    version, (result,), _ = runtime(TOO_OLD).walk([step])

    assert version == TOO_OLD
    assert "need onnxruntime 1.17 or newer" in str(result["error"])
    assert TOO_OLD in str(result["error"])


@pytest.mark.parametrize("release", RELEASES)
def test_the_library_is_taken_without_a_word(release: str, library: Path, tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "relu",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    path = tmp_path / "relu.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)

    _, (result,), errors = runtime(release).walk(
        [{"model": str(path), "library": str(library), "feed": {"x": X}}]
    )

    assert outputs(result) == [X]
    assert errors == ""
