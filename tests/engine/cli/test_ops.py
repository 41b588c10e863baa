"""`graphrewrite ops`."""

from pathlib import Path

import onnxruntime as ort
import pytest

from graphrewrite import custom_ops
from tests.engine.cli.conftest import Run
from tests.support.kernels import needs_library


def test_every_operator_is_listed_as_it_declares_itself(run: Run) -> None:
    document = run("ops", "--json").document
    assert document["onnxruntime"] == ort.__version__
    assert [entry["name"] for entry in document["operators"]] == list(custom_ops.ops())
    (signs,) = (entry for entry in document["operators"] if entry["name"] == "PackSigns")
    assert (signs["version"], signs["attributes"]) == (1, [])
    assert [(port["name"], port["type"]) for port in signs["inputs"] + signs["outputs"]] == [
        ("x", "float"),
        ("bits", "uint32"),
    ]


@needs_library
def test_the_library_has_a_kernel_for_each_and_uses_the_best_instruction_set(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GRAPHREWRITE_ISA", raising=False)
    document = run("ops", "--json").document
    assert document["library"] == str(custom_ops.library_path())
    assert all(entry["kernel"] for entry in document["operators"])
    assert document["isas"][0] == "scalar"
    assert document["isa"] == document["isas"][-1]
    assert document["why_not"] == ""


@needs_library
def test_an_instruction_set_that_is_forced_is_the_one_that_is_used(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRAPHREWRITE_ISA", "scalar")
    ran = run("ops")
    assert "instruction set  scalar, of scalar" in ran.out
    monkeypatch.setenv("GRAPHREWRITE_ISA", "mmx")
    ran = run("ops", "--json")
    assert ran.document["isa"] is None
    assert "GRAPHREWRITE_ISA is 'mmx'" in ran.err
    assert "scalar" in ran.err


def test_without_a_library_the_function_bodies_are_named(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GRAPHREWRITE_LIBRARY", str(tmp_path / "nothing.so"))
    ran = run("ops")
    assert ran.code == 0
    assert "library          none" in ran.out
    assert "  function body  " in ran.out
    assert "  kernel  " not in ran.out
    assert "which is no file" in ran.err


@needs_library
def test_a_library_that_lacks_an_operator_says_so(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    stranger = custom_ops.OpSpec("pack_signs", "PackNothing", 1, "", *3 * ((),))
    signs = custom_ops.find("PackSigns")
    monkeypatch.setattr(
        "graphrewrite.custom_ops.presence.ops", lambda: {"PackNothing": stranger, "PackSigns": signs}
    )
    document = run("ops", "--json").document
    kernels = {entry["name"]: entry["kernel"] for entry in document["operators"]}
    assert kernels["PackSigns"]
    assert sum(kernels.values()) == 1


def test_one_operator_is_shown_in_full(run: Run) -> None:
    ran = run("ops", "PackSigns")
    assert "[N, C, ...]" in ran.out
    assert "input" in ran.out and "output" in ran.out


def test_a_misspelt_operator_is_refused_with_the_names(run: Run) -> None:
    ran = run("ops", "PackSings")
    assert ran.code == 2
    assert "PackSigns" in ran.err
