"""Scikit-learn's handwritten digits as 32x32 images with one fixed held-out split.

1797 scans of 8x8 pixels (values 0..16) come with scikit-learn itself, so nothing is downloaded. They are
enlarged to 32x32, normalised with constants of the training images, and split once and for all into 1197
training and 600 held-out images. Six functions fit the command line's `--data MODULE:FUNCTION`:

    --data graphrewrite.models.digits:calibration                  inputs of training images, no labels
    --data graphrewrite.models.digits:train                        (inputs, labels) of all training images
    --data graphrewrite.models.digits:test                         (inputs, labels) of the held-out images
    --data graphrewrite.models.digits:calibration_channels_last    the same images as [n, 32, 32, 1]
    --data graphrewrite.models.digits:train_channels_last
    --data graphrewrite.models.digits:test_channels_last

`inputs` is a dictionary from the model's input name to an array; every shipped model calls its input `image`.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from graphrewrite.errors import InvalidConfig, InvalidData, MissingExtra, UnknownNameError

Images = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]
Inputs = dict[str, Images]

INPUT_NAME = "image"
"""The graph input of every shipped model."""
SIDE = 32
"""Pixels along one edge of an enlarged image."""
CLASSES = 10
TOTAL = 1797
HELD_OUT = 600
SPLIT_SEED = 0
MEAN = 0.306
"""Mean of the enlarged training pixels on the scale 0..1, rounded."""
STD = 0.324
"""Standard deviation of the enlarged training pixels on the scale 0..1, rounded."""


def digits(split: Literal["train", "test"]) -> tuple[Images, Labels]:
    """Images [n, 1, 32, 32] and labels [n] (0..9) of one side of the fixed split; 1197 train, 600 test.

    Raises:
        UnknownNameError: `split` is neither "train" nor "test".
        MissingExtra: scikit-learn is not installed.
    """
    if split not in ("train", "test"):
        raise UnknownNameError(
            f"digits has no split named {split!r}; it has 'train' (1197 images) and 'test' (600 held-out); "
            "ask for one of the two"
        )
    scans, labels = _load()
    train, held_out = split_indices(labels)
    chosen = train if split == "train" else held_out
    return normalised(enlarged(scans[chosen])), labels[chosen]


def split_indices(labels: Labels) -> tuple[Labels, Labels]:
    """Positions of the training and of the held-out images, ascending, with every class in proportion.

    The held-out places are shared out by largest remainder, then drawn class by class. `RandomState` is used
    because numpy guarantees its stream for ever, which it does not for `default_rng`.
    """
    random = np.random.RandomState(SPLIT_SEED)
    share = np.bincount(labels, minlength=CLASSES) * HELD_OUT / len(labels)  # [classes], fractional places
    places = np.floor(share).astype(np.int64)
    by_remainder = np.argsort(places - share, kind="stable")
    places[by_remainder[: HELD_OUT - int(places.sum())]] += 1

    drawn = [random.permutation(np.flatnonzero(labels == c))[: places[c]] for c in range(CLASSES)]
    held_out = np.sort(np.concatenate(drawn)).astype(np.int64)
    train = np.setdiff1d(np.arange(len(labels), dtype=np.int64), held_out)
    return train, held_out


def enlarged(scans: npt.NDArray[np.float32]) -> Images:
    """Bilinear enlargement of [n, 8, 8] scans to [n, 1, 32, 32], pixel centres aligned, borders repeated.

    The interpolation weights are multiples of 1/8 and the scans are whole numbers up to 16, so every sum is
    exact in float32 and the result has the same bits on every machine.
    """
    weights = _interpolation(scans.shape[-1], SIDE)  # [32, 8]
    return np.einsum("ip,npq,jq->nij", weights, scans, weights, dtype=np.float32)[:, np.newaxis]


def normalised(images: Images) -> Images:
    """Pixels 0..16 to about zero mean and unit deviation, with the constants of the training images."""
    return ((images / np.float32(16.0) - np.float32(MEAN)) / np.float32(STD)).astype(np.float32)


def calibration(n: int = 256) -> Inputs:
    """`{"image": [n, 1, 32, 32]}` drawn from the training images only: the held-out ones are never touched.

    The draw is fixed, a smaller `n` is a prefix of a larger one, and the first ten hold one image of each
    class.

    Raises:
        InvalidConfig: `n` is not between 1 and 1197.
    """
    images, labels = digits("train")
    if not 1 <= n <= len(images):
        raise InvalidConfig(
            f"calibration(n={n}) cannot draw {n} images; the training split has {len(images)}; "
            f"choose n between 1 and {len(images)}"
        )
    shuffled = np.random.RandomState(SPLIT_SEED).permutation(len(images))
    turn = np.zeros(len(images), dtype=np.int64)  # how many of its class come before an image
    for c in range(CLASSES):
        of_class = labels[shuffled] == c
        turn[of_class] = np.arange(of_class.sum())
    order = shuffled[np.argsort(turn, kind="stable")]
    return {INPUT_NAME: images[order[:n]]}


def train() -> tuple[Inputs, Labels]:
    """`({"image": [1197, 1, 32, 32]}, labels [1197])` of the training images, in the order of the data set."""
    images, labels = digits("train")
    return {INPUT_NAME: images}, labels


def test() -> tuple[Inputs, Labels]:
    """`({"image": [600, 1, 32, 32]}, labels [600])` of the held-out images, for measuring accuracy."""
    images, labels = digits("test")
    return {INPUT_NAME: images}, labels


def calibration_channels_last(n: int = 256) -> Inputs:
    """The images of `calibration` as [n, 32, 32, 1], for models exported from channels-last frameworks."""
    return {name: channels_last(images) for name, images in calibration(n).items()}


def train_channels_last() -> tuple[Inputs, Labels]:
    """The images of `train` as [1197, 32, 32, 1] with their labels."""
    return _channels_last(*train())


def test_channels_last() -> tuple[Inputs, Labels]:
    """The images of `test` as [600, 32, 32, 1] with their labels."""
    return _channels_last(*test())


def _channels_last(inputs: Inputs, labels: Labels) -> tuple[Inputs, Labels]:
    return {name: channels_last(images) for name, images in inputs.items()}, labels


def channels_last(images: Images) -> Images:
    """[n, c, h, w] to [n, h, w, c], laid out afresh in memory."""
    return np.ascontiguousarray(images.transpose(0, 2, 3, 1))


def _load() -> tuple[npt.NDArray[np.float32], Labels]:
    """Scans [1797, 8, 8] with values 0..16 and their labels [1797], in scikit-learn's order."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as missing:
        raise MissingExtra(
            f"the digits images cannot be loaded ({missing}); they come with scikit-learn, an optional "
            'package; install it with `pip install "graphrewrite[demo]"` or `pip install scikit-learn`'
        ) from missing
    bunch = load_digits()
    scans = np.asarray(bunch.images, dtype=np.float32)
    labels = np.asarray(bunch.target, dtype=np.int64)
    if scans.shape != (TOTAL, 8, 8):
        raise InvalidData(
            f"scikit-learn's digits have shape {scans.shape}; the split is defined on ({TOTAL}, 8, 8); "
            "use a scikit-learn release that ships the original set of scans"
        )
    return scans, labels


def _interpolation(source: int, target: int) -> npt.NDArray[np.float32]:
    """Matrix [target, source] of linear interpolation between pixel centres, clamped at the borders."""
    centre = np.clip((np.arange(target) + 0.5) * source / target - 0.5, 0, source - 1)
    left = np.minimum(np.floor(centre).astype(np.int64), source - 2)
    fraction = centre - left
    matrix = np.zeros((target, source), dtype=np.float32)
    matrix[np.arange(target), left] = 1.0 - fraction
    matrix[np.arange(target), left + 1] = fraction
    return matrix
