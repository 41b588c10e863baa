"""`graphrewrite run`."""

import json
from pathlib import Path

import pytest

from graphrewrite.ir import Model
from tests.engine.cli.conftest import Run

HALF = {"pass": "remove_channels", "budget": {"name": "ratio", "fraction": 0.5}}


def written(path: Path, document: object) -> Path:
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


@pytest.mark.parametrize("document", [HALF, [HALF], {"pass": "pipeline", "steps": [HALF], "verify": "full"}])
def test_a_pass_a_list_and_a_pipeline_are_all_pipelines(
    run: Run, small: Path, tmp_path: Path, document: object
) -> None:
    ran = run("run", written(tmp_path / "p.json", document), small, "-o", tmp_path / "out.onnx", "--json")
    assert ran.code == 0
    assert Model.load(tmp_path / "out.onnx").nodes("Conv")[0].inputs[1].shape[0] == 4
    (step,) = ran.document["steps"]
    assert (step["name"], step["verified"]["how"]) == ("remove_channels", "reference")
    assert ran.document["details"][0]["kept"]


def test_every_step_has_a_row(run: Run, small: Path, tmp_path: Path) -> None:
    text = run("run", written(tmp_path / "p.json", [HALF, HALF]), small, "-o", tmp_path / "out.onnx").out
    assert sum(line.startswith("remove_channels") for line in text.splitlines()) == 2
    assert "total" in text


@pytest.mark.parametrize(
    ("document", "word"),
    [
        ("{", "not JSON"),
        ('{"pass": "remove_chanels"}', "remove_channels"),
        ('{"pass": "remove_channels", "budgett": 1}', "budget"),
        ('{"pass": "remove_channels", "budget": {"name": "ratio", "fraction": 7}}', "7"),
        ("[" * 100_000, "not JSON"),
        ("3", "must be a pass"),
    ],
)
def test_a_bad_pipeline_is_one_line(run: Run, small: Path, tmp_path: Path, document: str, word: str) -> None:
    ran = run("run", written(tmp_path / "p.json", document), small, "-o", tmp_path / "out.onnx")
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert word in ran.err
    assert not (tmp_path / "out.onnx").exists()


def test_a_pipeline_that_is_no_text_is_one_line(run: Run, small: Path, tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing.json", small):
        ran = run("run", path, small, "-o", tmp_path / "out.onnx")
        assert (ran.code, ran.err.count("\n")) == (2, 1)


def test_the_pipeline_file_cannot_be_the_output(run: Run, small: Path, tmp_path: Path) -> None:
    pipeline = written(tmp_path / "p.json", HALF)
    assert run("run", pipeline, small, "-o", pipeline).code == 2
    assert json.loads(pipeline.read_text()) == HALF


def test_strict_holds_for_pipelines_too(run: Run, small: Path, tmp_path: Path) -> None:
    ran = run("run", written(tmp_path / "p.json", []), small, "-o", tmp_path / "out.onnx", "--strict")
    assert ran.code == 3


def test_a_finished_step_is_not_run_again(run: Run, small: Path, tmp_path: Path) -> None:
    words = [
        "run",
        written(tmp_path / "p.json", [HALF]),
        small,
        "-o",
        tmp_path / "out.onnx",
        "--workdir",
        tmp_path / "work",
    ]
    assert run(*words).code == 0
    again = run(*words, "--json")
    assert again.code == 0
    assert again.document["changed"] is True
    other = run(*words, "--seed", "5")
    assert (other.code, other.err.count("\n")) == (2, 1)
