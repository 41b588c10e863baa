"""A small residual net, a sum around every convolution, on scikit-learn's digits of 8 x 8 pixels."""

from functools import lru_cache

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs
import pytest

from graphrewrite.data import ArraySource
from graphrewrite.ir import Builder, Model
from graphrewrite.models.digits import split_indices
from graphrewrite.runtime import run

BINARY = 4  # convolutions of `net` that become signs


def net(seed: int = 0, width: int = 8, rectifier: str = "Clip") -> Model:
    """Draw a stem, two blocks of two 3 x 3 convolutions and a last layer, with weights of nobody.

    Each convolution has a norm and a sum of its own (Liu et al. 2018); behind it stands a Clip to [-1, 1] or a Relu.
    """
    b = Builder(seed=seed)
    x = _norm(b, b.conv(b.input(["N", 1, 8, 8], "image"), width, 1, bias=False, name="stem"), width)
    for number, (into, out) in enumerate(((width, width), (width, 2 * width))):
        way = x if into == out else _wider(b, x)
        for conv, (read, stride) in enumerate(((into, out // into), (out, 1))):
            y = b.conv(x, out, read, stride=stride, bias=False, name=f"conv{number}{conv}")
            x = _rectified(b, b.add(_norm(b, y, out), way), rectifier)
            way = x
    flat = b.op("Flatten", b.op("GlobalAveragePool", x), axis=1)
    model = b.model(b.linear(_norm(b, flat, 2 * width), 10, 2 * width, name="last"))
    model.outputs[0].name = "scores"
    return model


def _norm(b: Builder, x: gs.Tensor, channels: int) -> gs.Variable:
    numbers = [np.full(channels, value, np.float32) for value in (1, 0, 0, 1)]
    return b.op("BatchNormalization", x, *map(b.constant, numbers))


def _wider(b: Builder, x: gs.Tensor) -> gs.Variable:
    """Halve the picture and double the channels without a weight."""
    half = b.op("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2])
    return b.concat(half, half)


def _rectified(b: Builder, x: gs.Tensor, rectifier: str) -> gs.Variable:
    ends = [b.constant(np.float32(end)) for end in (-1, 1)] if rectifier == "Clip" else []
    return b.op(rectifier, x, *ends)


@lru_cache(maxsize=1)
def digits() -> tuple[ArraySource, ArraySource]:
    """Return training and held-out pictures with labels."""
    bunch = pytest.importorskip("sklearn.datasets").load_digits()
    pictures = (bunch.images[:, None] / 8 - 1).astype(np.float32)
    train, _ = split_indices(bunch.target)
    rest = np.setdiff1d(np.arange(len(pictures)), train)
    return ArraySource({"image": pictures[train]}, bunch.target[train]), ArraySource(
        {"image": pictures[rest]}, bunch.target[rest]
    )


def few(samples: int) -> ArraySource:
    """Return the first of the training pictures."""
    train = digits()[0]
    assert train.labels is not None
    return ArraySource({"image": train.arrays["image"][:samples]}, train.labels[:samples])


def scores(model: Model) -> npt.NDArray[np.float32]:
    """Return what a model says of the held-out pictures."""
    return np.asarray(run(model, dict(digits()[1].arrays))["scores"])


def right(model: Model) -> float:
    """Return the share of held-out pictures whose label scores highest."""
    labels = digits()[1].labels
    assert labels is not None
    return float((scores(model).argmax(axis=1) == labels).mean())
