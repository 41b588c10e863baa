"""`graphrewrite finetune`."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from graphrewrite.cli.screen import Progressing, Screen
from graphrewrite.ir import Builder, Model
from graphrewrite.pipeline import METADATA_KEY, Pipeline
from tests.engine.cli.conftest import Run, small_model

pytest.importorskip("accelerate")

LABELS = {"stages": [{"epochs": 2, "rate": 0.01, "losses": ["cross_entropy"]}], "batch": 16}
TEACHER = {"stages": [{"epochs": 2, "rate": 0.01, "losses": ["soft_labels"]}], "batch": 16}


def net(seed: int = 0, classes: int = 4) -> Model:
    """Two products of random weights."""
    b = Builder(seed=seed)
    hidden = b.relu(b.linear(b.input(["N", 6], "x"), out=12, into=6, name="one"))
    return b.model(b.linear(hidden, out=classes, into=12, name="two"))


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.onnx"
    net().save(path)
    return path


@pytest.fixture
def big(tmp_path: Path) -> Path:
    path = tmp_path / "big.onnx"
    net(7).save(path)
    return path


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    """64 samples of four classes, told apart by which of four numbers is largest."""
    x = np.random.default_rng(0).standard_normal((64, 6)).astype(np.float32)
    path = tmp_path / "train.npz"
    np.savez(path, x=x, labels=x[:, :4].argmax(axis=1))
    return path


@pytest.fixture
def inputs(tmp_path: Path, samples: Path) -> Path:
    """The same without labels."""
    path = tmp_path / "inputs.npz"
    np.savez(path, x=np.load(samples)["x"])
    return path


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(LABELS))
    return path


def test_it_learns_the_labels_and_says_how(
    run: Run, small: Path, samples: Path, recipe: Path, tmp_path: Path
) -> None:
    stage = {"epochs": 20, "rate": 0.01, "losses": ["cross_entropy"]}
    recipe.write_text(json.dumps({"stages": [stage], "batch": 16}))
    out = tmp_path / "out.onnx"

    ran = run(
        "finetune", small, "-o", out, "--data", samples, "--recipe", recipe, "--test", samples, "--json"
    )

    told = ran.document
    assert ran.code == 0
    losses = [row["loss"] for row in told["history"]]
    assert len(losses) == 20 and losses[-1] < losses[0] / 2
    assert told["quality"]["after"]["correct"] > told["quality"]["before"]["correct"] + 12  # of 64
    assert told["verified"]["how"] == "runs"
    before, after = Model.load(small), Model.load(out)
    assert [node.op for node in after.nodes()] == [node.op for node in before.nodes()]
    assert Pipeline.from_json(after.metadata[METADATA_KEY]).steps
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "out.onnx", "recipe.json", "small.onnx", "train.npz",
    ]  # fmt: skip


def test_in_words_for_a_pipe(run: Run, small: Path, samples: Path, recipe: Path, tmp_path: Path) -> None:
    ran = run(
        "finetune",
        small,
        "-o",
        tmp_path / "out.onnx",
        "--data",
        samples,
        "--recipe",
        recipe,
        "--test",
        samples,
    )

    lines = ran.out.splitlines()
    assert lines[0] == f"{small} -> {tmp_path / 'out.onnx'}"
    assert any(line.startswith("accuracy ") for line in lines)
    (head,) = [
        number for number, line in enumerate(lines) if line.split() == ["stage", "epoch", "rate", "loss"]
    ]
    assert [line.split()[:2] for line in lines[head + 1 : head + 3]] == [["1", "1"], ["1", "2"]]
    assert ran.err == ""


def test_a_teacher_without_labels(
    run: Run, small: Path, big: Path, inputs: Path, recipe: Path, tmp_path: Path
) -> None:
    recipe.write_text(json.dumps(TEACHER))

    ran = run(
        "finetune", small, "-o", tmp_path / "out.onnx", "--data", inputs, "--recipe", recipe,
        "--teacher", big, "--validation", inputs, "--json",
    )  # fmt: skip

    assert ran.code == 0
    assert [row["measure"] for row in ran.document["history"]] == ["negative loss"] * 2
    (step,) = Pipeline.from_json(Model.load(tmp_path / "out.onnx").metadata[METADATA_KEY]).steps
    assert step.teacher == str(big)  # type: ignore[attr-defined]


def test_a_model_does_not_learn_from_itself_and_is_told_so(
    run: Run, small: Path, inputs: Path, recipe: Path, tmp_path: Path
) -> None:
    recipe.write_text(json.dumps(TEACHER))
    ran = run(
        "finetune",
        small,
        "-o",
        tmp_path / "out.onnx",
        "--data",
        inputs,
        "--recipe",
        recipe,
        "--teacher",
        small,
    )

    assert ran.code == 0
    assert "the teacher is this very model" in ran.out


def test_a_page_is_written(run: Run, small: Path, samples: Path, recipe: Path, tmp_path: Path) -> None:
    pytest.importorskip("jinja2")
    page = tmp_path / "page.html"

    ran = run(
        "finetune", small, "-o", tmp_path / "out.onnx", "--data", samples, "--recipe", recipe,
        "--test", samples, "--report", page,
    )  # fmt: skip

    assert ran.code == 0
    assert f"trained by {recipe}" in page.read_text(encoding="utf-8")


def refused(ran: object, *words: str) -> None:
    """Check that a command ended with one line of these words, and no traceback."""
    code, out, err = ran.code, ran.out, ran.err  # type: ignore[attr-defined]
    assert code == 2 and out == ""
    (line,) = err.splitlines()
    assert line.startswith("graphrewrite: error: ")
    for word in words:
        assert word in line


def test_what_is_missing_is_said_in_one_line(
    run: Run, small: Path, big: Path, samples: Path, inputs: Path, recipe: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.onnx"
    taught = tmp_path / "taught.json"
    taught.write_text(json.dumps(TEACHER))
    start = ("finetune", small, "-o", out)

    refused(run(*start, "--recipe", recipe), "--data")
    refused(run(*start, "--data", inputs, "--recipe", recipe), "CrossEntropy needs labels")
    refused(
        run(*start, "--data", inputs, "--recipe", taught), "SoftLabels learns from a teacher", "--teacher"
    )
    refused(
        run(*start, "--data", samples, "--recipe", recipe, "--teacher", big),
        "no loss of",
        "leave --teacher out",
    )
    refused(
        run(*start, "--data", samples, "--recipe", taught, "--teacher", tmp_path / "no.onnx"), "no teacher at"
    )
    refused(run(*start, "--data", samples, "--recipe", tmp_path / "no.json"), "cannot be read")
    assert not out.exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is not JSON"),
        ('{"stages": []}', "Recipe.stages is empty"),
        ('{"stages": [{"losses": ["cross_entrpy"]}]}', "cross_entropy"),
        ('{"stages": [{"epochs": 2, "losses": ["cross_entropy"]}], "bacth": 8}', "batch"),
        ('{"stages": [{"losses": ["cross_entropy"], "trainable": ["nothing.*"]}]}', "nothing.*"),
        ('{"stages": [{"losses": ["cross_entropy"]}], "optimiser": {"name": "adamm"}}', "adamm"),
        ('{"stages": [{"losses": ["cross_entropy"]}], "early_stop": {}}', "validation"),
    ],
)
def test_a_recipe_that_cannot_be_is_explained(
    run: Run, small: Path, samples: Path, recipe: Path, tmp_path: Path, text: str, words: str
) -> None:
    recipe.write_text(text)

    refused(run("finetune", small, "-o", tmp_path / "out.onnx", "--data", samples, "--recipe", recipe), words)


def test_an_operator_without_a_torch_form_is_named(
    run: Run, samples: Path, recipe: Path, tmp_path: Path
) -> None:
    b = Builder(seed=0)
    y = b.linear(b.input(["N", 6], "x"), out=4, into=6, name="one")
    path = tmp_path / "odd.onnx"
    b.model(b.op("Mystery", y, domain="some.where", name="riddle")).save(path)

    refused(
        run("finetune", path, "-o", tmp_path / "out.onnx", "--data", samples, "--recipe", recipe),
        "'riddle'", "Mystery",
    )  # fmt: skip


def test_data_that_does_not_fit_is_named(run: Run, samples: Path, recipe: Path, tmp_path: Path) -> None:
    path = tmp_path / "images.onnx"
    small_model().save(path)

    refused(run("finetune", path, "-o", tmp_path / "out.onnx", "--data", samples, "--recipe", recipe), "'x'")


def test_labels_beyond_the_classes_are_refused(run: Run, small: Path, recipe: Path, tmp_path: Path) -> None:
    path = tmp_path / "wrong.npz"
    np.savez(path, x=np.ones((8, 6), np.float32), labels=np.arange(8))

    refused(run("finetune", small, "-o", tmp_path / "out.onnx", "--data", path, "--recipe", recipe), "7")


def test_a_teacher_with_other_outputs_is_refused(
    run: Run, small: Path, inputs: Path, recipe: Path, tmp_path: Path
) -> None:
    recipe.write_text(json.dumps(TEACHER))
    other = tmp_path / "other.onnx"
    net(3, classes=5).save(other)

    refused(
        run(
            "finetune",
            small,
            "-o",
            tmp_path / "out.onnx",
            "--data",
            inputs,
            "--recipe",
            recipe,
            "--teacher",
            other,
        ),
        "the same outputs",
    )


def test_a_loss_that_is_no_number_says_where_it_arose(
    run: Run, small: Path, samples: Path, recipe: Path, tmp_path: Path
) -> None:
    recipe.write_text(
        json.dumps({"stages": [{"epochs": 3, "rate": 1e30, "losses": ["cross_entropy"]}], "batch": 16})
    )

    ran = run("finetune", small, "-o", tmp_path / "out.onnx", "--data", samples, "--recipe", recipe)

    refused(ran, "it began in", "lower the rate")
    assert not (tmp_path / "out.onnx").exists()


@pytest.mark.parametrize("which", ["recipe", "teacher", "validation"])
def test_no_input_is_overwritten(
    run: Run, small: Path, big: Path, samples: Path, inputs: Path, recipe: Path, which: str
) -> None:
    recipe.write_text(json.dumps(TEACHER))
    out = {"recipe": recipe, "teacher": big, "validation": inputs}[which]
    content = out.read_bytes()

    refused(
        run(
            "finetune", small, "-o", out, "--data", samples, "--recipe", recipe, "--teacher", big,
            "--validation", inputs,
        ),
        "is the input itself",
    )  # fmt: skip
    assert out.read_bytes() == content


@pytest.mark.parametrize("named", [True, False])
def test_an_interrupted_run_says_how_to_go_on_and_does(
    run: Run,
    small: Path,
    samples: Path,
    recipe: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    named: bool,
) -> None:
    out, folder = tmp_path / "out.onnx", tmp_path / ("work" if named else "out.onnx.work")
    words = ["finetune", small, "-o", out, "--data", samples, "--recipe", recipe]
    words += ["--workdir", folder] if named else []
    straight = tmp_path / "straight.onnx"
    run(*words[:3], straight, *words[4:8])
    steps: list[int] = []

    @contextmanager
    def stopped_once(self: Screen) -> Iterator[Progressing]:
        def told(step: str, done: int, total: int) -> None:
            if step == "stage 1":
                steps.append(done)
                if steps == [1, 2, 3, 4, 5, 6]:  # four steps are an epoch
                    raise KeyboardInterrupt

        yield told

    monkeypatch.setattr(Screen, "progress", stopped_once)

    first = run(*words)
    assert first.code == 130
    assert f"the last state is in {folder}; the same command goes on from there" in first.err
    assert "Traceback" not in first.err and not out.exists()
    steps.clear()
    assert run(*words).code == 0

    assert steps == [5, 6, 7, 8]
    assert out.read_bytes() == straight.read_bytes()
    assert folder.exists() == named


WITHOUT_TORCH = """
import sys

sys.modules["torch"] = None  # as if it were not installed
from graphrewrite.cli import main

sys.exit(main(sys.argv[1:]))
"""


def test_without_torch_the_extra_is_named(small: Path, samples: Path, recipe: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "out.onnx")
    words = ["finetune", str(small), "-o", out, "--data", str(samples), "--recipe", str(recipe)]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *words], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2
    assert 'pip install "graphrewrite[train]"' in done.stderr
    assert "Traceback" not in done.stderr
