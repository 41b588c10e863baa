"""Matrix products."""

import torch
from torch import fx

from graphrewrite.bridge.forms import lowers, op
from graphrewrite.bridge.site import Site


@op("MatMul")
def matmul(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return the product of the last two axes."""
    return torch.matmul(a, b)


@lowers("Gemm", since=7)
def gemm(site: Site) -> fx.Node:
    """Write alpha * a @ b + beta * c as the one call torch has for it where it fits."""
    a, b, c = site.tensor(0), site.tensor(1), site.tensor(2)
    alpha, beta = site.number("alpha", 1.0), site.number("beta", 1.0)
    if site.integer("transA", 0):
        a = site.call(torch.t, a)
    bias = site.shape(2)
    if (
        site.integer("transB", 0)
        and alpha == beta == 1.0
        and (c is None or (bias is not None and len(bias) == 1))
    ):
        return site.call(torch.nn.functional.linear, a, b, c)
    if site.integer("transB", 0):
        b = site.call(torch.t, b)
    if c is None:
        product = site.call(torch.mm, a, b)
        return product if alpha == 1.0 else site.call(torch.mul, product, alpha)
    return site.call(torch.addmm, c, a, b, beta=beta, alpha=alpha)
