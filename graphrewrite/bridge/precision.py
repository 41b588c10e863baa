"""Weights of half precision are trained in single: small steps would vanish in their rounding."""

import torch
from torch import fx, nn

from graphrewrite.bridge.module import GraphModule
from graphrewrite.bridge.names import put

_HALF = (torch.float16, torch.bfloat16)


def widen(module: GraphModule) -> list[str]:
    """Keep parameters of half precision in float32 and round them where they are read; return their names.

    What is computed stays the same, and `write_back` stores them in their own type again.
    """
    names: list[str] = []
    for name, place in module.record.places.items():
        weight = module.weight_named(name)
        if not isinstance(weight, nn.Parameter) or weight.dtype not in _HALF:
            continue
        names.append(name)
        put(module, place, nn.Parameter(weight.detach().float(), weight.requires_grad))
        start = next(node for node in module.graph.nodes if node.op == "get_attr" and node.target == place)
        _round(module.graph, start, weight.dtype)
    if names:
        module.recompile()
    return names


def _round(graph: fx.Graph, start: fx.Node, dtype: torch.dtype) -> None:
    with graph.inserting_after(start):
        rounded = graph.call_function(cast, (start, dtype))
    rounded.meta["sizes"] = start.meta.get("sizes")
    start.replace_all_uses_with(rounded, delete_user_cb=lambda user: user is not rounded)


def cast(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return a tensor in another type."""
    return x.to(dtype)
