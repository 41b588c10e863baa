"""Numbers drawn at random.

Without a seed they come from torch's own generator, which `torch.manual_seed` sets. A node with a seed draws the same
numbers each time it runs; they are torch's, not those of another runtime with that seed.
"""

import struct
from collections.abc import Callable, Sequence

import torch

from graphrewrite.bridge.forms import op
from graphrewrite.bridge.numbers import torch_type

_FLOAT, _INT32 = 1, 6  # element types of onnx


def _drawn(
    draw: Callable[..., torch.Tensor], shape: Sequence[int], device: torch.device, seed: float | None
) -> torch.Tensor:
    """Call `torch.rand` or `torch.randn`; a generator keeps `torch.compile` out, so there is none without a seed."""
    if seed is None:
        return draw(shape, device=device)
    return draw(shape, generator=_seeded(seed, device), device=device)


def _seeded(seed: float, device: torch.device) -> torch.Generator:
    """Return a generator for a seed, which is any 32-bit float; torch reads 32 bits of a number on some devices."""
    return torch.Generator(device).manual_seed(int.from_bytes(struct.pack("<f", seed), "little"))


@op("RandomNormal", folds=False)
def random_normal(
    *,
    like: torch.Tensor,
    shape: tuple[int, ...],
    dtype: int = _FLOAT,
    mean: float = 0.0,
    scale: float = 1.0,
    seed: float | None = None,
) -> torch.Tensor:
    """Return normally distributed numbers."""
    drawn = _drawn(torch.randn, shape, like.device, seed)
    return (drawn * scale + mean).to(torch_type(dtype))


@op("RandomNormalLike", gradient=False, folds=False)
def random_normal_like(
    x: torch.Tensor,
    *,
    dtype: int | None = None,
    mean: float = 0.0,
    scale: float = 1.0,
    seed: float | None = None,
) -> torch.Tensor:
    """Return normally distributed numbers in the shape of x."""
    drawn = _drawn(torch.randn, x.shape, x.device, seed)
    return (drawn * scale + mean).to(_type(x, dtype))


@op("RandomUniform", folds=False)
def random_uniform(
    *,
    like: torch.Tensor,
    shape: tuple[int, ...],
    dtype: int = _FLOAT,
    low: float = 0.0,
    high: float = 1.0,
    seed: float | None = None,
) -> torch.Tensor:
    """Return numbers spread evenly between two bounds."""
    drawn = _drawn(torch.rand, shape, like.device, seed)
    return (drawn * (high - low) + low).to(torch_type(dtype))


@op("RandomUniformLike", gradient=False, folds=False)
def random_uniform_like(
    x: torch.Tensor,
    *,
    dtype: int | None = None,
    low: float = 0.0,
    high: float = 1.0,
    seed: float | None = None,
) -> torch.Tensor:
    """Return numbers spread evenly between two bounds, in the shape of x."""
    drawn = _drawn(torch.rand, x.shape, x.device, seed)
    return (drawn * (high - low) + low).to(_type(x, dtype))


@op("Bernoulli", gradient=False, folds=False)
def bernoulli(x: torch.Tensor, *, dtype: int | None = None, seed: float | None = None) -> torch.Tensor:
    """Return 1 with the probabilities x, else 0."""
    drawn = _drawn(torch.rand, x.shape, x.device, seed)
    return (drawn < x).to(_type(x, dtype))


@op("Multinomial", gradient=False, folds=False)
def multinomial(
    x: torch.Tensor, *, dtype: int = _INT32, sample_size: int = 1, seed: float | None = None
) -> torch.Tensor:
    """Return classes drawn for each row of logarithms of their probabilities."""
    chances = torch.softmax(x.float(), -1)
    generator = None if seed is None else _seeded(seed, x.device)
    return torch.multinomial(chances, sample_size, replacement=True, generator=generator).to(
        torch_type(dtype)
    )


def _type(x: torch.Tensor, dtype: int | None) -> torch.dtype:
    return x.dtype if dtype is None else torch_type(dtype)
