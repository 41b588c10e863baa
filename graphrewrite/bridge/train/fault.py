"""Where the first number that is not finite arose: a batch once more, looked at call by call."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import fx

from graphrewrite.bridge.module import GraphModule
from graphrewrite.errors import Diverged


@dataclass(frozen=True)
class Fault:
    """What went wrong, in words: the place, and whether it is `nan` or `inf` there."""

    where: str
    kind: str

    def error(self, stage: int, epoch: int, step: int) -> Diverged:
        """Return the error to raise."""
        return Diverged(
            f"the loss is {self.kind} in step {step} of epoch {epoch} of stage {stage}: {self.where}; expected finite "
            "numbers; lower the rate, clip gradients (Recipe.clip), or start again from the last checkpoint, which is "
            "as it was before this"
        )


class _Watch(fx.Interpreter):
    """Runs a module and remembers the calls whose result is not finite, in order."""

    def __init__(self, module: GraphModule) -> None:
        super().__init__(module, garbage_collect_values=False)
        self.bad: dict[fx.Node, str] = {}

    def run_node(self, n: fx.Node) -> object:
        found: object = super().run_node(n)
        kind = _kind(found)
        if kind and n.op != "output":
            self.bad[n] = kind
        return found


def find_fault(
    module: GraphModule,
    live: Mapping[str, torch.Tensor],
    feeds: Sequence[torch.Tensor],
    losses: Mapping[str, torch.Tensor],
) -> Fault:
    """Return where it began, going back from the first `nan` (or, without one, `inf`) to what it was computed from.

    `live` are the weights as they are, `losses` what each loss gave.
    """
    for name, tensor in live.items():
        kind = _kind(tensor)
        if kind:
            return Fault(f"the weight {name!r} holds {kind} since the step before", kind)
    for name, tensor in zip(module.record.inputs, feeds, strict=True):
        kind = _kind(tensor)
        if kind:
            return Fault(f"the input {name!r} holds {kind}", kind)
    watch = _Watch(module)
    with torch.no_grad():
        watch.run(*feeds)
    start = next((node for node, kind in watch.bad.items() if kind == "nan"), None)
    if start is None:
        result = next(node for node in module.graph.nodes if node.op == "output")
        start = next((node for node in result.all_input_nodes if node in watch.bad), None)
    if start is None:
        name, value = next(
            ((name, value) for name, value in losses.items() if _kind(value)), ("the sum", torch.tensor(0.0))
        )
        return Fault(
            f"all tensors of the model are finite, it arose in the loss {name}", _kind(value) or "inf"
        )
    # Constants that hold infinities are masks, and no fault as long as nothing else is infinite before them.
    order = {node: place for place, node in enumerate(module.graph.nodes)}
    chain = [start]
    while True:
        before = [node for node in chain[-1].all_input_nodes if node in watch.bad and node.op != "get_attr"]
        if not before:
            break
        chain.append(min(before, key=lambda node: order[node]))
    first = chain[-1]
    return Fault(f"it began in {_named(module, first)}", watch.bad[first])


def _named(module: GraphModule, node: fx.Node) -> str:
    name = node.meta.get("tensor") or next(
        (tensor for tensor, place in module.record.tensors.items() if place == node.name), None
    )
    if name is None:
        return f"the call {node.name!r}"
    maker = next(
        (
            maker
            for maker in module.record.model.graph.nodes
            if any(tensor.name == name for tensor in maker.outputs)
        ),
        None,
    )
    return f"the tensor {name!r}" + (f", which {maker.op} {maker.name!r} makes" if maker is not None else "")


def _kind(value: object) -> str | None:
    if not isinstance(value, torch.Tensor) or not value.is_floating_point():
        return None
    if bool(torch.isnan(value).any()):
        return "nan"
    return "inf" if bool(torch.isinf(value).any()) else None
