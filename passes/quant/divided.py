"""Tensors that layers with constant weights alone read: dividing their channels can be made up for."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.match import Draft, is_default_domain
from graphrewrite.passes.quant.factors import Found, Reader, reader_of
from graphrewrite.passes.quant.grid import Floats
from graphrewrite.passes.quant.plan import name_of

_INDIFFERENT = frozenset({"Shape", "Size"})  # they read no numbers


class Site(NamedTuple):
    """A tensor that layers only read, with its channels on an axis counted from the end."""

    tensor: gs.Tensor
    readers: tuple[Reader, ...]
    axis: int
    channels: int

    def divide(self, draft: Draft, taken: Found | str, factors: Floats) -> None:
        """Divide the tensor, where `taken` says or by a product put in, and multiply it in all that reads it."""
        if isinstance(taken, str):
            draft.anchor = self.readers[0].linear.node
            shape = (-1, *[1] * (-self.axis - 1))
            share = draft.add_constant(
                (1 / factors).astype(np.float32).reshape(shape), f"{self.tensor.name}_share"
            )
            divided = draft.op("Mul", self.tensor, share, like=self.tensor)
            for reader in self.readers:
                draft.set_input(reader.linear.node, 0, divided)
        else:
            for taker in taken:
                taker.divide(draft, factors)
        for reader in self.readers:
            reader.multiply(draft, factors)


def sites_of(draft: Draft) -> tuple[list[Site], dict[str, str]]:
    """Return the tensors in the order of the graph, and why others that layers read are left."""
    sites: list[Site] = []
    left: dict[str, str] = {}
    for tensor in _read_by_layers(draft):
        found = _site(draft, tensor)
        if isinstance(found, Site):
            sites.append(found)
        else:
            left[tensor.name] = found
    return sites, left


def _read_by_layers(draft: Draft) -> Iterator[gs.Tensor]:
    """Yield what layers read first, each tensor once."""
    seen: set[int] = set()
    for node in draft.nodes():
        tensor = node.inputs[0] if len(node.inputs) else None
        if (
            tensor is None
            or id(tensor) in seen
            or draft.dtype(tensor) != np.float32
            or draft.is_constant(tensor)
        ):
            continue
        if reader_of(draft, node, tensor) is not None:
            seen.add(id(tensor))
            yield tensor


def _site(draft: Draft, tensor: gs.Tensor) -> Site | str:
    if draft.is_output(tensor):
        return "it is an output of the model"
    readers: list[Reader] = []
    for node in draft.users(tensor):
        if node.op in _INDIFFERENT and is_default_domain(node):
            continue
        found = reader_of(draft, node, tensor)
        if found is None:
            return f"{node.op} {name_of(node)!r} reads it too, and cannot make up for a factor"
        readers.append(found)
    first = readers[0]
    if any((each.axis, each.channels) != (first.axis, first.channels) for each in readers):
        return "its readers do not agree on its channels"
    return Site(tensor, tuple(readers), first.axis, first.channels)
