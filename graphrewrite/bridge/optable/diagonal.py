"""Matrices that have ones on a diagonal."""

import torch

from graphrewrite.bridge.forms import op
from graphrewrite.bridge.numbers import torch_type


@op("EyeLike", gradient=False)
def eye_like(x: torch.Tensor, *, dtype: int | None = None, k: int = 0) -> torch.Tensor:
    """Return ones on the k-th diagonal, k > 0 above the main one, zeros elsewhere."""
    rows = torch.arange(x.shape[0], device=x.device)[:, None]
    columns = torch.arange(x.shape[1], device=x.device)
    return (rows + k == columns).to(x.dtype if dtype is None else torch_type(dtype))
