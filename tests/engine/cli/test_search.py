"""`graphrewrite search`: what it finds, prints and writes, and what it refuses."""

import json
from pathlib import Path

import numpy as np
import pytest

from graphrewrite.cli import main
from graphrewrite.ir import Model
from tests.passes.search.nets import answered, net

SEARCH = {
    "pipeline": [{"pass": "remove_channels", "budget": {"name": "widths"}, "absorb": False}],
    "fields": {"0.budget.shares": {"group": {"options": [0.25, 0.5, 1.0]}}},
    "policy": {"name": "random", "batch": 4},
    "goal": {"below": {"macs": 0.6}},
    "evaluations": 9,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model, labelled samples and a search."""
    net().save(tmp_path / "model.onnx")
    samples = answered()
    assert samples.labels is not None
    np.savez(tmp_path / "judge.npz", x=samples.arrays["x"], labels=samples.labels)
    (tmp_path / "search.json").write_text(json.dumps(SEARCH))
    return tmp_path


def asked(folder: Path, *more: str) -> list[str]:
    """Return the words of a command."""
    words = [
        "search",
        str(folder / "search.json"),
        str(folder / "model.onnx"),
        "-o",
        str(folder / "out.onnx"),
    ]
    return [*words, "--judge", str(folder / "judge.npz"), "--threads", "1", *more]


def test_the_best_within_the_limit_is_written_and_told(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(asked(folder, "--json")) == 0
    told = json.loads(capsys.readouterr().out)
    found = told["search"]
    assert len(found["trials"]) == 9
    met = [row for row in found["trials"] if row["found"]["macs"] <= 0.6]
    assert found["best"]["found"]["accuracy"] == max(row["found"]["accuracy"] for row in met)
    assert told["macs_after"] <= 0.6 * told["macs_before"]
    assert Model.load(folder / "out.onnx").weights.keys() == net().weights.keys()
    assert not (folder / "out.onnx.work").exists()


def test_the_chosen_one_is_marked_among_those_nothing_beats(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    page = folder / "page.html"
    assert main(asked(folder, "--evaluations", "4", "--report", str(page))) == 0
    shown = capsys.readouterr().out
    assert shown.count("chosen  ") >= 1 and "tried 4 candidates" in shown
    assert "What was tried" in page.read_text()


def test_a_folder_that_is_named_is_kept_and_gone_on_from(folder: Path) -> None:
    work = folder / "work"
    assert main(asked(folder, "--evaluations", "3", "--workdir", str(work))) == 0
    (lines,) = [path.read_text().splitlines() for path in work.rglob("trials.jsonl")]
    assert len(lines) == 2 + 3


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("{", "not JSON"),
        ("[]", "holds no search"),
        (json.dumps({**SEARCH, "policy": "evolutoin"}), "evolution"),
        (json.dumps({**SEARCH, "fields": {"0.budgt": {"low": 1, "high": 2}}}), "budget"),
        (json.dumps({**SEARCH, "goal": {"below": {"macs": 0.001}}}), "the nearest has macs"),
        (json.dumps({**SEARCH, "evaluation": 3}), "evaluations"),
    ],
)
def test_a_search_that_cannot_be_is_one_line_and_no_file(
    folder: Path, capsys: pytest.CaptureFixture[str], document: str, message: str
) -> None:
    (folder / "search.json").write_text(document)
    assert main(asked(folder)) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error
    assert not (folder / "out.onnx").exists()


def test_samples_to_judge_by_are_asked_for(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = asked(folder)
    del words[words.index("--judge") : words.index("--judge") + 2]
    assert main(words) == 2
    assert "--judge" in capsys.readouterr().err
