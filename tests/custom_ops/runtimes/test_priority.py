"""Which of the two runs, kernel or function body: that one file runs anywhere rests on what onnxruntime answers.

The ONNX text leaves it to the runtime, so every answer is pinned on the oldest and on the newest supported release.
The body of Probe adds 1, its kernel adds 100.
"""

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from tests.custom_ops.runtimes.installed import OLDEST, Result, runtime
from tests.custom_ops.runtimes.test_slots import walker

RELEASES = [
    "installed",
    pytest.param(OLDEST, marks=pytest.mark.slow),
    pytest.param("newest", marks=pytest.mark.slow),
]
BODY, KERNEL = [[2.0, 3.0]], [[101.0, 102.0]]


def model(path: Path, version: int = 1, has_body: bool = True, element: int = TensorProto.FLOAT) -> str:
    """Write a model of one Probe node that asks for this version of the domain; return its path."""
    graph = helper.make_graph(
        [helper.make_node("Probe", ["x"], ["y"], name="probe", domain="graphrewrite.test")],
        "probe",
        [helper.make_tensor_value_info("x", element, ["N"])],
        [helper.make_tensor_value_info("y", element, ["N"])],
    )
    body = [
        helper.make_node("Constant", [], ["one"], value_float=1.0),
        helper.make_node("CastLike", ["one", "x"], ["alike"]),
        helper.make_node("Add", ["x", "alike"], ["y"]),
    ]
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("graphrewrite.test", version)]
    function = helper.make_function("graphrewrite.test", "Probe", ["x"], ["y"], body, imports[:1])
    functions = [function] if has_body else []
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=8, functions=functions), path)
    return str(path)


def probe(
    release: str,
    path: str,
    served: str | None = "1:2147483647",
    name: str = "Probe",
    **more: object,
) -> Result:
    """Run the model; `served` is the range of versions the library's operator has, None for no library."""
    step = {
        "model": path,
        "library": None if served is None else walker(),
        "feed": {"x": [1.0, 2.0]},
        "environment": {"PROBE_VERSIONS": served or "1:1", "PROBE_NAME": name},
        **more,
    }
    _, (result,), _ = runtime(release).walk([step])
    return result


pytestmark = pytest.mark.parametrize("release", RELEASES)


def test_without_a_library_the_body_runs(release: str, tmp_path: Path) -> None:
    assert probe(release, model(tmp_path / "m.onnx"), served=None)["outputs"] == BODY


@pytest.mark.parametrize("optimize", [True, False])
def test_a_registered_kernel_wins_over_the_body(release: str, optimize: bool, tmp_path: Path) -> None:
    assert probe(release, model(tmp_path / "m.onnx"), optimize=optimize)["outputs"] == KERNEL


def test_a_kernel_needs_no_body(release: str, tmp_path: Path) -> None:
    path = model(tmp_path / "m.onnx", has_body=False)
    assert probe(release, path)["outputs"] == KERNEL
    assert "Probe" in str(probe(release, path, served=None)["error"])


def test_an_older_model_keeps_its_body_where_the_library_serves_a_newer_version_only(
    release: str, tmp_path: Path
) -> None:
    assert probe(release, model(tmp_path / "m.onnx", version=1), served="2:2147483647")["outputs"] == BODY


def test_a_newer_operator_keeps_its_body_where_an_older_library_lacks_it(
    release: str, tmp_path: Path
) -> None:
    assert probe(release, model(tmp_path / "m.onnx"), name="Other")["outputs"] == BODY


@pytest.mark.parametrize("served", ["1:1", "1:2147483647"])
def test_a_newer_model_is_given_the_older_kernel_even_past_its_last_version(
    release: str, served: str, tmp_path: Path
) -> None:
    # Not what one would hope: the newest version that is not newer than the model's is taken, and the end of its range
    # is not looked at. Hence a changed meaning needs a new operator name; a new version alone would be misread here.
    assert probe(release, model(tmp_path / "m.onnx", version=2), served=served)["outputs"] == KERNEL


def test_another_element_type_is_an_error_and_no_way_back_to_the_body(release: str, tmp_path: Path) -> None:
    path = model(tmp_path / "m.onnx", element=TensorProto.DOUBLE)
    assert "tensor(double)" in str(probe(release, path)["error"])
    assert probe(release, path, served=None, feed_type="float64")["outputs"] == BODY


def test_registering_twice_is_refused(release: str, tmp_path: Path) -> None:
    assert "already" in str(probe(release, model(tmp_path / "m.onnx"), registrations=2)["error"])


def test_several_sessions_and_threads_share_one_library(release: str, tmp_path: Path) -> None:
    result = probe(release, model(tmp_path / "m.onnx"), sessions=3, at_once=2, runs=20, threads=2)
    assert result["outputs"] == KERNEL
    assert result["all_alike"] is True
