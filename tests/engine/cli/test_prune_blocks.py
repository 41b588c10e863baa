"""`graphrewrite prune --units blocks`, and `--may-change`: whole blocks, and inputs and outputs that become shorter."""

from pathlib import Path

import numpy as np
import pytest

from graphrewrite.ir import Model
from graphrewrite.runtime import run as run_model
from graphrewrite.runtime import sample_inputs
from tests.engine.cli.conftest import Run
from tests.passes.blocks.drawn import resnet, transformer
from tests.passes.blocks.joined import inception
from tests.passes.channels.nets import tower
from tests.passes.channels.transformers import HEADS, cached


@pytest.fixture
def deep(tmp_path: Path) -> Path:
    path = tmp_path / "deep.onnx"
    resnet().save(path)
    return path


def test_half_the_blocks_of_every_stage_go(run: Run, deep: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    ran = run("prune", deep, "-o", out, "--ratio", "0.5", "--units", "blocks", "--json")
    told = ran.document

    assert ran.code == 0 and told["verified"]["how"] == "reference" and told["verified"]["error"] <= 1e-5
    # Three blocks a stage: two stay of each.
    gone = [row["name"] for row in told["blocks"] if row["removed"]]
    assert sorted(name[0] for name in gone) == ["a", "b"] and len(told["blocks"]) == 6
    saved = sum(row["macs"] for row in told["blocks"] if row["removed"])
    assert told["macs_before"] - told["macs_after"] == saved > 0
    left = {node.name for node in Model.load(out).nodes()}
    assert {row["name"] for row in told["blocks"]} - left == set(gone)
    assert (
        told["budget"]["asked"]
        == "whole blocks, at most 0.5 of the blocks of every stage, rounded up, criterion l2"
    )


def test_branches_and_a_table_of_all_blocks(run: Run, tmp_path: Path) -> None:
    model, out = tmp_path / "joined.onnx", tmp_path / "out.onnx"
    inception().save(model)
    ran = run("prune", model, "-o", out, "--macs", "0.8", "--units", "blocks", "--verbose")

    assert ran.code == 0 and "1 of 6 blocks" in ran.out and "advice" not in ran.out
    (row,) = [line for line in ran.out.splitlines() if line.endswith("  removed")]
    assert row.startswith("module0[1]  concat")
    assert [len(node.inputs) for node in Model.load(out).nodes("Concat")] == [2, 3]


def test_other_words_for_blocks(run: Run, deep: Path, tmp_path: Path) -> None:
    """Criterion, samples, floor and patterns reach the pass; without anything that may go nothing changes."""
    model, out, data = tmp_path / "model.onnx", tmp_path / "out.onnx", tmp_path / "data.npz"
    transformer(2).save(model)
    np.savez(data, **sample_inputs(Model.load(model), 0))  # type: ignore[arg-type]
    words = ("--ratio", "0.5", "--units", "blocks", "--criterion", "block_influence", "--data", data)
    told = run("prune", model, "-o", out, *words, "--skip", "sum0*", "--json").document
    assert {row["name"]: row["removed"] for row in told["blocks"]} == {
        "sum0.attention": False,
        "sum0.mlp": False,
        "sum1.attention": True,
        "sum1.mlp": True,
    }
    kept = run("prune", deep, "-o", out, "--ratio", "0.5", "--units", "blocks", "--floor", "0.9", "--strict")
    assert kept.code == 3


def test_a_page_of_blocks(run: Run, deep: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    words = ("--ratio", "0.5", "--units", "blocks", "--report", page)
    assert run("prune", deep, "-o", tmp_path / "out.onnx", *words).code == 0
    assert "whole blocks, at most 0.5" in page.read_text()


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--units", "blocks,mlp"], "--units names blocks and mlp; expected blocks alone"),
        (["--units", "blocks", "--multiple", "8"], "--multiple is about channels"),
        (["--units", "blocks", "--scope", "uniform"], "--scope is about channels"),
        (["--units", "blocks", "--no-absorb"], "--no-absorb is about channels"),
        (["--units", "blocks", "--reconstruct", "least_squares"], "--reconstruct is about channels"),
        (["--units", "blocks", "--may-change", "x"], "--may-change is about channels"),
        (["--units", "blocks", "--criterion", "bn_scale"], "bn_scale"),
        (["--units", "block"], "there is no kind of units 'block'"),
        (["--units", "blocks", "--skip", "nowhere"], "names no node, tensor or block"),
        (["--units", "blocks", "--criterion", "block_influence"], "--data"),
    ],
)
def test_what_cannot_be_mixed_is_refused(
    run: Run, deep: Path, tmp_path: Path, words: list[str], complaint: str
) -> None:
    ran = run("prune", deep, "-o", tmp_path / "out.onnx", "--macs", "0.8", *words)
    assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert complaint in ran.err
    assert not (tmp_path / "out.onnx").exists()


def test_a_model_without_blocks_is_told(run: Run, tmp_path: Path) -> None:
    tower().save(tmp_path / "tower.onnx")
    ran = run(
        "prune", tmp_path / "tower.onnx", "-o", tmp_path / "out.onnx", "--macs", "0.5", "--units", "blocks"
    )
    assert ran.code == 2 and "the model has no block to leave out" in ran.err


def test_help_names_blocks_and_their_criteria(run: Run) -> None:
    text = " ".join(run("prune", "--help").out.split())
    assert "or whole blocks, alone" in text and "block_influence" in text


def test_a_cache_that_may_change_becomes_shorter_and_the_caller_is_told(run: Run, tmp_path: Path) -> None:
    model, out = tmp_path / "cached.onnx", tmp_path / "out.onnx"
    cached().save(model)
    words = ("--ratio", "0.5", "--units", "heads")
    whole = run("prune", model, "-o", out, *words, "--json").document
    assert whole["ports"] == {} and whole["changed"] is False

    told = run("prune", model, "-o", out, *words, "--may-change", "past_*", "present_*", "--json").document
    ports = told["ports"]
    assert ports.keys() == {"past_k", "past_v", "present_k_out", "present_v_out"}
    kept = ports["past_k"]["1"]
    assert len(kept) == HEADS // 2 and all(axes == {"1": kept} for axes in ports.values())
    assert told["verified"]["how"] == "reference" and told["verified"]["error"] <= 1e-5

    before, after = Model.load(model), Model.load(out)
    feeds = sample_inputs(before, 0)
    shorter = {name: np.take(v, kept, axis=1) if name in ports else v for name, v in feeds.items()}
    made = run_model(after, shorter)
    assert made["present_k_out"].shape[1] == HEADS // 2
    # What is appended to the cache of the heads that stay is what the original appends to it.
    want = run_model(before, feeds)["present_k_out"]
    assert np.allclose(made["present_k_out"], np.take(want, kept, axis=1), atol=1e-5)
    text = run("prune", model, "-o", out, *words, "--may-change", "past_*", "present_*")
    assert "the caller must feed it as [N, 2, P," in text.out


def test_a_pattern_of_no_input_or_output_is_refused(run: Run, small: Path, tmp_path: Path) -> None:
    ran = run("prune", small, "-o", tmp_path / "out.onnx", "--ratio", "0.5", "--may-change", "past_*")
    assert (ran.code, ran.err.count("\n")) == (2, 1) and "past_*" in ran.err
