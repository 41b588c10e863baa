"""A tiny EDSR that doubles the sides of pictures, on scikit-image's own ones, for methods about super-resolution."""

from dataclasses import replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from graphrewrite.bridge import Optimiser, Recipe, Stage, finetune
from graphrewrite.data import ArraySource
from graphrewrite.ir import Builder, Model
from graphrewrite.passes.losses.mse import Mse
from graphrewrite.runtime import run

SIDE = 16  # of a small patch
BODY = "body_out"  # what the attention of teachers is looked at in
_NAMES = ("astronaut", "camera", "chelsea", "coffee", "coins", "brick", "page", "text")

Pictures = npt.NDArray[np.float32]


def edsr(seed: int = 0, width: int = 12) -> Model:
    """Return two residual blocks without norms in a long shortcut; what they give is added to larger pixels."""
    b = Builder(seed=seed)
    picture = b.input(["N", 1, "H", "W"], "low")
    head = b.conv(picture, width, 1, name="head")
    x = head
    for block in ("one", "two"):
        inner = b.relu(b.conv(x, width, width, name=f"body.{block}.a"))
        x = b.add(x, b.conv(inner, width, width, name=f"body.{block}.b"))
    body = b.op("Add", b.conv(x, width, width, name="end"), head, name="body")
    details = b.op("DepthToSpace", b.conv(body, 4, width, name="tail"), blocksize=2)
    large = b.op("Resize", picture, None, b.constant(np.array([1, 1, 2, 2], np.float32)), mode="nearest")
    model = b.model(b.add(details, large))
    model.outputs[0].name = "high"
    tail = next(node for node in model.graph.nodes if node.name == "tail")
    for tensor in tail.inputs[1:]:  # at first it gives larger pixels only, so that little training is enough
        model.weights[tensor.name] = np.zeros_like(model.weights[tensor.name])
    return model


@lru_cache
def patches() -> tuple[Pictures, Pictures]:
    """Return patches of pictures [n, 1, 32, 32], and those that are held out, from 0 to 1, in grey."""
    from skimage import data

    rng = np.random.default_rng(0)
    made: list[Pictures] = []
    for name in _NAMES:
        picture = getattr(data, name)().astype(np.float32) / 255
        picture = picture if picture.ndim == 2 else picture.mean(axis=2)
        rows, columns = (rng.integers(0, size - 2 * SIDE, 56) for size in picture.shape)
        made += [
            picture[row : row + 2 * SIDE, column : column + 2 * SIDE]
            for row, column in zip(rows, columns, strict=True)
        ]
    found = np.stack(made)[:, None]
    is_held_out = np.arange(len(found)) % 56 >= 40
    return found[~is_held_out], found[is_held_out]


def low(pictures: Pictures) -> Pictures:
    """Return pictures of half the sides: means of four pixels."""
    n, one, height, width = pictures.shape
    return np.asarray(pictures.reshape(n, one, height // 2, 2, width // 2, 2).mean(axis=(3, 5)), np.float32)


def training() -> ArraySource:
    """Return small patches, with the large ones for labels."""
    large = patches()[0]
    return ArraySource({"low": low(large)}, large)


def psnr(model: Model) -> float:
    """Return the peak signal to noise on held-out patches in dB."""
    large = patches()[1]
    found = np.asarray(run(model, {"low": low(large)}, ["high"])["high"], np.float64)
    return float(-10 * np.log10(np.square(found - large).mean()))


@lru_cache
def taught(seed: int) -> Model:
    """Return a net that has learned to enlarge."""
    made = Recipe((Stage(20, 0.003, (Mse(),)),), Optimiser("adam"), batch=16)
    return finetune(edsr(seed), replace(made, seed=seed), training())
