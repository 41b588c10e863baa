"""What binary weights are trained as: floats, looked at filter by filter, of which signs are taken.

Filters lie on the first axis. A latent weight means nothing by itself: only its signs are stored in the end.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from graphrewrite.bridge.transforms.base import Lowered, WeightTransform
from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Array

_LEAST_VARIANCE = 1e-5


def standardized(weight: torch.Tensor) -> torch.Tensor:
    """Return each filter with mean 0 and variance 1, [same shape]."""
    rows = centred(weight).flatten(1)
    return (rows / torch.sqrt(rows.square().mean(dim=1, keepdim=True) + _LEAST_VARIANCE)).reshape(
        weight.shape
    )


def centred(weight: torch.Tensor) -> torch.Tensor:
    """Return each filter less its mean, [same shape]."""
    rows = weight.flatten(1)
    return (rows - rows.mean(dim=1, keepdim=True)).reshape(weight.shape)


def put_back(weight: torch.Tensor, numbers: torch.Tensor) -> None:
    """Store other numbers in a latent weight itself, without a gradient.

    Raises:
        InvalidConfig: what is given is no stored weight, but computed from one.
    """
    if not weight.is_leaf:
        raise InvalidConfig(
            "a transform that rewrites the weight it reads was given a tensor that is computed from one; expected a "
            "float32 weight that no other transform stands in front of; attach it first"
        )
    with torch.no_grad():
        weight.copy_(numbers)


def weight_only(transform: WeightTransform, weight: torch.Tensor | None) -> torch.Tensor:
    """Return the weight a transform is made for.

    Raises:
        InvalidConfig: it was put behind an activation, or the weight has no filters.
    """
    name = type(transform).__name__
    if weight is None:
        raise InvalidConfig(
            f"{name} was put behind an activation; expected the name of a weight; for activations take ApproxSign"
        )
    if weight.ndim < 2:
        raise InvalidConfig(
            f"{name} was put behind a weight of shape {list(weight.shape)}; expected filters on the first axis of "
            "two or more; name another weight"
        )
    return weight


def settled(transform: WeightTransform, weight: Array | None, state: Mapping[str, Array]) -> Lowered:
    """Return what the trained form makes of a weight when nothing moves any more, no matter how it finds it.

    The very same code runs, so that not one sign differs from what was trained.
    """
    assert weight is not None
    numbers = torch.from_numpy(np.array(weight, np.float32))
    form: nn.Module = transform.module(numbers)
    form.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in state.items()})
    with torch.no_grad():
        made: torch.Tensor = form.eval()(numbers)
    return Lowered(weight=made.numpy())
