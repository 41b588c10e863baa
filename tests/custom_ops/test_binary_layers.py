"""What binary layers promise beyond their cases: forms fit together, floats are exact, bad input is refused."""

import dataclasses
from collections.abc import Mapping

import numpy as np
import pytest

from graphrewrite import custom_ops
from graphrewrite.custom_ops import Case
from graphrewrite.custom_ops.binary.pack import pack, pack_kernel, unpack
from graphrewrite.custom_ops.spec import Value
from graphrewrite.ir import Array
from tests.support.kernels import by_kernel, by_reference, isas, needs_library

pytestmark = needs_library


def ran(op: str, inputs: Mapping[str, Array], attributes: Mapping[str, Value]) -> Array:
    return by_kernel(custom_ops.find(op), Case("one", inputs, attributes))[0]


def conv() -> tuple[dict[str, Array], dict[str, Value]]:
    """A convolution of 70 to 50 channels, two groups, with every odd setting."""
    rng = np.random.default_rng(3)
    inputs: dict[str, Array] = {
        "x": rng.standard_normal((2, 70, 9, 8)).astype(np.float32),
        "x_threshold": rng.standard_normal(70).astype(np.float32),
        "weight": pack_kernel(rng.random((50, 35, 3, 3)) < 0.5),
        "scale": rng.standard_normal(50).astype(np.float32),
        "bias": rng.standard_normal(50).astype(np.float32),
        "threshold": rng.integers(-40, 40, 50).astype(np.int32),
    }
    attributes: dict[str, Value] = {"channels": 70, "group": 2, "strides": (1, 2), "pads": (1, 0, 2, 1)}
    return inputs, attributes


def taken(inputs: Mapping[str, Array], *names: str) -> dict[str, Array]:
    return {name: inputs[name] for name in names}


def test_signs_survive_packing() -> None:
    bits = np.random.default_rng(0).random((3, 5, 67)) < 0.5
    words = pack(bits)
    assert words.shape == (3, 5, 3) and (words[..., 2] < 8).all()
    np.testing.assert_array_equal(unpack(words, 67), bits)


def test_a_kernel_is_packed_channels_last() -> None:
    weight = np.zeros((1, 3, 1, 2), bool)
    weight[0, 2, 0, 1] = weight[0, 0, 0, 0] = True
    assert pack_kernel(weight).tolist() == [[[[1], [4]]]]


def test_numbers_are_exact() -> None:
    """One product, one sum, each rounded: the same on every instruction set, to the bit."""
    for op in ("BinaryConv", "BinaryConvFromBits", "BinaryMatMul", "BinaryMatMulFromBits"):
        spec = custom_ops.find(op)
        for case in spec.cases():
            wanted = by_reference(spec, case)
            for isa in isas():
                found = by_kernel(spec, case, isa)
                np.testing.assert_array_equal(found[0], wanted[0], err_msg=f"{op} {case.name} {isa}")


def test_bits_between_layers_are_those_of_the_floats() -> None:
    """Floats to bits, then bits to floats, is what numbers compared and packed in between would be."""
    inputs, attributes = conv()
    bits = ran("BinaryConvToBits", taken(inputs, "x", "x_threshold", "weight", "threshold"), attributes)
    exact = {**inputs, "scale": np.ones(50, np.float32), "bias": np.zeros(50, np.float32)}
    sums = ran("BinaryConv", taken(exact, "x", "x_threshold", "weight", "scale", "bias"), attributes)

    reached = np.moveaxis(sums, 1, -1).astype(np.int64) >= inputs["threshold"].astype(np.int64)
    np.testing.assert_array_equal(bits, pack(reached))


def test_packed_floats_give_what_floats_give() -> None:
    inputs, attributes = conv()
    inputs["x_threshold"] = np.zeros(70, np.float32)
    packed = ran("PackSigns", taken(inputs, "x"), {})
    floats = ran("BinaryConv", taken(inputs, "x", "x_threshold", "weight", "scale", "bias"), attributes)
    bits = ran("BinaryConvFromBits", {**taken(inputs, "weight", "scale", "bias"), "x": packed}, attributes)
    np.testing.assert_array_equal(bits, floats)


def test_a_matrix_product_is_a_convolution_with_one_tap() -> None:
    rng = np.random.default_rng(5)
    words, is_plus = rng.integers(0, 2**32, (12, 3), dtype=np.uint32), rng.random((40, 80)) < 0.5
    threshold = rng.integers(-9, 9, 40).astype(np.int32)
    one = ran(
        "BinaryMatMulBits", {"x": words, "weight": pack(is_plus), "threshold": threshold}, {"channels": 80}
    )
    two = ran(
        "BinaryConvBits",
        {
            "x": words.reshape(1, 3, 4, 3),
            "weight": pack_kernel(is_plus[:, :, None, None]),
            "threshold": threshold,
        },
        {"channels": 80},
    )
    np.testing.assert_array_equal(one, two.reshape(12, 2))


def test_weight_bits_behind_the_last_channel_do_not_count() -> None:
    inputs, attributes = conv()
    wanted = ran("BinaryConv", taken(inputs, "x", "x_threshold", "weight", "scale", "bias"), attributes)
    inputs["weight"] = inputs["weight"] | np.array(
        [0, 0xFFFFFFF8], np.uint32
    )  # 35 channels: 3 bits of word 1
    found = ran("BinaryConv", taken(inputs, "x", "x_threshold", "weight", "scale", "bias"), attributes)
    np.testing.assert_array_equal(found, wanted)


# What is changed of a good node, and what the message must say.
BAD: dict[str, tuple[dict[str, object], dict[str, object], str]] = {
    "channels-zero": ({}, {"channels": 0}, "channels is 0"),
    "channels-negative": ({}, {"channels": -70}, "channels is -70"),
    "channels-huge": ({}, {"channels": 2**40}, "channels is 1099511627776"),
    "group-zero": ({}, {"group": 0}, "group is 0"),
    "group-does-not-divide": ({}, {"group": 3}, "the groups divide"),
    "other-words": ({"weight": np.zeros((50, 3, 3, 1), np.uint32)}, {}, "weight has shape [50, 3, 3, 1]"),
    "no-outputs": ({"weight": np.zeros((0, 3, 3, 2), np.uint32)}, {}, "weight has shape [0, 3, 3, 2]"),
    "no-taps": ({"weight": np.zeros((50, 0, 3, 2), np.uint32)}, {}, "weight has shape"),
    "too-many-taps": ({"weight": np.zeros((50, 64, 3, 2), np.uint32)}, {}, "at most 63 x 63"),
    "weight-of-other-rank": ({"weight": np.zeros((50, 9, 2), np.uint32)}, {}, "weight has shape [50, 9, 2]"),
    "too-many-signs": (
        {"weight": np.zeros((1, 63, 63, 200), np.uint32), "x_threshold": np.zeros(6400, np.float32)},
        {"channels": 6400, "group": 1},
        "fewer than 2^24",
    ),
    "strides-zero": ({}, {"strides": (0, 1)}, "strides holds 0"),
    "strides-one": ({}, {"strides": (1,)}, "strides has 1 numbers"),
    "strides-huge": ({}, {"strides": (2**60, 1)}, "strides holds"),
    "dilations-zero": ({}, {"dilations": (1, 0)}, "dilations holds 0"),
    "pads-negative": ({}, {"pads": (0, -1, 0, 0)}, "pads holds -1"),
    "pads-two": ({}, {"pads": (0, 1)}, "pads has 2 numbers"),
    "pads-huge": ({}, {"pads": (0, 0, 2**62, 2**62)}, "pads holds"),
    "scale-of-other-length": ({"scale": np.ones(49, np.float32)}, {}, "scale has shape [49]"),
    "scale-of-other-rank": ({"scale": np.ones((50, 1), np.float32)}, {}, "scale has shape [50, 1]"),
    "scale-infinite": ({"scale": np.full(50, np.inf, np.float32)}, {}, "scale 0 is not finite"),
    "bias-nan": ({"bias": np.full(50, np.nan, np.float32)}, {}, "bias 0 is not finite"),
    "x-threshold-of-other-length": (
        {"x_threshold": np.zeros(71, np.float32)},
        {},
        "x_threshold has shape [71]",
    ),
    "x-threshold-nan": (
        {"x_threshold": np.full(70, np.nan, np.float32)},
        {},
        "x_threshold 0 is not a number",
    ),
    "x-of-other-channels": ({"x": np.zeros((1, 64, 9, 8), np.float32)}, {}, "x has shape [1, 64, 9, 8]"),
    "x-of-other-rank": ({"x": np.zeros((1, 70, 9), np.float32)}, {}, "x has shape [1, 70, 9]"),
    "x-smaller-than-the-window": (
        {"x": np.zeros((1, 70, 9, 1), np.float32)},
        {},
        "the window is 3 columns wide",
    ),
    "x-without-rows": (
        {"x": np.zeros((1, 70, 0, 0), np.float32)},
        {"pads": (0, 0, 0, 0)},
        "the window is 3 rows high",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_convolutions_are_refused_in_words(name: str) -> None:
    changed, settings, reason = BAD[name]
    inputs, attributes = conv()
    given = taken({**inputs, **changed}, "x", "x_threshold", "weight", "scale", "bias")  # type: ignore[dict-item]
    with pytest.raises(Exception, match="the_node") as caught:
        ran("BinaryConv", given, {**attributes, **settings})  # type: ignore[dict-item]
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("changed", "channels", "reason"),
    [
        ({"x": np.zeros((2, 3), np.uint32)}, 40, "x has shape [2, 3]"),
        ({"weight": np.zeros((7, 3), np.uint32)}, 40, "weight has shape [7, 3]"),
        ({"weight": np.zeros(7, np.uint32)}, 40, "weight has shape [7]"),
        ({"threshold": np.zeros(8, np.int32)}, 40, "threshold has shape [8]"),
        ({}, 0, "channels is 0"),
        ({}, 90, "weight has shape [7, 2]"),
    ],
    ids=["x", "weight", "weight-rank", "threshold", "channels", "words"],
)
def test_bad_products_are_refused_in_words(changed: dict[str, Array], channels: int, reason: str) -> None:
    inputs: dict[str, Array] = {
        "x": np.zeros((2, 2), np.uint32),
        "weight": np.zeros((7, 2), np.uint32),
        "threshold": np.zeros(7, np.int32),
    }
    with pytest.raises(Exception, match="the_node") as caught:
        ran("BinaryMatMulBits", {**inputs, **changed}, {"channels": channels})
    assert reason in str(caught.value)


def test_weights_computed_at_run_time_are_refused() -> None:
    spec = custom_ops.find("BinaryConv")
    changed = dataclasses.replace(
        spec, inputs=tuple(dataclasses.replace(port, constant=False) for port in spec.inputs)
    )
    inputs, attributes = conv()
    case = Case("one", taken(inputs, "x", "x_threshold", "weight", "scale", "bias"), attributes)
    with pytest.raises(Exception, match="the_node"):
        by_kernel(changed, case)


def test_torch_signs_pass_gradients_near_their_threshold() -> None:
    """By hand: |x - threshold| <= 1 passes, farther out nothing does."""
    torch = pytest.importorskip("torch")
    from graphrewrite.custom_ops.binary.torch_form import signs

    x = torch.tensor([[-2.0, -0.5, 0.0, 0.5, 1.4, 1.6]], requires_grad=True)
    signs(x, torch.tensor([0.5]), -1).sum().backward()
    assert x.grad.tolist() == [[0.0, 1.0, 1.0, 1.0, 1.0, 0.0]]
