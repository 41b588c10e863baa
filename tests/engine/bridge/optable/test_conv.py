"""Convolutions with pads of all kinds against onnxruntime; what torch's own calls are written as."""

import numpy as np
import pytest
import torch

from graphrewrite.bridge import GraphModule
from graphrewrite.bridge.optable.conv import causal_conv_with_state
from graphrewrite.bridge.optable.deform import deform_conv
from graphrewrite.errors import UnsupportedOp
from graphrewrite.ir import Array, Builder, Model
from tests.engine.bridge.nodes import agrees, by_reference, node_model
from tests.engine.bridge.optable.windows import Draw, drawn


def operands(draw: Draw, group: int, kernel: list[int]) -> list[Array]:
    """Image, weight and bias; the weight's shape is that of plain and of transposed convolutions."""
    return [
        draw.floats(2, 2 * group, *draw.space),
        draw.floats(2 * group, 2, *kernel),
        draw.floats(2 * group),
    ]


@pytest.mark.parametrize("seed", range(24))
def test_convolutions(seed: int) -> None:
    draw = drawn(seed)
    group, kernel = seed % 2 + 1, draw.attributes["kernel_shape"]
    assert isinstance(kernel, list)
    if draw.chance(0.3):
        del draw.attributes["kernel_shape"]
    given = operands(draw, group, kernel)
    attributes = {**draw.attributes, "group": group}
    assert agrees("Conv", given[: seed % 2 + 2], attributes=attributes, opset=(7, 11, 21)[seed % 3])


@pytest.mark.parametrize("seed", range(24))
def test_transposed_convolutions(seed: int) -> None:
    draw = drawn(seed)
    group, kernel, strides = seed % 2 + 1, draw.attributes["kernel_shape"], draw.attributes["strides"]
    assert isinstance(kernel, list)
    assert isinstance(strides, list)
    if str(draw.attributes.get("auto_pad")).startswith("SAME"):
        # onnxruntime makes less than the size it should where windows leave gaps.
        draw.close_gaps()
        strides = draw.attributes["strides"]
        assert isinstance(strides, list)
    elif draw.chance(0.3):
        draw.attributes["output_shape"] = [
            size * step - 1 for size, step in zip(draw.space, strides, strict=True)
        ]
        draw.attributes.pop("pads", None)
    if draw.chance(0.5):
        draw.attributes["output_padding"] = [int(draw.rng.integers(0, step)) for step in strides]
    given = operands(draw, group, kernel)
    attributes = {**draw.attributes, "group": group}
    assert agrees("ConvTranspose", given[: seed % 2 + 2], attributes=attributes, opset=(7, 11, 21)[seed % 3])


def test_places_that_no_window_reaches_hold_the_bias() -> None:
    # By hand: two pixels spread by stride 3 with one weight of 1, and output padding that reaches on.
    x = np.array([[[1, 2]]], np.float32)
    given = [x, np.ones((1, 1, 1), np.float32), np.array([10], np.float32)]
    proto = node_model("ConvTranspose", given, attributes={"strides": [3], "output_shape": [6]})
    found = GraphModule(Model.from_proto(proto))(*map(torch.from_numpy, given))
    assert found.tolist() == [[[11, 10, 10, 12, 10, 10]]]


def test_a_plain_convolution_is_one_call_of_torch() -> None:
    b = Builder(seed=0)
    x = b.input(["N", 3, 8, 8])
    model = b.model(b.op("Conv", x, b.weight(4, 3, 3, 3), pads=[1, 1, 1, 1], strides=[2, 2]))
    calls = [node for node in GraphModule(model).graph.nodes if node.op == "call_function"]
    assert [node.target for node in calls] == [torch.conv2d]
    assert calls[0].args[3:] == ((2, 2), (1, 1), (1, 1), 1)


def test_channels_last_and_another_precision() -> None:
    b = Builder(seed=0)
    x = b.input(["N", 4, 9, 9])
    model = b.model(b.op("Conv", x, b.weight(8, 4, 3, 3), auto_pad="SAME_LOWER", strides=[2, 2]))
    module = GraphModule(model)
    image = torch.randn(2, 4, 9, 9, generator=torch.Generator().manual_seed(0))
    wanted = module(image)
    found = module.to(memory_format=torch.channels_last)(image.to(memory_format=torch.channels_last))
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(found, wanted, atol=1e-5)
    assert torch.allclose(module.double()(image.double()).float(), wanted, atol=1e-5)


def test_four_axes_are_refused() -> None:
    given = [np.zeros((1, 1, 2, 2, 2, 2), np.float32), np.zeros((1, 1, 1, 1, 1, 1), np.float32)]
    with pytest.raises(UnsupportedOp, match="one to three axes"):
        GraphModule(Model.from_proto(node_model("Conv", given)))


def test_what_came_before_is_carried_on() -> None:
    rng = np.random.default_rng(0)
    x, weight = (torch.from_numpy(rng.standard_normal(s).astype(np.float32)) for s in ((2, 3, 9), (3, 1, 4)))
    whole, last = causal_conv_with_state(x, weight)
    first, carried = causal_conv_with_state(x[:, :, :5], weight)
    rest, end = causal_conv_with_state(x[:, :, 5:], weight, None, carried)
    assert torch.allclose(torch.cat((first, rest), 2), whole, atol=1e-6)
    assert torch.equal(end, last)


@pytest.mark.parametrize("seed", range(6))
def test_deformed_convolutions(seed: int) -> None:
    rng = np.random.default_rng(seed)
    group, offsets, (high, wide) = seed % 2 + 1, (1, 2)[seed // 2 % 2], (2, 3)
    attributes = {"group": group, "offset_group": offsets, "strides": [1, 2], "pads": [1, 0, 0, 1]}
    if seed % 3:
        attributes["dilations"] = [1, 2]
    out = (6 + 1 - 1, (7 + 1 - (2 * (2 if seed % 3 else 1) + 1)) // 2 + 1)
    shapes = [
        (2, 4, 6, 7),
        (4, 4 // group, high, wide),
        (2, offsets * high * wide * 2, *out),
        (4,),
        (2, offsets * high * wide, *out),
    ]
    given = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    assert agrees("DeformConv", given, attributes=attributes, opset=19, judge=by_reference)


def test_gradients_of_a_deformed_convolution() -> None:
    make = torch.Generator().manual_seed(0)
    shapes = ((1, 2, 4, 4), (2, 2, 2, 2), (1, 8, 3, 3), (2,), (1, 4, 3, 3))
    inputs = [torch.randn(s, generator=make, dtype=torch.float64, requires_grad=True) for s in shapes]
    assert torch.autograd.gradcheck(deform_conv, inputs)
