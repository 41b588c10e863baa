"""Grids, regions and boxes against onnxruntime, and the gradients of what torch itself does not have."""

import numpy as np
import pytest
import torch

from graphrewrite.bridge import GraphModule
from graphrewrite.bridge.optable.detect import non_max_suppression
from graphrewrite.bridge.optable.roi import max_roi_pool, roi_align
from graphrewrite.errors import UnsupportedOp
from graphrewrite.ir import Array, Model
from tests.engine.bridge.nodes import agrees, by_reference, node_model

RNG = np.random.default_rng(0)
X = RNG.standard_normal((2, 3, 7, 6)).astype(np.float32)


@pytest.mark.parametrize("mode", ["linear", "nearest", "cubic"])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("corners", [0, 1])
def test_sampling_pictures(mode: str, padding: str, corners: int) -> None:
    grid = RNG.uniform(-1.4, 1.4, (2, 4, 5, 2)).astype(np.float32)
    attributes = {"mode": mode, "padding_mode": padding, "align_corners": corners}
    assert agrees("GridSample", [X, grid], 1, attributes, opset=20)
    old = {"linear": "bilinear", "cubic": "bicubic"}
    assert agrees("GridSample", [X, grid], 1, {**attributes, "mode": old.get(mode, mode)}, opset=16)


@pytest.mark.parametrize("mode", ["linear", "nearest"])
def test_sampling_volumes_and_lines(mode: str) -> None:
    volume = RNG.standard_normal((1, 2, 3, 4, 5)).astype(np.float32)
    grid = RNG.uniform(-1.2, 1.2, (1, 2, 3, 4, 3)).astype(np.float32)
    assert agrees("GridSample", [volume, grid], 1, {"mode": mode}, opset=20)
    places = RNG.uniform(-1.2, 1.2, (2, 5, 1)).astype(np.float32)
    assert agrees("GridSample", [X[:, :, 0], places], 1, {"mode": mode}, opset=20, judge=by_reference)


def test_cubic_volumes_are_refused() -> None:
    given = [np.zeros((1, 1, 2, 2, 2), np.float32), np.zeros((1, 1, 1, 1, 3), np.float32)]
    with pytest.raises(UnsupportedOp, match="no bicubic sampling over 3 axes"):
        GraphModule(Model.from_proto(node_model("GridSample", given, 1, {"mode": "cubic"})))


def regions() -> tuple[Array, Array]:
    corner = RNG.uniform(-3, 9, (9, 2))
    rois = np.concatenate((corner, corner + RNG.uniform(-1, 9, (9, 2))), 1)
    return rois.astype(np.float32), RNG.integers(0, 2, 9)


@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("ratio", [0, 2])
@pytest.mark.parametrize("coordinates", ["", "half_pixel", "output_half_pixel"])
def test_aligned_regions(mode: str, ratio: int, coordinates: str) -> None:
    attributes: dict[str, object] = {"mode": mode, "sampling_ratio": ratio}
    attributes |= {"output_height": 3, "output_width": 2, "spatial_scale": 0.75}
    if coordinates:
        attributes["coordinate_transformation_mode"] = coordinates
    assert agrees("RoiAlign", [X, *regions()], 1, attributes, opset=16 if coordinates else 10)


def test_regions_pooled_by_whole_pixels() -> None:
    rois, images = regions()
    given = [X, np.concatenate((images[:, None].astype(np.float32), rois), 1)]
    assert agrees("MaxRoiPool", given, 1, {"pooled_shape": [3, 2], "spatial_scale": 0.75}, opset=11)


def test_no_regions() -> None:
    x = torch.from_numpy(X)
    assert roi_align(x, torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), output_width=2).shape == (
        0,
        3,
        1,
        2,
    )
    assert max_roi_pool(x, torch.zeros(0, 5), pooled_shape=(2, 2)).shape == (0, 3, 2, 2)


@pytest.mark.parametrize("mode", ["avg", "max"])
def test_gradients_of_regions(mode: str) -> None:
    x = torch.from_numpy(X[:1, :2]).double().requires_grad_()
    rois = torch.tensor([[0.3, 0.7, 4.1, 5.3], [1.2, 2.4, 5.7, 3.9]], dtype=torch.float64, requires_grad=True)

    def run(x: torch.Tensor, rois: torch.Tensor) -> torch.Tensor:
        images = torch.zeros(2, dtype=torch.int64)
        return roi_align(x, rois, images, mode=mode, output_height=2, output_width=2, sampling_ratio=2)

    assert torch.autograd.gradcheck(run, [x, rois])
    whole = torch.tensor([[0.0, 0.0, 1.0, 3.0, 5.0]], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: max_roi_pool(x, whole, pooled_shape=(2, 2)), [x])


@pytest.mark.parametrize("centred", [0, 1])
@pytest.mark.parametrize("rest", [(5,), (3, 0.4), (50, 0.3, 0.5), ()])
def test_boxes_to_keep(centred: int, rest: tuple[float, ...]) -> None:
    boxes = RNG.uniform(0, 1, (2, 20, 4)).astype(np.float32)
    # Few different scores, so that there are equal ones.
    scores = (RNG.integers(0, 8, (2, 3, 20)) / 8).astype(np.float32)
    given = [boxes, scores]
    for slot, value in enumerate(rest):
        given.append(np.array([value], np.float32 if slot else np.int64))
    assert agrees("NonMaxSuppression", given, 1, {"center_point_box": centred}, opset=11)


def test_boxes_without_area_suppress_nothing() -> None:
    boxes, scores = torch.zeros(1, 3, 4), torch.tensor([[[0.1, 0.3, 0.2]]])
    assert non_max_suppression(boxes, scores, 9, 0.5).tolist() == [[0, 0, 1], [0, 0, 2], [0, 0, 0]]
