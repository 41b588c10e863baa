"""Tensors joined along an axis, and cut apart again."""

from collections.abc import Sequence

import torch
from torch import fx

from graphrewrite.bridge.forms import lowers
from graphrewrite.bridge.site import Site


@lowers("Concat", folds=True)
def concat(site: Site) -> fx.Node:
    """Write torch's own call."""
    return site.call(
        torch.cat, [site.tensor(slot) for slot in range(len(site.inputs))], site.integer("axis", 1)
    )


@lowers("Split", folds=True)
def split_fixed(site: Site) -> list[fx.Node]:
    """Write the split as before operator set 13: the sizes are an attribute."""
    return _parts(site, site.integers("split") or None)


@lowers("Split", since=13, host=(1,), folds=True)
def split(site: Site) -> list[fx.Node]:
    """Write a split into the sizes that an input tells, or into as many equal parts as there are outputs."""
    return _parts(site, site.numbers(1))


def _parts(site: Site, sizes: object) -> list[fx.Node]:
    axis = site.integer("axis", 0)
    count = site.integer("num_outputs", len(site.node.outputs))
    if sizes is None:
        made = site.call(equal_parts, site.tensor(0), count, axis)
    else:
        made = site.call(torch.split, site.tensor(0), sizes, axis)
    return [site.item(made, i) for i in range(site.outputs)]


def equal_parts(x: torch.Tensor, count: int, axis: int) -> Sequence[torch.Tensor]:
    """Cut into `count` parts; where the size is no multiple, the last ones are smaller or empty."""
    size = x.shape[axis]
    each = -(-size // count)
    sizes = [max(0, min(each, size - i * each)) for i in range(count)]
    return torch.split(x, sizes, axis)
