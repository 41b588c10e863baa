"""Putting transforms between weights, or activations, and what reads them."""

import re
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase

import torch
from torch import fx, nn

from graphrewrite.bridge.module import GraphModule
from graphrewrite.bridge.names import put
from graphrewrite.bridge.transforms.base import Advancing, WeightTransform
from graphrewrite.bridge.weights import PARAMETER
from graphrewrite.errors import UnknownNameError

PREFIX = "_transforms"


class Transformed(nn.Module):
    """The call that stands in the graph: one transform at one tensor, computed in float32.

    Attributes:
        tensor: name of the weight or activation.
        is_weight: which of the two.
        transform: what was attached.
        form: its trainable form, whose state lies below this module's.
    """

    def __init__(self, tensor: str, is_weight: bool, transform: WeightTransform, form: nn.Module) -> None:
        super().__init__()
        self.tensor = tensor
        self.is_weight = is_weight
        self.transform = transform
        self.form = form

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return what the readers get."""
        with torch.autocast(x.device.type, enabled=False):  # products inside a transform too
            found: torch.Tensor = self.form(x.float())
        return found.to(x.dtype)


def attach(module: GraphModule, wanted: Mapping[str, WeightTransform]) -> list[str]:
    """Let readers of tensors read them through transforms; return the names of the tensors, in order.

    Keys are names of weights or activations, or patterns with `*`. A pattern stands for the weights it fits; where it
    fits none, for activations. The state keeps the weights under their names; a transform's own lies under
    `_transforms`. What is attached to a tensor first is nearest to it.

    Raises:
        UnknownNameError: a key fits nothing that is trained.
    """
    names: list[str] = []
    for pattern, transform in wanted.items():
        fitting = matching(module, pattern)
        for name in fitting:
            _insert(module, name, transform)
        names += fitting
    module.graph.lint()
    module.recompile()
    return names


def attached(module: nn.Module) -> Iterator[tuple[str, Transformed]]:
    """Yield the transforms of a module with their places, in the order they were attached."""
    for place, inner in module.named_modules():
        if isinstance(inner, Transformed):
            yield place, inner


def advance(module: nn.Module, done: float) -> None:
    """Tell the transforms that change in the course of a stage which share of its steps lies behind."""
    for _, standing in attached(module):
        if isinstance(standing.form, Advancing):
            standing.form.advance(done)


def matching(module: GraphModule, pattern: str) -> list[str]:
    """Return the trained weights a name or pattern fits, or else the activations.

    Raises:
        UnknownNameError: it fits neither.
    """
    record = module.record
    weights = [name for name, role in record.roles.items() if role.kind == PARAMETER]
    found = [name for name in weights if fnmatchcase(name, pattern)]
    if found:
        return found
    own = {tensor.name for tensor in record.model.inputs}
    own |= {tensor.name for node in record.model.graph.nodes for tensor in node.outputs}
    found = [
        name
        for name in record.tensors
        if name in own and name not in record.roles and fnmatchcase(name, pattern)
    ]
    if not found:
        role = record.roles.get(pattern)
        why = f" (it is frozen: {role.why})" if role is not None else ""
        raise UnknownNameError(
            f"no trained weight and no activation is called {pattern!r}{why}; expected a name or a pattern with * that "
            f"fits some of the {len(weights)} weights or {len(own)} activations; correct it"
        )
    return found


def chain_end(node: fx.Node) -> fx.Node:
    """Return the last of the transforms that stand behind a tensor, or the tensor's own node."""
    while True:
        following = [user for user in node.users if user.op == "call_module" and _is_ours(str(user.target))]
        if not following:
            return node
        node = following[0]


def _insert(module: GraphModule, name: str, transform: WeightTransform) -> None:
    record = module.record
    is_weight = name in record.places
    if is_weight:
        start = next(
            node
            for node in module.graph.nodes
            if node.op == "get_attr" and node.target == record.places[name]
        )
        form = transform.module(module.weight_named(name).detach().float())
    else:
        start = next(node for node in module.graph.nodes if node.name == record.tensors[name])
        form = transform.module(None)
    start = chain_end(start)
    place = f"{PREFIX}.{_free(module, name)}"
    put(module, place, Transformed(name, is_weight, transform, form))
    with module.graph.inserting_before(_next(start)):
        call = module.graph.call_module(place, (start,))
    call.meta["sizes"] = start.meta.get("sizes")
    start.replace_all_uses_with(call, delete_user_cb=lambda user: user is not call)


def _next(node: fx.Node) -> fx.Node:
    """Return where a call that reads a node may stand; inputs come before all calls."""
    following = node.next
    while following.op == "placeholder":
        following = following.next
    return following


def _free(module: GraphModule, name: str) -> str:
    """Return a place below ours that is not taken, the same for the same attachments."""
    taken: Sequence[str] = list(getattr(module, PREFIX)._modules) if hasattr(module, PREFIX) else ()
    stem = re.sub(r"\W", "_", name)
    place, number = stem, 1
    while place in taken:
        number += 1
        place = f"{stem}_{number}"
    return place


def _is_ours(target: str) -> bool:
    return target.startswith(f"{PREFIX}.")
