"""Blocks whose sum is fused with a norm or quantized, and sums of streams that come from elsewhere."""

import numpy as np
import pytest

from graphrewrite.ir import Model
from graphrewrite.passes.blocks import RemoveBlocks
from graphrewrite.passes.blocks.cut import without
from graphrewrite.passes.channels import MacsBelow, Ratio, RemoveChannels
from graphrewrite.pipeline import Context, Pipeline
from graphrewrite.runtime import run, sample_inputs
from tests.passes.blocks.drawn import blocks_of, left_out, names, remove
from tests.passes.blocks.fused import FUSED, fused
from tests.passes.blocks.fused import quantized as quantized_net
from tests.passes.blocks.test_remove import error
from tests.support.tolerances import FLOAT32, UNCHANGED, largest


@pytest.mark.parametrize(
    ("net", "expected"),
    [
        *((net, ["skip0", "skip1", "skip2"]) for net in ("pre", "post", "simple", "simple_18", "simple_23")),
        ("quantized", ["sum0", "sum1"]),
        ("fuse", ["up", "down"]),  # a resolution mixed into another that others read as well
        ("pyramid", ["level1", "level0"]),  # the laterals; what comes down is read by a head too
    ],
)
def test_the_blocks_of_a_net_are_those_it_was_drawn_with(net: str, expected: list[str]) -> None:
    assert names(FUSED[net]()) == expected


@pytest.mark.parametrize("net", FUSED)
def test_each_block_and_all_of_them(net: str) -> None:
    model = FUSED[net]()
    count = len(blocks_of(model))

    for chosen in [*([n] for n in range(count)), range(count)]:
        assert error(model, *chosen) <= FLOAT32


@pytest.mark.parametrize("net", ["pre", "post", "quantized", "fuse"])
def test_the_oracle_can_fail(net: str) -> None:
    assert error(FUSED[net](), 0, wrong=True) > 1e-3


@pytest.mark.parametrize("net", FUSED)
def test_the_pass_is_proved(net: str) -> None:
    result = remove(FUSED[net](), RemoveBlocks(budget=Ratio(0.5), floor=0))
    verified = result.report.steps[0].verified

    assert result.changed or net in ("fuse", "pyramid")  # two streams of one block each
    if result.changed:
        assert verified.how == "reference" and verified.error is not None and verified.error <= FLOAT32


def test_what_is_left_of_a_fused_sum_is_the_norm_of_the_other_operand() -> None:
    """By hand, with the bias of the sum: y = (x + b - mean) / sqrt(variance + epsilon) * gain + offset."""
    model = fused(pre=False, bias=True)
    found = blocks_of(model)
    cut = without(found, [found.blocks[2]])
    (fed,) = sample_inputs(model, seed=1).values()
    weights = {name: np.asarray(values, np.float64) for name, values in model.weights.items()}

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        x = x + weights[f"{name}.bias"]
        moved = x - x.mean(-1, keepdims=True)
        y = moved / np.sqrt(np.square(moved).mean(-1, keepdims=True) + 1e-5)
        return np.asarray(y * weights[f"{name}.gain"] + weights[f"{name}.offset"])

    def mlp(x: np.ndarray, name: str) -> np.ndarray:
        h = x @ weights[f"{name}.up.weight"] + weights[f"{name}.up.bias"]
        h = 0.5 * h * (1 + np.tanh(0.7978845 * (h + 0.044715 * h**3)))
        return np.asarray(h @ weights[f"{name}.down.weight"] + weights[f"{name}.down.bias"])

    x = np.asarray(fed, np.float64) @ weights["embed"]
    for n in (0, 1):
        x = norm(x + mlp(x, f"mlp{n}"), f"skip{n}")
    want = norm(x, "skip2") @ weights["head"]
    (got,) = run(cut, {model.inputs[0].name: fed}).values()

    assert np.abs(np.asarray(got, np.float64) - want).max() <= 1e-5 * np.abs(want).max()
    assert [node.op for node in cut.nodes() if node.op.endswith("LayerNormalization")] == [
        "SkipLayerNormalization",
        "SkipLayerNormalization",
        "LayerNormalization",
    ]


def test_a_quantized_sum_stays_and_rounds_as_before() -> None:
    model = quantized_net()
    result = left_out(model, "sum0")

    assert [node.op for node in result.model.nodes()].count("QLinearAdd") == 2
    assert result.report.steps[0].verified.error == 0


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("old", "a norm without a sum needs operator set 17, the model has 14"),
        ("returned", "the model returns what a fused sum and norm make"),
        ("half", "a gain that is not constant, or not in single precision"),
    ],
)
def test_fused_sums_that_cannot_be_taken_apart_are_told(change: str, why: str) -> None:
    model = fused(opset=14 if change == "old" else 17, pre=change != "old")
    if change == "returned":
        (node,) = [node for node in model.nodes() if node.name == "skip2"]
        model.graph.outputs = [node.outputs[0]]
    if change == "half":
        for name in [name for name in model.weights if name.endswith(".gain")]:
            model.weights[name] = np.asarray(model.weights[name]).astype(np.float16)
    found = blocks_of(model)

    told = {name: text for name, text in found.left.items() if why in text}
    assert set(told) == ({"skip2"} if change == "returned" else {"skip0", "skip1", "skip2"})
    assert not {block.name for block in found} & set(told)


def test_a_planted_block_leaves_without_a_trace() -> None:
    model = fused()
    for part in ("weight", "bias"):
        model.weights[f"mlp1.down.{part}"] = np.zeros_like(model.weights[f"mlp1.down.{part}"])
    result = remove(model, RemoveBlocks(budget=Ratio(0.6), floor=0))
    feeds = sample_inputs(model, seed=3)

    assert [n.name for n in result.model.nodes() if n.op == "SkipLayerNormalization"] == ["skip0", "skip2"]
    assert largest(run(result.model, feeds), run(model, feeds)) <= UNCHANGED


@pytest.mark.parametrize("net", ["pre", "simple_18", "fuse"])
def test_blocks_then_channels(net: str) -> None:
    model: Model = FUSED[net]()
    steps = (RemoveBlocks(budget=MacsBelow(0.9), floor=0), RemoveChannels(budget=MacsBelow(0.6)))
    result = Pipeline(steps, verify="full").run(model, Context(threads=1))

    assert [step.verified.how for step in result.report.steps] == ["reference", "reference"]
