"""`graphrewrite prune`."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from graphrewrite.errors import VerificationError
from graphrewrite.ir import Builder, Model
from graphrewrite.pipeline import Pipeline
from graphrewrite.runtime import run as run_model
from graphrewrite.runtime import sample_inputs
from tests.engine.cli.conftest import Run


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def pinned_model(path: Path) -> Path:
    """A single convolution between graph input and output: nothing of it may go."""
    b = Builder()
    x = b.input([1, 3, 4, 4], name="x")
    b.model(b.conv(x, out=4, into=3, name="only")).save(path)
    return path


def test_half_the_macs_are_left_and_the_cut_is_listed(run: Run, small: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    ran = run("prune", small, "-o", out, "--macs", "0.5", "--json")
    assert ran.code == 0
    told = ran.document
    # Every one of the 8 channels takes an eighth of all MACs with it, so four must go.
    assert (told["macs_before"], told["macs_after"]) == (32256, 16128)
    assert (told["params_before"], told["params_after"]) == (516, 4 * 27 + 4 + 4 * 4 * 9 + 4)
    assert told["verified"]["how"] == "reference"
    assert told["verified"]["error"] < 1e-5
    assert told["seconds"] > 0
    first, second = Model.load(out).nodes("Conv")
    weight, bias, reader = first.inputs[1], first.inputs[2], second.inputs[1]
    kept = told["kept"][weight.name]["0"]
    assert len(kept) == 4 == weight.shape[0]
    assert told["kept"][bias.name] == {"0": kept}
    assert told["kept"][reader.name] == {"1": kept}
    original = Model.load(small)
    assert np.array_equal(np.asarray(original.weights[weight.name])[kept], weight.values)
    assert set(told["pinned"].values()) and all(
        "second" in entry or "w" in entry or "c_" in entry for entry in told["pinned"]
    )


def test_what_is_left_alone_is_in_text_and_json(run: Run, small: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    told = run("prune", small, "-o", out, "--macs", "0.5", "--json").document
    assert {entry["subject"] for entry in told["left"]} >= set(told["pinned"])
    text = run("prune", small, "-o", out, "--macs", "0.5").out
    assert "left alone, by reason" in text
    assert "graph output" in text and "graph input" in text
    assert "4 of 8 units in 1 group" in text


def test_the_written_model_runs_at_any_batch(run: Run, small: Path, tmp_path: Path) -> None:
    run("prune", small, "-o", tmp_path / "out.onnx", "--ratio", "0.5")
    model = Model.load(tmp_path / "out.onnx")
    for size in (1, 7):
        x = np.ones((size, 3, 8, 8), dtype=np.float32)
        assert run_model(model, {"x": x})["second_out"].shape == (size, 4, 8, 8)


@pytest.mark.parametrize(
    ("words", "left"),
    [
        (["--ratio", "0.75"], 6),
        (
            ["--params", "0.5"],
            3,
        ),  # 4 + 64 for each channel, of 516: four channels would be 260, more than half
        (["--macs", "0.9", "--multiple", "4"], 4),
        (["--macs", "1"], 8),
        (["--macs", "0.3", "--scope", "uniform"], 2),
    ],
)
def test_budgets_and_steps(run: Run, small: Path, tmp_path: Path, words: list[str], left: int) -> None:
    told = run("prune", small, "-o", tmp_path / "out.onnx", *words, "--json").document
    assert told["groups"][0]["kept"] == left if left < 8 else told["changed"] is False


@pytest.mark.slow
def test_a_latency_budget_is_measured(run: Run, small: Path, tmp_path: Path) -> None:
    ran = run("prune", small, "-o", tmp_path / "out.onnx", "--latency", "1", "--threads", "1", "--json")
    assert ran.code == 0
    assert ran.document["budget"] == {
        "asked": "at most 1 of the latency, measured here, criterion l2, absorb",
        "kind": "latency_below",
        "fraction": 1.0,
    }


@pytest.mark.parametrize("value", ["0", "1.5", "-0.5", "nan", "half", "50%"])
def test_a_budget_outside_zero_to_one_is_refused(run: Run, small: Path, tmp_path: Path, value: str) -> None:
    ran = run("prune", small, "-o", tmp_path / "out.onnx", f"--macs={value}")
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert value in ran.err
    assert names(tmp_path) == {"small.onnx"}


def test_an_impossible_budget_says_what_can_be_reached(run: Run, small: Path, tmp_path: Path) -> None:
    ran = run("prune", small, "-o", tmp_path / "out.onnx", "--macs", "0.01")
    assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert "0.125" in ran.err, "one of eight channels has to stay"
    assert names(tmp_path) == {"small.onnx"}


def test_one_budget_is_needed_and_no_more(run: Run, small: Path, tmp_path: Path) -> None:
    assert run("prune", small, "-o", tmp_path / "out.onnx").code == 2
    assert run("prune", small, "-o", tmp_path / "out.onnx", "--macs", "0.5", "--ratio", "0.5").code == 2


def test_an_unknown_criterion_lists_the_nearest(run: Run, small: Path, tmp_path: Path) -> None:
    ran = run("prune", small, "-o", tmp_path / "out.onnx", "--macs", "0.5", "--criterion", "geometric")
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert "geometric_median" in ran.err


def test_a_skip_pattern_keeps_a_group_and_says_so(run: Run, small: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    ran = run("prune", small, "-o", out, "--ratio", "0.5", "--skip", "firs*", "--json")
    assert ran.code == 0
    assert ran.document["changed"] is False
    assert any("firs*" in entry["reason"] for entry in ran.document["left"])
    assert "nothing could be changed" in ran.err
    assert run("prune", small, "-o", out, "--ratio", "0.5", "--skip", "nothing_here").code == 2


def test_only_units_of_the_kinds_named_go(run: Run, small: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    ran = run("prune", small, "-o", out, "--ratio", "0.5", "--units", "channels,heads", "--json")
    assert [(row["kind"], row["units"], row["kept"]) for row in ran.document["groups"]] == [
        ("channels", 8, 4)
    ]
    whole = run("prune", small, "-o", tmp_path / "whole.onnx", "--ratio", "0.5", "--units", "mlp", "--json")
    assert not whole.document["changed"]
    wrong = run("prune", small, "-o", out, "--ratio", "0.5", "--units", "chanels")
    assert wrong.code == 2 and "did you mean 'channels'" in wrong.err
    assert run("prune", small, "-o", out, "--ratio", "0.5", "--units", "mlp,").code == 2


def test_strict_exits_with_three_and_writes_nothing(run: Run, tmp_path: Path) -> None:
    model = pinned_model(tmp_path / "pinned.onnx")
    ran = run("prune", model, "-o", tmp_path / "out.onnx", "--ratio", "0.5", "--strict")
    assert ran.code == 3
    assert "nothing could be changed" in ran.err
    assert "graph output" in ran.out, "the reason"
    assert names(tmp_path) == {"pinned.onnx"}


def test_without_strict_a_copy_is_written_and_that_is_said(run: Run, tmp_path: Path) -> None:
    model = pinned_model(tmp_path / "pinned.onnx")
    ran = run("prune", model, "-o", tmp_path / "out.onnx", "--ratio", "0.5")
    assert ran.code == 0
    assert "is a copy" in ran.err
    feeds = sample_inputs(Model.load(model))
    (one,), (other,) = (
        run_model(Model.load(path), feeds).values() for path in (model, tmp_path / "out.onnx")
    )
    assert np.array_equal(one, other)


def test_data_is_used_for_criteria_and_reconstruction(run: Run, small: Path, tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((64, 3, 8, 8)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=x)
    words = ["-o", tmp_path / "out.onnx", "--macs", "0.5", "--criterion", "activation_variance"]
    assert "--data" in run("prune", small, *words).err
    ran = run(
        "prune", small, *words, "--data", tmp_path / "data.npz", "--reconstruct", "least_squares", "--json"
    )
    assert ran.code == 0
    assert ran.document["compensated"] == ["second"]
    missing = run(
        "prune", small, "-o", tmp_path / "out.onnx", "--macs", "0.5", "--reconstruct", "least_squares"
    )
    assert (missing.code, missing.err.count("\n")) == (2, 1)


def test_held_out_samples_give_agreement_and_accuracy(run: Run, tmp_path: Path) -> None:
    b = Builder()
    x = b.input(["n", 6], name="x")
    b.model(b.linear(b.relu(b.linear(x, out=8, into=6)), out=3, into=8)).save(tmp_path / "net.onnx")
    samples = np.random.default_rng(0).standard_normal((50, 6)).astype(np.float32)
    scores = run_model(Model.load(tmp_path / "net.onnx"), {"x": samples})
    np.savez(tmp_path / "test.npz", x=samples, labels=next(iter(scores.values())).argmax(axis=1))
    words = [
        "prune",
        tmp_path / "net.onnx",
        "-o",
        tmp_path / "out.onnx",
        "--ratio",
        "0.5",
        "--test",
        tmp_path / "test.npz",
    ]
    quality = run(*words, "--json").document["quality"]
    assert (quality["before"]["correct"], quality["before"]["total"]) == (50, 50)
    assert quality["after"]["correct"] < 50
    assert quality["after"]["correct"] == round(50 * quality["agreement"][0]["same_top"])
    assert "accuracy" in run(*words).out


def test_the_report_is_written_and_named(run: Run, small: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    pytest.importorskip("jinja2")
    page = tmp_path / "report.html"
    ran = run("prune", small, "-o", tmp_path / "out.onnx", "--macs", "0.5", "--report", page, "--json")
    assert ran.code == 0
    html = page.read_text(encoding="utf-8")
    assert html.count("<svg") == 3
    assert digest(small) in html and digest(tmp_path / "out.onnx") in html
    assert ran.document["latency"]["after"]["median"] > 0
    assert names(tmp_path) == {"small.onnx", "out.onnx", "report.html"}


def test_a_pruned_model_says_how_it_was_made_and_run_repeats_it(
    run: Run, small: Path, tmp_path: Path
) -> None:
    run("prune", small, "-o", tmp_path / "once.onnx", "--macs", "0.5")
    facts = run("inspect", tmp_path / "once.onnx", "--json").document
    pipeline = tmp_path / "pipeline.json"
    pipeline.write_text(facts["metadata"]["graphrewrite.pipeline"])
    assert json.loads(pipeline.read_text())["steps"][0]["pass"] == "remove_channels"
    assert run("run", pipeline, small, "-o", tmp_path / "twice.onnx").code == 0
    assert run("compare", tmp_path / "once.onnx", tmp_path / "twice.onnx", "--rtol", "0").code == 0


def test_the_same_seed_gives_the_same_file(run: Run, small: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run(
            "prune",
            small,
            "-o",
            tmp_path / name,
            "--ratio",
            "0.5",
            "--criterion",
            "random",
            "--seed",
            str(seed),
        )
    assert digest(tmp_path / "a") == digest(tmp_path / "b") != digest(tmp_path / "c")


# ------------------------------------------------------------------------------------------------------------ safety


def test_the_input_is_never_touched(run: Run, small: Path, tmp_path: Path) -> None:
    before = digest(small)
    run("prune", small, "-o", tmp_path / "out.onnx", "--macs", "0.5")
    assert digest(small) == before


def test_the_input_cannot_be_the_output(run: Run, small: Path, tmp_path: Path) -> None:
    before = digest(small)
    link, hard = tmp_path / "link.onnx", tmp_path / "hard.onnx"
    link.symlink_to(small)
    hard.hardlink_to(small)
    for out in (small, link, hard, tmp_path / "." / "small.onnx"):
        ran = run("prune", small, "-o", out, "--macs", "0.5")
        assert (ran.code, ran.err.count("\n")) == (2, 1)
        assert "the input itself" in ran.err
    assert digest(small) == before


def test_the_data_file_of_the_input_cannot_be_replaced(run: Run, tmp_path: Path) -> None:
    import onnx

    from tests.engine.cli.conftest import small_model

    onnx.save_model(
        small_model().to_proto(),
        str(tmp_path / "in.onnx"),
        save_as_external_data=True,
        location="out.onnx.data",
        size_threshold=0,
    )
    before = digest(tmp_path / "out.onnx.data")
    ran = run("prune", tmp_path / "in.onnx", "-o", tmp_path / "out.onnx", "--macs", "0.5")
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert digest(tmp_path / "out.onnx.data") == before


@pytest.mark.parametrize("out", ["missing/out.onnx", ".", "", "-", "/dev/null"])
def test_an_output_that_cannot_be_is_refused_first(run: Run, small: Path, tmp_path: Path, out: str) -> None:
    ran = run("prune", small, "-o", out if out in ("", "-", "/dev/null") else tmp_path / out, "--macs", "0.5")
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert names(tmp_path) == {"small.onnx"}


def test_the_report_cannot_replace_a_model(run: Run, small: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    for report in (small, out):
        assert run("prune", small, "-o", out, "--macs", "0.5", "--report", report).code == 2
    assert names(tmp_path) == {"small.onnx"}


def test_a_failed_check_exits_with_one_and_writes_nothing(
    run: Run, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise VerificationError("the step remove_channels broke its promise")

    monkeypatch.setattr(Pipeline, "run", broken)
    ran = run("prune", small, "-o", tmp_path / "out.onnx", "--macs", "0.5")
    assert (ran.code, ran.err.count("\n")) == (1, 1)
    assert names(tmp_path) == {"small.onnx"}


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_while_writing_leaves_what_was_there(
    run: Run, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    out = tmp_path / "out.onnx"
    out.write_bytes(b"an earlier model")

    def full(*_: object) -> None:
        raise error

    monkeypatch.setattr("os.fsync", full)
    ran = run("prune", small, "-o", out, "--macs", "0.5")
    assert ran.code == (130 if isinstance(error, KeyboardInterrupt) else 2)
    assert out.read_bytes() == b"an earlier model"
    assert names(tmp_path) == {"small.onnx", "out.onnx"}
