"""The held-out digits spoilt in five fixed ways: images on which a net that is nearly always right errs at times."""

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from graphrewrite.models.digits import SIDE

Images = npt.NDArray[np.float32]


def corrupted(images: Images) -> Images:
    """Return the images, of one channel, turned, moved, blurred, under noise, and with a square missing, in turn.

    Strengths were set once, so that the shipped nets in floats are right on about nine of ten, and by nothing else.
    """
    rng = np.random.default_rng(0)
    dark = float(images.min())
    flat = images.reshape(-1, SIDE, SIDE)
    angles, ways = rng.choice([-17.0, 17.0], len(flat)), rng.choice([-3, 3], (len(flat), 2))
    turned = [
        ndimage.rotate(each, by, reshape=False, order=1, cval=dark)
        for each, by in zip(flat, angles, strict=True)
    ]
    moved = [ndimage.shift(each, by, order=0, cval=dark) for each, by in zip(flat, ways, strict=True)]
    blurred = ndimage.gaussian_filter(flat, (0, 2.2, 2.2))
    noisy = flat + rng.normal(0, 0.5, flat.shape)
    missing = flat.copy()
    for each, (top, left) in zip(missing, rng.integers(7, 18, (len(flat), 2)), strict=True):
        each[top : top + 7, left : left + 7] = dark
    made = np.concatenate([turned, moved, blurred, noisy, missing]).astype(np.float32)
    return made.reshape(-1, *images.shape[1:])
