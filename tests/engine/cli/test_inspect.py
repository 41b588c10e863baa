"""`graphrewrite inspect`."""

from pathlib import Path

import numpy as np

from graphrewrite.ir import Builder
from tests.engine.cli.conftest import Run, small_model


def test_the_facts_are_those_worked_out_by_hand(run: Run, small: Path) -> None:
    facts = run("inspect", small, "--json").document
    assert (facts["macs"], facts["params"], facts["weight_bytes"]) == (32256, 516, 4 * 516)
    # Three tensors are written for one sample: 8*64 floats twice, then 4*64.
    assert facts["activation_bytes"] == 4 * (512 + 512 + 256)
    assert facts["inputs"] == [{"name": "x", "type": "float32", "shape": ["batch", 3, 8, 8]}]
    assert [(row["op"], row["nodes"], row["macs"]) for row in facts["operators"]] == [
        ("Conv", 2, 32256),
        ("Relu", 1, 0),
    ]
    assert facts["file"]["bytes"] == small.stat().st_size
    assert (facts["opset"], facts["ir_version"], facts["producer"]) == (17, 8, "graphrewrite")


def test_groups_list_what_may_go_and_what_stays(run: Run, small: Path) -> None:
    groups = run("inspect", small, "--groups", "--json").document["groups"]
    (group,) = groups["groups"]
    assert group["units"] == 8
    # One of the 8 channels: 3*9 weights make it, 4*9 read it, and it has a bias; at 64 positions each.
    assert group["macs_per_unit"] == (27 + 36) * 64
    assert group["params_per_unit"] == 27 + 36 + 1
    assert {"producer", "consumer", "vector"} == {member["role"] for member in group["members"]}
    assert len(groups["pinned"]) == 3, (
        "the input axis of the first, and both outputs of the second convolution"
    )


def test_text_names_the_group_and_counts_the_pins(run: Run, small: Path) -> None:
    ran = run("inspect", small, "--groups")
    assert ran.code == 0
    assert "1 group of channels" in ran.out
    assert "graph output" in ran.out
    assert "read by" in ran.out


def test_an_operator_nobody_knows_is_named_and_not_counted_as_zero(run: Run, tmp_path: Path) -> None:
    b = Builder()
    x = b.input([1, 4], name="x")
    model = b.model(b.op("Mystery", b.relu(x), domain="com.example", name="secret"))
    model.save(tmp_path / "m.onnx")
    ran = run("inspect", tmp_path / "m.onnx", "--groups")
    assert ran.code == 0
    assert "no cost rule for com.example.Mystery, not in the totals: 1 node: secret" in ran.out
    facts = run("inspect", tmp_path / "m.onnx", "--json").document
    assert facts["no_cost_rule"] == {"com.example.Mystery": ["secret"]}


def test_long_metadata_is_cut_in_text_and_whole_in_json(run: Run, tmp_path: Path) -> None:
    model = small_model()
    model.metadata["story"] = "x" * 500
    model.save(tmp_path / "m.onnx")
    assert "x" * 101 not in run("inspect", tmp_path / "m.onnx").out
    assert "(500 characters)" in run("inspect", tmp_path / "m.onnx").out
    assert run("inspect", tmp_path / "m.onnx", "--json").document["metadata"]["story"] == "x" * 500


def test_external_data_is_counted(run: Run, tmp_path: Path) -> None:
    import onnx

    proto = small_model().to_proto()
    onnx.save_model(
        proto,
        str(tmp_path / "m.onnx"),
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=512,
    )
    facts = run("inspect", tmp_path / "m.onnx", "--json").document
    beside = (tmp_path / "weights.bin").stat().st_size
    assert facts["file"]["external_data"] == {"weights.bin": beside}
    assert facts["file"]["bytes"] == beside + (tmp_path / "m.onnx").stat().st_size


def test_a_graph_without_nodes_is_described(run: Run, tmp_path: Path) -> None:
    b = Builder()
    model = b.model(b.input([2], name="x", dtype=np.float32))
    model.save(tmp_path / "m.onnx")
    facts = run("inspect", tmp_path / "m.onnx", "--groups", "--json").document
    assert (facts["nodes"], facts["macs"], facts["groups"]["groups"]) == (0, 0, [])
