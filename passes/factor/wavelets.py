"""The learned fast wavelet transform in numpy: filters, levels, and the product that a layer is written as.

After Wolter, Lin and Yao (2020, arXiv 2004.09569): zero extension, every second value of a full convolution,
coefficients in the order of the high halves from fine to coarse and then the last low half. Band offsets are running
sums; offsets by single lengths, as in released code, make bands overlap from two levels on.
"""

import numpy as np
import numpy.typing as npt

from graphrewrite.errors import InvalidConfig

Floats = npt.NDArray[np.float64]

_ROOT = np.sqrt(2.0)
_DAUBECHIES_2 = np.array([1 + 3**0.5, 3 + 3**0.5, 3 - 3**0.5, 1 - 3**0.5]) / (4 * _ROOT)
STARTS = {"haar": np.array([1.0, 1.0]) / _ROOT, "db2": _DAUBECHIES_2}


def halves(size: int, taps: int, levels: int) -> list[int]:
    """Return the lengths of the halves that each level makes of `size` values; beyond the edges there are zeros."""
    lengths = []
    for _ in range(levels):
        size = (size + taps - 1) // 2
        lengths.append(size)
    return lengths


def coefficients(size: int, taps: int, levels: int) -> int:
    """Return how many coefficients an analysis makes."""
    lengths = halves(size, taps, levels)
    return sum(lengths) + lengths[-1]


def filters(start: str, taps: int) -> tuple[Floats, Floats]:
    """Return filters of `taps` taps (even) for analysis and synthesis, [low, high] each, that undo each other.

    They are those of an orthogonal wavelet with zeros on either side; the high ones follow from the low one by alias
    cancellation: f0[k] = (-1)^(taps-1-k) h1[k], f1[k] = -(-1)^(taps-1-k) h0[k].

    Raises:
        InvalidConfig: no such wavelet, or it does not fit into that many taps.
    """
    if start not in STARTS:
        raise InvalidConfig(f"there is no wavelet {start!r}; expected one of {', '.join(STARTS)}; choose one")
    low = STARTS[start]
    if taps < len(low) or taps % 2:
        raise InvalidConfig(
            f"filters of {taps} taps cannot start as {start!r}; expected an even number of at least {len(low)}"
        )
    side = (taps - len(low)) // 2
    h0 = np.pad(low, side)
    f0 = h0[::-1]
    signs = (-1.0) ** (taps - 1 - np.arange(taps))
    return np.stack([h0, signs * f0]), np.stack([f0, -signs * h0])


def analyse(x: Floats, pair: Floats, levels: int) -> Floats:
    """Return the coefficients [..., coefficients] of `x` [..., size] by the filters `pair` [2, taps]."""
    taps, low, bands = pair.shape[1], x, []
    for _ in range(levels):
        wide = np.zeros((*low.shape[:-1], low.shape[-1] + 2 * taps))
        wide[..., taps - 2 : taps - 2 + low.shape[-1]] = low
        half = (low.shape[-1] + taps - 1) // 2
        low, high = (
            sum(one[taps - 1 - j] * wide[..., j : j + 2 * half : 2] for j in range(taps)) for one in pair
        )
        bands.append(high)
    return np.concatenate([*bands, low], axis=-1)


def synthesise(values: Floats, pair: Floats, levels: int, size: int) -> Floats:
    """Return the signal [..., size] that coefficients stand for, by the filters `pair` [2, taps]."""
    taps = pair.shape[1]
    lengths = [size, *halves(size, taps, levels)]
    *bands, low = np.split(values, np.cumsum(lengths[1:]), axis=-1)
    for length, high in zip(reversed(lengths[:-1]), reversed(bands), strict=True):
        whole = np.zeros((*low.shape[:-1], 2 * low.shape[-1] + taps))
        for one, half in zip(pair, (low, high), strict=True):
            for tap in range(taps):
                whole[..., tap : tap + 2 * half.shape[-1] : 2] += one[tap] * half
        low = whole[..., taps - 2 : taps - 2 + length]
    return low


def reconstruction_loss(analysis: Floats, synthesis: Floats) -> float:
    """Return how far filters are from undoing each other: 0 where h0*f0 + h1*f1 is twice a delay of taps - 1."""
    taps = analysis.shape[1]
    product = sum(np.convolve(h, f) for h, f in zip(analysis, synthesis, strict=True))
    wanted = np.zeros(2 * taps - 1)
    wanted[taps - 1] = 2
    return float(((product - wanted) ** 2).sum())


def alias_loss(analysis: Floats, synthesis: Floats) -> float:
    """Return how much of what every second value loses comes back as an alias: 0 under the conditions of `filters`."""
    signs = (-1.0) ** (analysis.shape[1] - 1 - np.arange(analysis.shape[1]))
    low = synthesis[0] - signs * analysis[1]
    high = synthesis[1] + signs * analysis[0]
    return float((low**2).sum() + (high**2).sum())
