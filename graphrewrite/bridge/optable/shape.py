"""Other shapes and orders of the same numbers, and the same numbers repeated."""

import math

import torch
from torch import fx

from graphrewrite.bridge.forms import lowers, op
from graphrewrite.bridge.host import Numbers, single, vector
from graphrewrite.bridge.site import Site
from graphrewrite.errors import ShapeError


@op("Reshape", ignores=("consumed_inputs",))
def reshape_fixed(data: torch.Tensor, *, shape: tuple[int, ...]) -> torch.Tensor:
    """Reshape as before operator set 5: the sizes are an attribute."""
    return reshape(data, shape)


@lowers("Reshape", since=5, host=(1,), folds=True)
def reshape_known(site: Site) -> fx.Node:
    """Write torch's own call where the sizes are settled and copy none of the input's."""
    wanted = site.constant(1)
    if wanted is not None and (wanted != 0).all():
        return site.call(torch.reshape, site.tensor(0), tuple(wanted.tolist()))
    return site.call(reshape, site.tensor(0), site.numbers(1), allowzero=bool(site.integer("allowzero", 0)))


def reshape(data: torch.Tensor, shape: tuple[int, ...], allowzero: bool = False) -> torch.Tensor:
    """Give a tensor another shape; a 0 keeps the size that stands there, -1 is what is left.

    A batch of none leaves no numbers to tell -1 from: there it is what the other axes of the input leave.
    """
    if not allowzero:
        shape = tuple(data.shape[i] if size == 0 else size for i, size in enumerate(shape))
    if -1 in shape and 0 in shape and 0 in data.shape:
        known = math.prod(size for size in shape if size > 0)
        rest = math.prod(size for size in data.shape if size) // known
        shape = tuple(rest if size == -1 else size for size in shape)
    return data.reshape(shape)


@lowers("Flatten", folds=True)
def flatten_known(site: Site) -> fx.Node:
    """Write torch's own call where one axis stays in front of the rest."""
    shape = site.shape(0)
    axis = site.integer("axis", 1)
    if axis == 1 and shape is not None and len(shape) > 1:
        return site.call(torch.flatten, site.tensor(0), 1)
    return site.call(flatten, site.tensor(0), axis)


def flatten(x: torch.Tensor, axis: int) -> torch.Tensor:
    """Make a matrix: the axes before `axis` are its rows, the others its columns."""
    axis = axis if axis >= 0 else axis + x.dim()
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


@lowers("Transpose", folds=True)
def transpose(site: Site) -> fx.Node:
    """Write the call for an order of axes; without one they are reversed."""
    if "perm" in site.attributes:
        return site.call(torch.permute, site.tensor(0), site.integers("perm"))
    return site.call(reversed_axes, site.tensor(0))


def reversed_axes(x: torch.Tensor) -> torch.Tensor:
    """Reverse the order of the axes."""
    return x.permute(tuple(range(x.dim() - 1, -1, -1)))


@op("Squeeze")
def squeeze_fixed(data: torch.Tensor, *, axes: tuple[int, ...] | None = None) -> torch.Tensor:
    """Squeeze as before operator set 13: the axes are an attribute."""
    return squeeze(data, axes)


@op("Squeeze", since=13, host=("axes",))
def squeeze(data: torch.Tensor, axes: Numbers | None = None) -> torch.Tensor:
    """Take out axes of size 1, all of them by default.

    Raises:
        ShapeError: one of the axes has another size, which torch would pass over.
    """
    if axes is None:
        return torch.squeeze(data)
    wanted = vector(axes)
    found = torch.squeeze(data, wanted)
    if found.dim() != data.dim() - len(wanted):
        raise ShapeError(
            f"the axes {list(wanted)} of a tensor of the shape {list(data.shape)} cannot all be squeezed; expected "
            "axes of size 1; feed an input of the sizes that the model was made for"
        )
    return found


@op("Unsqueeze")
def unsqueeze_fixed(data: torch.Tensor, *, axes: tuple[int, ...]) -> torch.Tensor:
    """Unsqueeze as before operator set 13: the axes are an attribute."""
    return unsqueeze(data, axes)


@lowers("Unsqueeze", since=13, host=(1,), folds=True)
def unsqueeze_known(site: Site) -> fx.Node:
    """Write torch's own call for a single axis."""
    axes = site.constant(1)
    if axes is not None and axes.size == 1:
        return site.call(torch.unsqueeze, site.tensor(0), int(axes.reshape(-1)[0]))
    return site.call(unsqueeze, site.tensor(0), site.numbers(1))


def unsqueeze(data: torch.Tensor, axes: Numbers) -> torch.Tensor:
    """Put in axes of size 1; they are counted in the result."""
    wanted = vector(axes)
    rank = data.dim() + len(wanted)
    for axis in sorted(axis % rank for axis in wanted):
        data = data.unsqueeze(axis)
    return data


@op("Expand", since=8, host=("shape",))
def expand(x: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """Repeat axes of size 1; unlike torch's own, a 1 in `shape` keeps the size that is there."""
    rank = max(x.dim(), len(shape))
    have = (1,) * (rank - x.dim()) + tuple(x.shape)
    want = (1,) * (rank - len(shape)) + tuple(shape)
    return x.expand(tuple(old if new == 1 else new for old, new in zip(have, want, strict=True)))


@op("Tile", host=("tiles", "axis"))
def tile_axis(x: torch.Tensor, tiles: Numbers, axis: Numbers) -> torch.Tensor:
    """Tile as before operator set 6: along one axis."""
    repeats = [1] * x.dim()
    repeats[single(axis)] = single(tiles)
    return x.repeat(repeats)


@op("Tile", since=6, host=("repeats",))
def tile(x: torch.Tensor, repeats: tuple[int, ...]) -> torch.Tensor:
    """Repeat a tensor along each axis."""
    return x.repeat(repeats)


@op("DepthToSpace")
def depth_to_space(x: torch.Tensor, *, blocksize: int, mode: str = "DCR") -> torch.Tensor:
    """Move channels into blocks of rows and columns."""
    if mode == "CRD":
        return torch.pixel_shuffle(x, blocksize)
    n, c, h, w = x.shape
    depth = c // blocksize**2
    blocks = x.reshape(n, blocksize, blocksize, depth, h, w).permute(0, 3, 4, 1, 5, 2)
    return blocks.reshape(n, depth, h * blocksize, w * blocksize)


@op("SpaceToDepth")
def space_to_depth(x: torch.Tensor, *, blocksize: int, mode: str = "DCR") -> torch.Tensor:
    """Move blocks of rows and columns into channels."""
    if mode == "CRD":
        return torch.pixel_unshuffle(x, blocksize)
    n, c, h, w = x.shape
    high, wide = h // blocksize, w // blocksize
    blocks = x.reshape(n, c, high, blocksize, wide, blocksize).permute(0, 3, 5, 1, 2, 4)
    return blocks.reshape(n, c * blocksize**2, high, wide)
