"""Padding in all modes, with edges cut off, more than once round, of every type, and older operator sets."""

import numpy as np
import pytest
import torch

from graphrewrite.bridge.optable.pad import center_crop_pad, pad
from graphrewrite.ir import Array
from tests.engine.bridge.nodes import agrees, by_reference

X = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
MODES = ["constant", "reflect", "edge", "wrap"]


def whole(*values: int) -> Array:
    return np.asarray(values, np.int64)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "pads", [(0, 1, 2, 0, 2, 1), (1, 0, 0, 0, 0, 3), (0, 0, 0, 0, 0, 0), (0, 0, 3, 0, 0, 0)]
)
@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.float16, np.uint16, np.bool_])
def test_modes(mode: str, pads: tuple[int, ...], dtype: type) -> None:
    assert agrees("Pad", [X.astype(dtype), whole(*pads)], 1, {"mode": mode}, opset=19, judge=by_reference)


@pytest.mark.parametrize("mode", MODES)
def test_edges_of_an_image(mode: str) -> None:
    image = np.random.default_rng(0).standard_normal((2, 3, 5, 4)).astype(np.float32)
    assert agrees("Pad", [image, whole(0, 0, 2, 1, 0, 0, 3, 3)], 1, {"mode": mode}, opset=19)


@pytest.mark.parametrize("mode", ["constant", "edge", "wrap", "reflect"])
def test_edges_cut_off_before_others_are_added(mode: str) -> None:
    # By hand: 0 1 2 3 4 without its first two is 2 3 4.
    found = pad(torch.arange(5.0), (-2, 2), 9.0, mode=mode)
    behind = {"constant": [9, 9], "edge": [4, 4], "wrap": [2, 3], "reflect": [3, 2]}[mode]
    assert found.tolist() == [2, 3, 4, *behind]


def test_reflections_of_a_few_numbers_go_on() -> None:
    assert pad(torch.tensor([1, 2]), (3, 3), mode="reflect").tolist() == [2, 1, 2, 1, 2, 1, 2, 1]
    assert pad(torch.tensor([7]), (1, 2), mode="reflect").tolist() == [7, 7, 7, 7]


@pytest.mark.parametrize("value", [None, np.array(2.5, np.float32), np.array([-np.inf], np.float32)])
def test_values_and_axes(value: Array | None) -> None:
    pads = whole(1, 0, 2, -1)
    assert agrees("Pad", [X, pads, value, whole(-1, 0)], opset=18)
    assert agrees("Pad", [X, whole(0, 1, -1, 1, 0, 2), *([] if value is None else [value])], opset=11)


def test_values_of_other_types_are_exact() -> None:
    large = np.array(2**53 + 1)  # no double is this number
    assert agrees("Pad", [X.astype(np.int64), whole(0, 0, 1, 0, 0, 1), large], opset=13)
    assert agrees("Pad", [X > 3, whole(0, 0, 1, 0, 0, 1), np.array(True)], opset=13)


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge"])
def test_attributes_before_operator_set_11(mode: str) -> None:
    attributes = {"pads": [0, 1, 2, 0, 0, 1], "mode": mode, "value": 1.5}
    assert agrees("Pad", [X], 1, attributes, opset=7)


def test_a_value_that_is_computed_gets_its_gradient() -> None:
    x, value = torch.ones(2, requires_grad=True), torch.tensor([3.0], requires_grad=True)
    found = pad(x, (1, 2), value)
    assert found.tolist() == [3, 1, 1, 3, 3]
    found.sum().backward()
    assert value.grad is not None and value.grad.tolist() == [3]
    assert x.grad is not None and x.grad.tolist() == [1, 1]


def test_odd_numbers_around_the_centre() -> None:
    # By hand: of 5 to 2 one is cut in front and two behind; of 2 to 5 one is added in front and two behind.
    assert center_crop_pad(torch.arange(5), (2,)).tolist() == [1, 2]
    assert center_crop_pad(torch.tensor([8, 9]), (5,)).tolist() == [0, 8, 9, 0, 0]
