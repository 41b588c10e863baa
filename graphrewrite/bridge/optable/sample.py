"""Pictures read at the places of a grid."""

import torch
from torch import fx
from torch.nn import functional

from graphrewrite.bridge.forms import lowers, op
from graphrewrite.bridge.site import Site

_MODES = {"linear": "bilinear", "cubic": "bicubic"}  # names from version 20 on -> torch's


@lowers("GridSample", since=16)
def grid_sample(site: Site) -> fx.Node:
    """Write torch's own sampling; a line is read as a picture of one row."""
    mode = site.text("mode", "linear")
    mode = _MODES.get(mode, mode)
    settings = (mode, site.text("padding_mode", "zeros"), bool(site.integer("align_corners", 0)))
    shape = site.shape(0)
    if shape is not None and (len(shape) > 5 or (len(shape) == 5 and mode == "bicubic")):
        site.refuse(f"torch has no {mode} sampling over {len(shape) - 2} axes")
    return site.call(sampled, site.tensor(0), site.tensor(1), *settings)


def sampled(
    x: torch.Tensor, grid: torch.Tensor, mode: str, padding_mode: str, align_corners: bool
) -> torch.Tensor:
    """Read [batch, channels, ...] at places from -1 to 1, the last axis first."""
    wide = x if x.is_floating_point() else x.double()
    grid = grid.to(wide.dtype)
    if x.dim() == 3:
        row = torch.cat((grid, torch.zeros_like(grid)), -1).unsqueeze(1)
        return functional.grid_sample(wide.unsqueeze(2), row, mode, padding_mode, align_corners)[:, :, 0].to(
            x.dtype
        )
    return functional.grid_sample(wide, grid, mode, padding_mode, align_corners).to(x.dtype)


@op("AffineGrid", since=20, host=("size",))
def affine_grid(theta: torch.Tensor, size: tuple[int, ...], *, align_corners: int = 0) -> torch.Tensor:
    """Return where each place of an image of this size comes from under affine maps."""
    return functional.affine_grid(theta, size, bool(align_corners))  # type: ignore[arg-type]
