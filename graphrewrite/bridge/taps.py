"""Named tensors out of a run: the same module once more, over the same weights, with more outputs."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches

import torch
from torch import fx, nn

from graphrewrite.bridge.module import GraphModule
from graphrewrite.bridge.names import leave_out_constants, name_states
from graphrewrite.errors import InvalidData, UnknownNameError


class Tapped(nn.Module):
    """Takes the model's inputs by name and returns its outputs, and further tensors, by name.

    Weights, statistics and the modules of operators are those of the module it was made from: what trains here trains
    there. Where something stands behind an activation (`attach`), the tap is before it.

    Attributes:
        body: the graph, with one more output for each tap; its state is keyed by the names of the weights.
        outputs: the names of what comes out.
    """

    def __init__(self, module: GraphModule, names: Sequence[str]) -> None:
        super().__init__()
        record = module.record
        extra = [name for name in dict.fromkeys(names) if name not in record.outputs]
        graph = fx.Graph()
        copies: dict[fx.Node, fx.Node] = {}
        result = graph.graph_copy(module.graph, copies)
        assert result is not None
        own = (result,) if len(record.outputs) == 1 else tuple(result)
        by_name = {node.name: node for node in module.graph.nodes}
        graph.output(own + tuple(copies[by_name[_place(module, name)]] for name in extra))
        self.body = fx.GraphModule(module, graph, "Tapped")
        leave_out_constants(self.body)
        name_states(self.body, {name: place for name, place in record.places.items() if name != place})
        self.inputs = record.inputs
        self.outputs = (*record.outputs, *extra)
        self.train(module.training)

    def forward(self, feeds: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Run on tensors by input name.

        Raises:
            InvalidData: an input is missing.
        """
        missing = [name for name in self.inputs if name not in feeds]
        if missing:
            raise InvalidData(
                f"the input {missing[0]!r} was not given; expected {', '.join(self.inputs)}; feed all of them"
            )
        return dict(zip(self.outputs, self.body(*(feeds[name] for name in self.inputs)), strict=True))


def tapped(module: GraphModule, names: Sequence[str]) -> Tapped:
    """Return a module over the same weights that also gives the tensors called `names`.

    Raises:
        UnknownNameError: the graph has no such tensor, or it never exists as a tensor: it is a constant, or one of the
            sizes that are kept as plain numbers.
    """
    return Tapped(module, names)


def _place(module: GraphModule, name: str) -> str:
    record = module.record
    place = record.tensors.get(name)
    if place is not None:
        return place
    known = {tensor.name for node in record.model.graph.nodes for tensor in node.outputs}
    if name in known or name in record.model.graph.initializers:
        raise UnknownNameError(
            f"the tensor {name!r} cannot be read while training: it is a constant, or sizes that are kept as plain "
            "numbers; expected a tensor that is computed from the inputs; name another"
        )
    close = get_close_matches(name, list(record.tensors), n=3)
    raise UnknownNameError(
        f"the model has no tensor {name!r}; "
        + (f"did you mean {', '.join(close)}?" if close else "`graphrewrite inspect` lists the names")
    )
