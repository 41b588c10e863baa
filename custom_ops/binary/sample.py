"""Inputs on which all faces of the binary layers must agree."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from graphrewrite.custom_ops.binary.pack import pack, pack_kernel, words_for
from graphrewrite.custom_ops.spec import Array, Case, Value

# Name: batch, channels, height, width, outputs, window, group, strides, pads, dilations. Word borders, lane borders,
# tile borders, every way a window can hang over, windows that lie outside altogether.
_Conv = tuple[
    int, int, int, int, int, tuple[int, int], int, tuple[int, int], tuple[int, int, int, int], tuple[int, int]
]
_CONVS: dict[str, _Conv] = {
    "one-sign": (1, 1, 1, 1, 1, (1, 1), 1, (1, 1), (0, 0, 0, 0), (1, 1)),
    "whole-words": (1, 64, 9, 8, 64, (3, 3), 1, (1, 1), (1, 1, 1, 1), (1, 1)),
    "ragged": (2, 33, 7, 5, 17, (3, 3), 1, (1, 1), (1, 1, 1, 1), (1, 1)),
    "many-blocks": (1, 96, 5, 7, 147, (3, 3), 1, (1, 1), (1, 1, 1, 1), (1, 1)),
    "point": (3, 40, 6, 5, 65, (1, 1), 1, (1, 1), (0, 0, 0, 0), (1, 1)),
    "point-in-words": (1, 32, 17, 19, 48, (1, 1), 1, (1, 1), (0, 0, 0, 0), (1, 1)),
    "strides": (1, 31, 11, 12, 16, (3, 3), 1, (2, 3), (1, 1, 1, 1), (1, 1)),
    "strides-unpadded": (1, 32, 11, 12, 33, (2, 3), 1, (3, 2), (0, 0, 0, 0), (1, 1)),
    "dilations": (1, 8, 10, 9, 15, (3, 3), 1, (1, 1), (2, 3, 2, 3), (2, 3)),
    "seven": (1, 5, 9, 10, 20, (7, 7), 1, (1, 1), (3, 3, 3, 3), (1, 1)),
    "five-wide": (1, 70, 4, 12, 31, (1, 5), 1, (1, 2), (0, 4, 0, 1), (1, 1)),
    "wide-pads": (1, 16, 2, 3, 9, (3, 3), 1, (1, 1), (4, 5, 3, 6), (1, 1)),
    "groups": (2, 66, 5, 6, 34, (3, 3), 2, (1, 1), (1, 1, 1, 1), (1, 1)),
    "groups-of-words": (1, 64, 6, 6, 64, (3, 3), 2, (1, 1), (0, 0, 0, 0), (1, 1)),
    "depthwise": (1, 37, 5, 6, 37, (3, 3), 37, (1, 1), (1, 0, 1, 0), (1, 1)),
    "batch": (9, 32, 4, 4, 32, (3, 3), 1, (2, 2), (1, 1, 1, 1), (1, 1)),
    "long": (1, 300, 3, 4, 18, (3, 3), 1, (1, 1), (1, 1, 1, 1), (1, 1)),
    "no-batch": (0, 40, 4, 4, 8, (3, 3), 1, (1, 1), (1, 1, 1, 1), (1, 1)),
    "several-parts": (1, 64, 60, 50, 128, (3, 3), 1, (1, 1), (1, 1, 1, 1), (1, 1)),
}

# Bits are bits. Numbers are a product and a sum, which onnxruntime may fold into the weights of the body's convolution.
_ROUNDING = {True: 0.0, False: 1e-6}

# Leading sizes, channels, outputs.
_MAT_MULS: dict[str, tuple[tuple[int, ...], int, int]] = {
    "one-sign": ((1,), 1, 1),
    "row": ((1,), 320, 100),
    "vector": ((), 64, 33),
    "ragged": ((3,), 33, 65),
    "sequence": ((2, 5), 96, 64),
    "rows": ((19,), 70, 129),
    "no-rows": ((0,), 40, 7),
    "empty-middle": ((2, 0, 3), 40, 40),
    "several-parts": ((300,), 256, 192),
}


def conv_cases(*, bits_in: bool, bits_out: bool) -> Iterator[Case]:
    """Yield cases of a binary convolution."""
    for number, (name, sizes) in enumerate(_CONVS.items()):
        rng = np.random.default_rng(number)
        batch, channels, height, width, outputs, window, group, strides, pads, dilations = sizes
        attributes: dict[str, Value] = {
            "channels": channels,
            "group": group,
            "strides": strides,
            "pads": pads,
            "dilations": dilations,
        }
        inputs: dict[str, Array] = {}
        if bits_in:
            inputs["x"] = _words(rng, (batch, height, width), channels)
        else:
            inputs["x"] = _floats(rng, (batch, channels, height, width))
            inputs["x_threshold"] = _thresholds(rng, channels)
        inputs["weight"] = pack_kernel(rng.random((outputs, channels // group, *window)) < 0.5)
        inputs |= _outputs(rng, outputs, channels // group * window[0] * window[1], bits_out)
        yield Case(name, inputs, attributes, rtol=_ROUNDING[bits_out])


def mat_mul_cases(*, bits_in: bool, bits_out: bool) -> Iterator[Case]:
    """Yield cases of a binary matrix product."""
    for number, (name, (leading, channels, outputs)) in enumerate(_MAT_MULS.items()):
        rng = np.random.default_rng(number)
        inputs: dict[str, Array] = {}
        if bits_in:
            inputs["x"] = _words(rng, leading, channels)
        else:
            inputs["x"] = _floats(rng, (*leading, channels))
            inputs["x_threshold"] = _thresholds(rng, channels)
        inputs["weight"] = pack(rng.random((outputs, channels)) < 0.5)
        inputs |= _outputs(rng, outputs, channels, bits_out)
        yield Case(name, inputs, {"channels": channels}, rtol=_ROUNDING[bits_out])


def _floats(rng: np.random.Generator, shape: Sequence[int]) -> npt.NDArray[np.float32]:
    """Return normal numbers among which are all whose sign is a matter of definition."""
    x = rng.standard_normal(shape).astype(np.float32)
    odd = np.array([0.0, -0.0, np.nan, np.inf, -np.inf, 1e-45, -1e-45, 0.25], np.float32)
    places = rng.random(shape) < 0.1
    x[places] = rng.choice(odd, int(places.sum()))
    return x


def _thresholds(rng: np.random.Generator, channels: int) -> npt.NDArray[np.float32]:
    return rng.choice(np.array([0.0, -0.0, 0.25, -0.5, np.inf, 0.125], np.float32), channels)


def _words(rng: np.random.Generator, leading: Sequence[int], channels: int) -> npt.NDArray[np.uint32]:
    """Return random words, those behind the last channel included: nobody may look at them."""
    return rng.integers(0, 2**32, (*leading, words_for(channels)), dtype=np.uint32)


def _outputs(rng: np.random.Generator, outputs: int, most: int, bits_out: bool) -> dict[str, Array]:
    if bits_out:
        threshold = rng.integers(-most // 4 - 1, most // 4 + 2, outputs).astype(np.int32)
        extremes = np.array([np.iinfo(np.int32).min, np.iinfo(np.int32).max, most, most + 1, -most], np.int32)
        threshold[::7] = rng.choice(extremes, len(threshold[::7]))
        return {"threshold": threshold}
    return {
        "scale": rng.standard_normal(outputs).astype(np.float32),
        "bias": rng.standard_normal(outputs).astype(np.float32),
    }
