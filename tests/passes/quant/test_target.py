"""Targets with integer kernels of their own: everything that has numbers on both sides stands between quantisers."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from graphrewrite.errors import InvalidConfig, VerificationError
from graphrewrite.ir import Builder, Model
from graphrewrite.passes.quant import InsertQdq, insert_qdq
from graphrewrite.passes.quant.target import load_target
from graphrewrite.passes.quant.write import Plan, Quantisers, Style, write
from graphrewrite.runtime import run
from tests.passes.quant.nets import context, left, net, only, quantised
from tests.passes.quant.test_coverage import attention

ALL = InsertQdq(target="all", correct_bias=False)
# What only moves numbers, or makes and takes them away.
FREE = {"QuantizeLinear", "DequantizeLinear", "Relu", "Clip"}


def floats_of(model: Model) -> set[str]:
    """Return the operators that read a number that no DequantizeLinear gave, or give one to no QuantizeLinear."""
    found, results = set(), {tensor.name for tensor in model.outputs}
    for node in model.nodes():
        if node.op in FREE:
            continue
        read = [tensor.inputs[0].op for tensor in node.inputs if tensor.inputs]
        users = [user.op for out in node.outputs for user in out.outputs]
        if any(op != "DequantizeLinear" for op in read) or any(op not in FREE for op in users):
            found.add(node.op)
        if any(out.name in results for out in node.outputs):
            found.add(node.op)
    return found


def upward() -> Model:
    """A transposed convolution, activations, a norm, a mean and a Softmax."""
    b = Builder(opset=20, seed=4)
    y = b.op("HardSwish", b.conv(b.input(["N", 3, 12, 12], "x"), 8, 3, name="first"))
    bias = b.constant(b.rng.standard_normal(4).astype(np.float32))
    y = b.relu(b.op("ConvTranspose", y, b.weight(8, 4, 2, 2), bias, name="up", strides=[2, 2]))
    scales = b.constant(np.array([1, 1, 0.5, 0.5], np.float32))
    y = b.op("Resize", b.op("Gelu", y), None, scales, mode="linear")
    y = b.op("Flatten", b.op("ReduceMean", y, b.constant(np.array([2])), keepdims=0))
    y = b.op("LayerNormalization", y, b.constant(np.linspace(0.5, 1.5, 48).astype(np.float32)))
    return b.model(b.op("Softmax", b.op("MatMul", b.op("Tanh", y), b.weight(48, 5), name="head"), axis=-1))


@pytest.mark.parametrize("make", [upward, net, attention])
def test_nothing_computes_in_floats(make: Callable[[], Model]) -> None:
    around = context((8, 6, 16)) if make is attention else context()
    result = quantised(make(), ALL, around)

    assert result.report.steps[-1].verified.error == 0.0
    assert not left(result) and not floats_of(result.model)
    assert around.data is not None
    feeds = next(around.data.batches(8))
    exact, rounded = only(run(make(), feeds)), only(run(result.model, feeds))
    assert np.linalg.norm(rounded - exact) < 0.05 * np.linalg.norm(exact)


def test_without_the_target_much_of_it_does() -> None:
    assert floats_of(quantised(upward(), InsertQdq(correct_bias=False)).model) >= {"ConvTranspose", "Softmax"}


def test_a_table_of_ones_own_says_what_is_rounded(tmp_path: Path) -> None:
    (tmp_path / "npu.toml").write_text('layers = ["Conv"]\n[operators]\nHardSwish = [0]\n', encoding="utf-8")

    result = quantised(upward(), InsertQdq(target=str(tmp_path / "npu.toml")))

    assert left(result) == dict.fromkeys(("up", "head"), "the target has no integer kernel of it")
    assert "HardSwish" not in floats_of(result.model) and "Gelu" in floats_of(result.model)


def test_skipped_operators_stay_in_floats() -> None:
    model = upward()
    model.nodes("Softmax")[0].name = "odds"
    result = quantised(model, InsertQdq(target="all", skip=("odds", "up")))
    # The LeakyRelu keeps onnxruntime from rounding the weight of the other.
    assert floats_of(result.model) == {"ConvTranspose", "LeakyRelu", "Softmax"}


def test_a_rounding_that_is_left_out_breaks_the_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(model: Model, plan: Plan, style: Style) -> None:
        write(
            model,
            plan._replace(roundings=plan.roundings[1:]) if isinstance(style, Quantisers) else plan,
            style,
        )

    monkeypatch.setattr(insert_qdq, "write", wrong)
    with pytest.raises(VerificationError, match="the pass's own reference"):
        quantised(upward(), ALL)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("layers = [", "cannot be read"),
        ("[operators]\nAdd = []", "cannot be read .'layers'"),
        ('layers = ["Softmax"]', "names Softmax as layers"),
        ('layers = ["Conv"]\n[operators]\nAdd = "x"', "cannot be read"),
    ],
)
def test_tables_that_are_none_are_refused(text: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "npu.toml").write_text(text, encoding="utf-8")
    with pytest.raises(InvalidConfig, match=told):
        load_target(str(tmp_path / "npu.toml"))
    with pytest.raises(InvalidConfig, match="'nowhere'; expected all"):
        load_target("nowhere")
