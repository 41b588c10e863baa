"""Signs as bits: 32 of them to a word, along the last axis; bit c % 32 of word c // 32 is set for +1."""

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.generic]
Words = npt.NDArray[np.uint32]
Bits = npt.NDArray[np.bool_]

WORD = 32


def words_for(channels: int) -> int:
    """Return how many words hold this many signs."""
    return -(-channels // WORD)


def pack(is_plus: npt.ArrayLike) -> Words:
    """Return [..., ceil(C / 32)] words for [..., C] truth values; bits past the last are 0."""
    bits = np.asarray(is_plus, dtype=bool)
    missing = words_for(bits.shape[-1]) * WORD - bits.shape[-1]
    filled = np.pad(bits, [(0, 0)] * (bits.ndim - 1) + [(0, missing)])
    grouped = filled.reshape(*bits.shape[:-1], filled.shape[-1] // WORD, WORD)
    powers = np.uint32(1) << np.arange(WORD, dtype=np.uint32)
    words: Words = np.sum(grouped * powers, axis=-1, dtype=np.uint32)
    return words


def unpack(words: npt.ArrayLike, channels: int) -> Bits:
    """Return the first `channels` truth values of words, [..., C]."""
    numbers = np.asarray(words, dtype=np.uint32)
    bits = (numbers[..., None] >> np.arange(WORD, dtype=np.uint32)) & np.uint32(1)
    return bits.reshape(*numbers.shape[:-1], numbers.shape[-1] * WORD)[..., :channels].astype(bool)


def pack_kernel(is_plus: npt.ArrayLike) -> Words:
    """Return the weight [O, height, width, words] of a convolution for truth values [O, C, height, width]."""
    return pack(np.moveaxis(np.asarray(is_plus, dtype=bool), 1, -1))
