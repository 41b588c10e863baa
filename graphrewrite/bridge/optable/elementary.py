"""Functions of one number: roots, exponentials, circular and hyperbolic ones, rounding."""

import torch

from graphrewrite.bridge.forms import as_is, op
from graphrewrite.bridge.unsigned import is_wide

for _name, _function in {
    "Sqrt": torch.sqrt,
    "Reciprocal": torch.reciprocal,
    "Exp": torch.exp,
    "Log": torch.log,
    "Sin": torch.sin,
    "Cos": torch.cos,
    "Tan": torch.tan,
    "Asin": torch.asin,
    "Acos": torch.acos,
    "Atan": torch.atan,
    "Sinh": torch.sinh,
    "Cosh": torch.cosh,
    "Tanh": torch.tanh,
    "Asinh": torch.asinh,
    "Acosh": torch.acosh,
    "Atanh": torch.atanh,
}.items():
    as_is(_name, _function)

for _name, _function in {"Ceil": torch.ceil, "Floor": torch.floor, "Round": torch.round}.items():
    as_is(_name, _function, gradient=False)


@op("Erf", plain=torch.erf)
def erf(x: torch.Tensor) -> torch.Tensor:
    """Return the error function, in the type of x also where that is a whole number."""
    return torch.erf(x.float()).to(x.dtype)


@op("Sign", gradient=False)
def sign(x: torch.Tensor) -> torch.Tensor:
    """Return -1, 0 or 1, and NaN for itself, of which torch makes 0."""
    if is_wide(x):
        return (x != 0).to(x.dtype)
    found = torch.sign(x)
    return torch.where(x.isnan(), x, found) if x.is_floating_point() else found
