"""Matrix products, sums over named axes, determinants, and patches put back into images."""

import math

import torch
from torch import fx

from graphrewrite.bridge.forms import lowers, op
from graphrewrite.bridge.site import Site
from graphrewrite.bridge.unsigned import widened


@op("MatMul", plain=torch.matmul)
@widened
def matmul(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return the product of the last two axes."""
    return torch.matmul(a, b)


@lowers("Gemm", since=7, folds=True)
def gemm_known(site: Site) -> fx.Node:
    """Write alpha * a @ b + beta * c as the one call torch has for it where it fits."""
    a, b, c = site.tensor(0), site.tensor(1), site.tensor(2)
    alpha, beta = site.number("alpha", 1.0), site.number("beta", 1.0)
    across, along = bool(site.integer("transA", 0)), bool(site.integer("transB", 0))
    kind, bias = site.dtype(0), site.shape(2)
    if kind is None or kind.kind in "iu":
        return site.call(gemm, a, b, c, alpha, beta, across, along)
    if across:
        a = site.call(torch.t, a)
    if along and alpha == beta == 1.0 and (c is None or (bias is not None and len(bias) == 1)):
        return site.call(torch.nn.functional.linear, a, b, c)
    if along:
        b = site.call(torch.t, b)
    if c is None:
        product = site.call(torch.mm, a, b)
        return product if alpha == 1.0 else site.call(torch.mul, product, alpha)
    return site.call(torch.addmm, c, a, b, beta=beta, alpha=alpha)


@widened
def gemm(
    a: torch.Tensor,
    b: torch.Tensor,
    c: torch.Tensor | None,
    alpha: float,
    beta: float,
    across: bool,
    along: bool,
) -> torch.Tensor:
    """Return alpha * a @ b + beta * c, of integers too; their factors are cut to whole numbers as onnx's own are."""
    product = (a.T if across else a) @ (b.T if along else b)
    if not a.is_floating_point():
        alpha, beta = int(alpha), int(beta)
    if alpha != 1:
        product = product * alpha
    if c is None:
        return product
    return product + (c if beta == 1 else c * beta)


@op("Einsum", since=12)
def einsum(*inputs: torch.Tensor, equation: str) -> torch.Tensor:
    """Multiply along named axes and add up those that the result does not name."""
    return summed(inputs[0], *inputs[1:], equation=equation)


@widened
def summed(*inputs: torch.Tensor, equation: str) -> torch.Tensor:
    """Return torch's own sum over named axes."""
    return torch.einsum(equation, *inputs)


@op("Det", since=11)
def det(x: torch.Tensor) -> torch.Tensor:
    """Return the determinant of the last two axes; half precision is computed in single."""
    wide = x if x.dtype in (torch.float32, torch.float64) else x.float()
    return torch.linalg.det(wide).to(x.dtype)


@op("Col2Im", since=18, host=("image_shape", "block_shape"))
@widened
def col2im(
    x: torch.Tensor,
    image_shape: tuple[int, ...],
    block_shape: tuple[int, ...],
    *,
    dilations: tuple[int, ...] | None = None,
    pads: tuple[int, ...] | None = None,
    strides: tuple[int, ...] | None = None,
) -> torch.Tensor:
    """Put columns of patches back into an image of any number of axes; where patches overlap, they are added up."""
    rank = len(image_shape)
    dilations, strides = dilations or (1,) * rank, strides or (1,) * rank
    pads = pads or (0,) * (2 * rank)
    sizes = [image_shape[i] + pads[i] + pads[rank + i] for i in range(rank)]
    places = torch.zeros((1, 1), dtype=torch.int64, device=x.device)
    for i in range(rank):
        inside = torch.arange(block_shape[i], device=x.device) * dilations[i]
        count = (sizes[i] - dilations[i] * (block_shape[i] - 1) - 1) // strides[i] + 1
        where = inside.unsqueeze(1) + torch.arange(count, device=x.device) * strides[i]
        together = (places * sizes[i])[:, None, :, None] + where[None, :, None, :]
        places = together.reshape(places.shape[0] * where.shape[0], places.shape[1] * where.shape[1])
    patch = math.prod(block_shape)
    n, depth = x.shape[0], x.shape[1] // patch
    columns = x.reshape(n, depth, -1)
    image = columns.new_zeros((n, depth, math.prod(sizes)))
    image = image.index_add(2, places.reshape(-1), columns).reshape(n, depth, *sizes)
    for i in range(rank):
        image = image.narrow(i + 2, pads[i], image_shape[i])
    return image
