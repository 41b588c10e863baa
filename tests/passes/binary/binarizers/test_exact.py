"""What was trained is what runs: the same sums to the last unit in torch, in standard operators, and in the kernel."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import onnx
import onnx_graphsurgeon as gs
import pytest
import torch
from onnx.utils import Extractor

import graphrewrite
from graphrewrite import custom_ops
from graphrewrite.bridge import GraphModule, attach, fold
from graphrewrite.bridge.recipe import Recipe, Stage
from graphrewrite.bridge.taps import tapped
from graphrewrite.bridge.transforms.attaching import advance
from graphrewrite.custom_ops import Case
from graphrewrite.ir import Array, Model
from graphrewrite.passes.binary import LowerBinaryConv, TrainBinary
from graphrewrite.passes.binary.binarizers import binarizers
from graphrewrite.passes.binary.prepare import Prepared, prepare, settle
from graphrewrite.passes.losses.cross_entropy import CrossEntropy
from graphrewrite.pipeline import Pipeline
from graphrewrite.runtime import run
from tests.passes.binary.nets import BINARY, digits, few, net
from tests.support.kernels import by_kernel, needs_library

pytestmark = needs_library
STEPS = 6


@dataclass(frozen=True)
class Layer:
    """One binary layer: `x` what its signs are of, what the module gave, and the layer in its two other forms."""

    x: Array
    module: npt.NDArray[np.float32]
    scale: npt.NDArray[np.float64]
    standard: Model
    kernel: Case


@lru_cache
def trained(method: str) -> tuple[GraphModule, Prepared]:
    """Take a few steps; return the module in evaluation, transforms and all."""
    torch.manual_seed(0)
    stage = Stage(1, 0.1, (CrossEntropy(),))
    step = TrainBinary(binarizers.make(method), Recipe((stage,)), least_signs=70)
    model = net(0, rectifier="Relu" if method == "react" else "Clip")
    prepared = prepare(model, step, step.method)
    module = GraphModule(prepared.model)
    attach(module, step.recipe_for(prepared).stages[0].transforms)
    data = few(64)
    x, y = torch.from_numpy(data.arrays["image"]), torch.from_numpy(np.asarray(data.labels))
    optimiser = torch.optim.SGD(module.parameters(), 0.1, momentum=0.9)
    for number in range(STEPS):
        advance(module.train(), number / STEPS)
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(module(x), y).backward()
        optimiser.step()
    return module.eval(), prepared


def layers(module: GraphModule, prepared: Prepared) -> list[Layer]:
    """Run the module, and take its binary layers out of the graphs it becomes."""
    plain = settle(fold(module), prepared.marks)
    lowered = Pipeline([LowerBinaryConv(when="always")]).run(plain).model
    convs = [node for node in prepared.model.nodes("Conv") if node.inputs[0].name in prepared.marks]
    products = {node.outputs[0].name: node for node in prepared.model.nodes("Mul")}
    own = [node for node in lowered.graph.nodes if node.domain == custom_ops.DOMAIN]
    assert [node.op for node in own] == ["BinaryConv"] * len(convs)
    wanted = [products[conv.inputs[0].name].inputs[0].name for conv in convs]
    sums = [conv.outputs[0].name for conv in convs]
    with torch.no_grad():
        seen = tapped(module, [*wanted, *sums, *(node.inputs[0].name for node in own)])(
            {"image": torch.from_numpy(few(32).arrays["image"])}
        )
    found = []
    for conv, node, read, gives in zip(convs, own, wanted, sums, strict=True):
        size = np.abs(fold(module).weights[conv.inputs[1].name].astype(np.float64))
        standard = _between(plain, read)
        found.append(
            Layer(
                seen[read].numpy(),
                seen[gives].numpy(),
                size.reshape(len(size), -1)[:, 0],
                standard,
                _case(node, seen[node.inputs[0].name].numpy()),
            )
        )
    return found


def _between(model: Model, read: str) -> Model:
    """Return the nodes from an activation through its signs to the sums."""
    proto = onnx.shape_inference.infer_shapes(model.to_proto())
    (gives,) = (
        node.outputs[0].name
        for node in model.nodes("Conv")
        if node.inputs[0].inputs and _signs_of(node.inputs[0]) == read
    )
    part = Extractor(proto).extract_model([read], [gives])
    return Model.from_proto(part)


def _signs_of(tensor: gs.Tensor) -> str:
    choice = tensor.inputs[0]
    return str(choice.inputs[0].inputs[0].inputs[0].name) if choice.op == "Where" else ""


def _case(node: gs.Node, x: Array) -> Case:
    """Return what the kernel's layer is run on: sizes of 1 and no bias, so that it gives sums.

    RSign's shift has become its threshold, so it may read another tensor than the layer in standard operators.
    """
    threshold, words, scale = (np.asarray(each.values) for each in node.inputs[1:4])
    inputs = {
        "x": x,
        "x_threshold": threshold,
        "weight": words,
        "scale": np.ones_like(scale),
        "bias": np.zeros_like(scale),
    }
    attributes = {name: tuple(v) if isinstance(v, list) else v for name, v in node.attrs.items()}
    return Case("one", inputs, attributes)


@pytest.mark.parametrize("method", list(binarizers))
def test_sums_are_the_same_to_the_last_unit(method: str) -> None:
    found = layers(*trained(method))

    assert len(found) == BINARY
    for layer in found:
        (standard,) = run(layer.standard, {layer.standard.inputs[0].name: layer.x}).values()
        kernel = by_kernel(custom_ops.find("BinaryConv"), layer.kernel)[0]
        whole = layer.module / layer.scale.reshape(-1, 1, 1)
        assert np.abs(whole - np.rint(whole)).max() < 1e-3
        np.testing.assert_array_equal(np.rint(whole), standard)
        np.testing.assert_array_equal(kernel, standard)
        assert len(np.unique(standard)) > 10


@pytest.mark.parametrize("method", list(binarizers))
def test_what_is_served_is_what_was_trained(method: str) -> None:
    """What stands between the sums is rounded in another way, so a sign at its very threshold may turn: hardly ever."""
    module, prepared = trained(method)
    pictures = digits()[1].arrays["image"]
    with torch.no_grad():
        wanted = module(torch.from_numpy(pictures)).numpy()
    plain = settle(fold(module), prepared.marks)
    lowered = Pipeline([LowerBinaryConv(when="always")]).run(plain).model

    for model in (plain, lowered):
        served = graphrewrite.session(model).run(None, {"image": pictures})[0]
        apart = np.abs(served - wanted).max(axis=1) / np.abs(wanted).max()
        assert float((apart < 1e-5).mean()) > 0.99


def test_one_sign_that_differs_is_seen() -> None:
    layer = layers(*trained("recu"))[0]
    words = np.array(layer.kernel.inputs["weight"])
    words.reshape(-1)[0] ^= 1
    other = Case("one", {**layer.kernel.inputs, "weight": words}, layer.kernel.attributes)

    kernel = by_kernel(custom_ops.find("BinaryConv"), other)[0]

    assert (kernel != layer.module).any()


def test_a_shift_becomes_a_threshold_and_no_rotation_is_left() -> None:
    case = layers(*trained("react"))[1].kernel
    assert len(np.unique(case.inputs["x_threshold"])) > 4

    module, prepared = trained("rbnn")
    folded = fold(module)
    assert all(set(np.unique(folded.weights[name])) == {-1, 1} for name in prepared.weights.values())
    assert {node.op for node in folded.graph.nodes} - {node.op for node in prepared.model.graph.nodes} == {
        "GreaterOrEqual",
        "Where",
    }
