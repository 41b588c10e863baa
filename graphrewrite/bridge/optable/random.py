"""Numbers drawn at random.

Without a seed they come from torch's own generator, which `torch.manual_seed` sets. A node with a seed draws the same
numbers each time it runs; they are torch's, not those of another runtime with that seed.
"""

import torch

from graphrewrite.bridge.forms import op
from graphrewrite.bridge.numbers import torch_type

_FLOAT, _INT32 = 1, 6  # element types of onnx


def _generator(seed: float | None, device: torch.device) -> torch.Generator | None:
    """Return a generator for a seed, which may be any float, or None for torch's own."""
    return None if seed is None else torch.Generator(device).manual_seed(hash(seed))


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
    drawn = torch.randn(shape, generator=_generator(seed, like.device), device=like.device)
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
    drawn = torch.randn(x.shape, generator=_generator(seed, x.device), device=x.device)
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
    drawn = torch.rand(shape, generator=_generator(seed, like.device), device=like.device)
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
    drawn = torch.rand(x.shape, generator=_generator(seed, x.device), device=x.device)
    return (drawn * (high - low) + low).to(_type(x, dtype))


@op("Bernoulli", gradient=False, folds=False)
def bernoulli(x: torch.Tensor, *, dtype: int | None = None, seed: float | None = None) -> torch.Tensor:
    """Return 1 with the probabilities x, else 0."""
    drawn = torch.rand(x.shape, generator=_generator(seed, x.device), device=x.device)
    return (drawn < x).to(_type(x, dtype))


@op("Multinomial", gradient=False, folds=False)
def multinomial(
    x: torch.Tensor, *, dtype: int = _INT32, sample_size: int = 1, seed: float | None = None
) -> torch.Tensor:
    """Return classes drawn for each row of logarithms of their probabilities."""
    chances = torch.softmax(x.float(), -1)
    generator = _generator(seed, x.device)
    return torch.multinomial(chances, sample_size, replacement=True, generator=generator).to(
        torch_type(dtype)
    )


def _type(x: torch.Tensor, dtype: int | None) -> torch.dtype:
    return x.dtype if dtype is None else torch_type(dtype)
