"""Leaving blocks out: what stays, what goes, and that the result is the original with zeros for what went."""

from typing import Any

import numpy as np
import pytest

from graphrewrite import cost
from graphrewrite.errors import VerificationError
from graphrewrite.ir import Builder, Model
from graphrewrite.ir.check import check
from graphrewrite.passes.blocks import Blocks, RemoveBlocks
from graphrewrite.passes.blocks.cut import masked, without
from graphrewrite.passes.channels import MacsBelow, Ratio, RemoveChannels
from graphrewrite.pipeline import Context, Pipeline
from graphrewrite.runtime import run, sample_inputs
from tests.passes.blocks.drawn import (
    NETS,
    T,
    blocks_of,
    half,
    left_out,
    nested,
    planted,
    remove,
    resnet,
    transformer,
)
from tests.support.tolerances import FLOAT32, largest


def error(model: Model, *chosen: int, wrong: bool = False) -> float:
    """Return how far a cut is from the original with zeros, over two batch sizes; `wrong` zeroes another block."""
    found = blocks_of(model)
    blocks = [found.blocks[n] for n in chosen]
    others = [found.blocks[(n + 1) % len(found)] for n in chosen]
    smaller = without(found, blocks)
    reference = masked(found, others if wrong else blocks)
    check(smaller)
    worst = 0.0
    for world in (0, 1):
        feeds = sample_inputs(model, seed=world, world=world)
        worst = max(worst, largest(run(smaller, feeds), run(reference, feeds)))
    return worst


@pytest.mark.parametrize("net", NETS)
def test_each_block_and_random_sets_of_them(net: str) -> None:
    model = NETS[net]()
    count = len(blocks_of(model))
    rng = np.random.default_rng(0)

    for number in range(count):
        assert error(model, number) <= FLOAT32
    for _ in range(4):
        chosen = np.flatnonzero(rng.random(count) < 0.6)
        assert error(model, *map(int, chosen)) <= FLOAT32
    assert error(model, *range(count)) <= FLOAT32


def test_the_oracle_can_fail() -> None:
    assert error(resnet(), 0, wrong=True) > 1e-3


def test_a_wrong_cut_does_not_pass_the_pipeline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutation: the cut leaves one block more out than the outcome says."""
    from graphrewrite.passes.blocks import remove as module

    def greedy(found: Blocks, blocks: list[object]) -> Model:
        return without(found, found.blocks[: len(blocks) + 1])

    monkeypatch.setattr(module, "without", greedy)
    with pytest.raises(VerificationError):
        half(resnet())


@pytest.mark.parametrize("net", NETS)
def test_the_pass_is_proved(net: str) -> None:
    result = half(NETS[net]())
    verified = result.report.steps[0].verified

    if result.changed:
        assert verified.how == "reference" and verified.error is not None and verified.error <= FLOAT32
        assert verified.movement and len(verified.worlds) == 2


def test_what_is_not_left_out_keeps_its_name() -> None:
    model = resnet()
    result = left_out(model, "a1", "b2")

    before, after = ({node.name for node in m.nodes()} for m in (model, result.model))
    gone = {"a1", "a1.one", "a1.two", "a1.norm", "b2", "b2.one", "b2.two", "b2.norm"}
    assert (
        after < before and {name for name in before - after if name[0] in "ab" and name[1:2] in "12"} == gone
    )
    assert set(result.model.weights) < set(model.weights)
    assert len(model.weights) - len(result.model.weights) == 2 * (2 * 2 + 2 * 4)
    for name in result.model.weights:
        assert result.model.weights[name] is model.weights[name] or np.array_equal(
            result.model.weights[name], model.weights[name]
        )
    read = {tensor.name for node in result.model.nodes() for tensor in node.inputs}
    assert set(result.model.weights) <= read


def test_details_say_what_went() -> None:
    result = left_out(nested(), "outer")
    details = result.report.steps[0].details
    listed: Any = details["blocks"]
    rows = {row["name"]: row for row in listed}
    before, after = details["macs_before"], details["macs_after"]

    assert {name: row["removed"] for name, row in rows.items()} == {
        "inner0": True,
        "inner1": True,
        "outer": True,
        "long": False,
    }
    assert rows["inner0"]["inside"] == "outer" and rows["long"]["inside"] is None
    assert rows["outer"]["macs"] == 5 * 36 * 6 * 6 * 9
    assert isinstance(before, (int, float)) and isinstance(after, (int, float))
    assert before - after == rows["outer"]["macs"]
    assert details["macs_after"] == cost.of(result.model).per_sample("macs")
    assert details["params_after"] == cost.of(result.model).params


def test_a_sum_that_is_an_output_keeps_its_name() -> None:
    b = Builder()
    x = b.op("MatMul", b.input(["N", T, 4], "x"), b.weight(4, 8))
    y = b.op("Add", x, b.op("MatMul", b.relu(x), b.weight(8, 8)), name="sum")
    model = b.model(y)

    result = left_out(model, "sum")

    assert [tensor.name for tensor in result.model.outputs] == ["sum_out"]
    assert [node.op for node in result.model.nodes()] == ["MatMul", "Identity"]


def test_an_input_that_nobody_reads_any_more_stays_an_input() -> None:
    """Masks come from an input of the model; without any attention it is of no use, but callers give it."""
    model = transformer(2)
    result = left_out(model, "sum0.attention", "sum1.attention")

    assert [tensor.name for tensor in result.model.inputs] == ["x", "allowed"]
    assert not [node for node in result.model.nodes("Softmax")]
    assert not any("allowed" in (t.name for t in node.inputs) for node in result.model.nodes())


def test_shared_weights_stay_while_one_block_reads_them() -> None:
    b = Builder()
    x = b.op("MatMul", b.input(["N", T, 4], "x"), b.weight(4, 8))
    weight = b.weight(8, 8, name="shared")
    for number in range(3):
        x = b.op("Add", x, b.op("MatMul", b.relu(x), weight), name=f"sum{number}")
    model = b.model(b.op("MatMul", x, b.weight(8, 2)))

    assert "shared" in left_out(model, "sum0", "sum1").model.weights
    assert "shared" not in left_out(model, "sum0", "sum1", "sum2").model.weights


def test_keys_that_are_outputs_stay() -> None:
    model = transformer(2, cached=True)
    result = left_out(model, "sum0.attention")

    assert [t.name for t in result.model.outputs] == [t.name for t in model.outputs]
    assert "attention0.k.weight" in result.model.weights
    assert "attention0.q.weight" not in result.model.weights
    assert any("attention0.keys_out" in note.text for note in result.notes)


def test_blocks_then_channels_in_one_pipeline() -> None:
    model = resnet()
    steps = (RemoveBlocks(budget=Ratio(0.5)), RemoveChannels(budget=MacsBelow(0.6)))
    result = Pipeline(steps, verify="full").run(model, Context(threads=1))

    assert [step.verified.how for step in result.report.steps] == ["reference", "reference"]
    assert len(blocks_of(result.model)) == 4
    assert cost.of(result.model).macs < 0.6 * cost.of(model).macs


def test_a_planted_block_leaves_without_a_trace() -> None:
    model = planted()
    result = left_out(model, "mlp1.sum", "mlp3.sum")
    feeds = sample_inputs(model, seed=3)

    assert largest(run(result.model, feeds), run(model, feeds)) <= 1e-6


def test_nothing_to_leave_out_changes_nothing() -> None:
    result = remove(resnet(1), RemoveBlocks(budget=Ratio(0.5)))

    assert not result.changed and len(result.report.steps[0].details["blocks"]) == 2  # type: ignore[arg-type]


def test_the_reference_is_made_without_the_cut() -> None:
    """Zeros enter at the sums; every node of the original is still there."""
    model = resnet()
    found = blocks_of(model)
    reference = masked(found, [found.blocks[1]])

    assert [node.name for node in reference.nodes() if node.op != "Where"] == [n.name for n in model.nodes()]
    assert [node.op for node in reference.nodes()].count("Where") == 1


def test_an_old_operator_set_has_no_where() -> None:
    b = Builder(opset=8)
    x = b.relu(b.conv(b.input(["N", 3, 6, 6], "x"), 4, 3))
    model = b.model(b.conv(b.op("Add", x, b.conv(b.relu(x), 4, 4), name="sum"), 2, 4))

    result = left_out(model, "sum")

    assert result.report.steps[0].verified.how == "reference"
