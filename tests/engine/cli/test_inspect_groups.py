"""`graphrewrite inspect --groups`, `--group`, `--dot` and `--picture`."""

import json
import os
from pathlib import Path

import numpy as np
import onnx_graphsurgeon as gs
import pytest

from graphrewrite.ir import Builder
from tests.engine.cli.conftest import Run
from tests.engine.report.test_dot import NASTY, Graph, net


@pytest.fixture
def blocks(tmp_path: Path) -> Path:
    """A stem of 8 channels, two residual blocks of 6 hidden channels, a head of 4; 4 x 4 positions."""
    path = tmp_path / "blocks.onnx"
    net(2).save(path)
    return path


def test_the_story_of_a_group_is_told(run: Run, blocks: Path) -> None:
    ran = run("inspect", blocks, "--groups")
    assert ran.code == 0
    words = " ".join(ran.out.split())
    for part in (
        "3 groups of channels",
        "a unit is what goes at once",
        "stem.weight[0]: 8 units, width",
        # One of 8: 3 products in the stem, 6 + 6 in each of two blocks, 4 in the head, at 16 positions.
        "one unit saves 496 MACs (12.50 %), 31 parameters",
        "made by stem.weight[0] block0.out.weight[0] block1.out.weight[0]",
        "read by block0.in.weight[1] block1.in.weight[1] head.weight[1]",
        "Add block0.join adds stem and block0.out position by position",
        "Add block1.join adds stem + block0.out and block1.out position by position",
        "at least 1 of 8, any of them may go",
        "alike 1 more group: block1.in",
        "cannot shrink (graph input x)",
    ):
        assert part in words, part


def test_alike_groups_are_told_once_unless_all_are_asked_for(run: Run, blocks: Path) -> None:
    assert "block1.in.weight[0]: 6 units" not in run("inspect", blocks, "--groups").out
    assert "block1.in.weight[0]: 6 units" in run("inspect", blocks, "--groups", "--all").out
    assert "block1.in.weight[0]: 6 units" in run("inspect", blocks, "--groups", "--verbose").out


def test_long_lists_are_folded_with_their_count(run: Run, tmp_path: Path) -> None:
    net(12).save(tmp_path / "m.onnx")
    folded = run("inspect", tmp_path / "m.onnx", "--groups").out
    assert "and 8 more" in folded and "Add block11.join" not in folded
    whole = run("inspect", tmp_path / "m.onnx", "--groups", "--all").out
    assert "Add block11.join adds stem (+ 11 tied before) and block11.out" in whole


def test_one_group_can_be_asked_for_by_its_name_or_a_layer(run: Run, blocks: Path) -> None:
    by_name = run("inspect", blocks, "--group", "block0.in.weight[0]")
    assert by_name.code == 0
    assert by_name.out == run("inspect", blocks, "--group", "block0.in").out
    assert "block0.in.weight[0]: 6 units" in by_name.out
    assert "stem.weight[0]: 8 units" not in by_name.out
    document = run("inspect", blocks, "--group", "block0.in", "--json").document
    assert document["group"]["units"] == 6 and len(document["groups"]["groups"]) == 3


def test_unknown_groups_are_bad_input_and_the_nearest_are_named(run: Run, blocks: Path) -> None:
    ran = run("inspect", blocks, "--group", "block0.im.weight[0]")
    assert ran.code == 2
    assert "'block0.in.weight[0]'" in ran.err and ran.err.count("\n") == 1
    assert run("inspect", blocks, "--group", "x", "--json").document["error"]["kind"] == "UnknownNameError"


def test_the_document_has_everything(run: Run, blocks: Path) -> None:
    groups = run("inspect", blocks, "--groups", "--json").document["groups"]
    stream = groups["groups"][0]
    assert [tie["sides"] for tie in stream["ties"]] == [
        [["stem.weight[0]"], ["block0.out.weight[0]"]],
        [["stem.weight[0]", "block0.out.weight[0]"], ["block1.out.weight[0]"]],
    ]
    assert (stream["kind"], stream["floor"], stream["step"]) == ("width", 1, 1)
    assert {row["reason"]: row["macs"] for row in groups["obstacles"]} == {
        "Conv stem joins it with an axis that cannot shrink (graph input x)": 16 * 24,
        f"graph output {groups['stations'][-1]['label']}": 16 * 32,
    }
    assert groups["macs"] == 16 * (24 + 4 * 48 + 32) and groups["fixed"] == 0


def test_the_graph_goes_to_stdout_alone_or_into_a_file(run: Run, blocks: Path, tmp_path: Path) -> None:
    printed = run("inspect", blocks, "--groups", "--dot")
    Graph(printed.out)
    ran = run("inspect", blocks, "--dot", tmp_path / "g.dot")
    assert ran.code == 0 and (tmp_path / "g.dot").read_text() == printed.out.rstrip("\n")
    assert run("inspect", blocks, "--dot", "--json").document["dot"] == printed.out.rstrip("\n")


@pytest.mark.parametrize(("name", "start"), [("g.svg", b"<?xml"), ("g.png", b"\x89PNG")])
def test_pictures_are_written_whole(run: Run, blocks: Path, tmp_path: Path, name: str, start: bytes) -> None:
    pytest.importorskip("matplotlib")
    (tmp_path / name).write_bytes(b"old")
    ran = run("inspect", blocks, "--picture", tmp_path / name)
    assert ran.code == 0 and f"picture written to {tmp_path / name}" in ran.out
    assert (tmp_path / name).read_bytes().startswith(start)
    assert sorted(os.listdir(tmp_path)) == sorted(["blocks.onnx", name]), "nothing is left beside it"


def test_files_that_cannot_be_written_are_refused_before_any_work(
    run: Run, blocks: Path, tmp_path: Path
) -> None:
    before = blocks.read_bytes()
    for words in (
        ("--dot", tmp_path / "none" / "g.dot"),
        ("--dot", tmp_path),
        ("--dot", blocks),
        ("--picture", tmp_path / "none" / "g.svg"),
        ("--picture", tmp_path / "g.jpeg"),
        ("--dot", tmp_path / "g.svg", "--picture", tmp_path / "g.svg"),
    ):
        ran = run("inspect", blocks, *words)
        assert (ran.code, ran.out) == (2, ""), words
        assert ran.err.count("\n") == 1
    assert blocks.read_bytes() == before
    assert os.listdir(tmp_path) == ["blocks.onnx"]


def test_names_out_of_a_model_cannot_steer_a_terminal(run: Run, tmp_path: Path) -> None:
    net(1, NASTY).save(tmp_path / "m.onnx")
    ran = run("inspect", tmp_path / "m.onnx", "--groups", "--all")
    assert ran.code == 0 and "\x1b" not in ran.out
    assert "\x1b" not in run("inspect", tmp_path / "m.onnx", "--dot").out


def test_a_model_of_which_nothing_can_go_says_so(run: Run, tmp_path: Path) -> None:
    b = Builder()
    x = b.input([1, 4], name="x", dtype=np.float32)
    y: gs.Variable = b.op("Mystery", b.relu(x), domain="com.example")
    b.model(y).save(tmp_path / "m.onnx")
    ran = run("inspect", tmp_path / "m.onnx", "--groups")
    assert "no channels can be removed from this model" in ran.out
    assert "no dimension rule for com.example.Mystery" in ran.out


def test_documents_are_plain_json(run: Run, blocks: Path) -> None:
    assert json.dumps(run("inspect", blocks, "--groups", "--json").document)
