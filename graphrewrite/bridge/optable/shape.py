"""Other shapes of the same numbers."""

import torch

from graphrewrite.bridge.forms import op


@op("Reshape", since=5, host=("shape",))
def reshape(data: torch.Tensor, shape: tuple[int, ...], *, allowzero: int = 0) -> torch.Tensor:
    """Give a tensor another shape; a 0 keeps the size that stands there, -1 is what is left."""
    if not allowzero:
        shape = tuple(data.shape[i] if size == 0 else size for i, size in enumerate(shape))
    return data.reshape(shape)
