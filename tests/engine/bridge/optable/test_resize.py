"""Resizing in all modes against onnxruntime, older operator sets, and what torch's own interpolation is used for."""

import numpy as np
import pytest
import torch
from onnx import numpy_helper
from torch.nn import functional

from graphrewrite.bridge import GraphModule
from graphrewrite.bridge.optable.resize import resized
from graphrewrite.bridge.resample import Reading
from graphrewrite.ir import Array, Model
from tests.engine.bridge.nodes import agrees, bridged, by_reference, node_model

X = np.random.default_rng(0).standard_normal((2, 2, 5, 6)).astype(np.float32)
COORDINATES = ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "half_pixel_symmetric"]
MODES = ["linear", "cubic"]


def floats(*values: float) -> Array:
    return np.asarray(values, np.float32)


def whole(*values: int) -> Array:
    return np.asarray(values, np.int64)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("exclude", [0, 1])
def test_between_the_pixels(mode: str, coordinates: str, exclude: int) -> None:
    attributes = {
        "mode": mode,
        "coordinate_transformation_mode": coordinates,
        # onnxruntime has this for cubic readings, where it can make a difference.
        "exclude_outside": exclude if mode == "cubic" else 0,
        "cubic_coeff_a": -0.5 if exclude else -0.75,
    }
    assert agrees("Resize", [X, None, None, whole(2, 2, 9, 4)], 1, attributes, opset=19)
    assert agrees("Resize", [X, None, floats(1, 1, 2, 3)], 1, attributes, opset=19)
    if coordinates != "align_corners":
        assert agrees("Resize", [X, None, floats(1, 1, 1.5, 0.7)], 1, attributes, opset=19)


@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("nearest", ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
def test_nearest_pixels(coordinates: str, nearest: str) -> None:
    attributes = {"mode": "nearest", "coordinate_transformation_mode": coordinates, "nearest_mode": nearest}
    # Of a part of a pixel there are two readings with aligned corners.
    for scales in ((2, 2), (3, 4)) if coordinates == "align_corners" else ((2, 2), (0.5, 0.5), (1.5, 2.7)):
        assert agrees("Resize", [X, None, floats(1, 1, *scales)], 1, attributes, opset=19)
    assert agrees("Resize", [X, None, None, whole(2, 2, 8, 11)], 1, attributes, opset=13)


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_crops(mode: str) -> None:
    attributes = {
        "mode": mode,
        "coordinate_transformation_mode": "tf_crop_and_resize",
        "extrapolation_value": 7.0,
    }
    given = [X, floats(0, 0, 0.2, -0.3, 1, 1, 0.9, 1.3), None, whole(2, 2, 4, 9)]
    assert agrees("Resize", given, 1, attributes, opset=19)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("scales", [(0.5, 0.4), (0.3, 2.0)])
def test_wider_filters_when_shrinking(mode: str, scales: tuple[float, float]) -> None:
    given = [X, None, floats(1, 1, *scales)]
    assert agrees("Resize", given, 1, {"mode": mode, "antialias": 1}, opset=19, judge=by_reference)


@pytest.mark.parametrize("policy", ["not_larger", "not_smaller", "stretch"])
def test_proportions_and_axes(policy: str) -> None:
    attributes = {"mode": "linear", "axes": [3, 2], "keep_aspect_ratio_policy": policy}
    assert agrees("Resize", [X, None, None, whole(7, 12)], 1, attributes, opset=19, judge=by_reference)


@pytest.mark.parametrize(("op", "opset"), [("Upsample", 7), ("Upsample", 9), ("Resize", 10)])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_before_there_were_coordinates(op: str, opset: int, mode: str) -> None:
    attributes: dict[str, object] = {"mode": mode}
    # Only the last of the three makes pictures smaller.
    for scales in ((2.0, 3.0), (1.5, 1.0), (0.6, 0.5)) if op == "Resize" else ((2.0, 3.0), (1.5, 1.0)):
        given = [X, floats(1, 1, *scales)]
        if opset == 7:
            attributes["scales"] = [1.0, 1.0, *scales]
            given = given[:1]
        assert agrees(op, given, 1, attributes, opset=opset)


@pytest.mark.parametrize("shape", [(2, 3, 5), (1, 2, 3, 4, 3)])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_lines_and_volumes(shape: tuple[int, ...], mode: str) -> None:
    x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    sizes = whole(*shape[:2], *(size + 3 for size in shape[2:]))
    assert agrees("Resize", [x, None, None, sizes], 1, {"mode": mode}, opset=19, judge=by_reference)


def test_whole_numbers_are_rounded_and_kept_in_bounds() -> None:
    x = np.array([[[[0, 255, 255, 0]]]], np.uint8)
    given = [x, None, floats(1, 1, 1, 2)]
    assert agrees("Resize", given, 1, {"mode": "cubic"}, opset=19, judge=by_reference)
    assert agrees("Resize", given, 1, {"mode": "nearest"}, opset=19, judge=by_reference)


@pytest.mark.parametrize(
    ("attributes", "scales", "written"),
    [
        ({"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}, (2, 2), True),
        ({}, (3, 2), True),
        ({"mode": "linear"}, (2, 2), True),
        ({"mode": "cubic"}, (4, 4), True),
        ({"mode": "cubic", "exclude_outside": 1}, (4, 4), False),
        ({"mode": "linear", "coordinate_transformation_mode": "asymmetric"}, (2, 2), False),
        ({}, (1.5, 1.5), False),
    ],
)
def test_when_torch_interpolates(
    attributes: dict[str, object], scales: tuple[float, float], written: bool
) -> None:
    b = node_model("Resize", [X, None, floats(1, 1, *scales)], 1, attributes, opset=19)
    del b.graph.input[1]
    b.graph.initializer.append(numpy_helper.from_array(floats(1, 1, *scales), "x2"))
    calls = [n.target for n in GraphModule(Model.from_proto(b)).graph.nodes if n.op == "call_function"]
    assert calls == [functional.interpolate if written else resized]


def test_sizes_may_be_those_of_another_tensor() -> None:
    given = [X, None, None, whole(2, 2, 7, 3)]
    proto = node_model("Resize", given, 1, {"mode": "linear"}, opset=19)
    (found,) = bridged(proto, given)
    wanted = functional.interpolate(torch.from_numpy(X), (7, 3), mode="bilinear")
    assert np.allclose(found, wanted, atol=1e-6)


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_gradients(mode: str) -> None:
    x = torch.from_numpy(X[:1, :1]).double().requires_grad_()
    reading = Reading(mode, "half_pixel_symmetric", exclude_outside=True, antialias=mode == "linear")

    def run(x: torch.Tensor) -> torch.Tensor:
        return resized(x, None, (1.0, 1.0, 0.7, 1.6), None, reading)

    assert torch.autograd.gradcheck(run, [x])
