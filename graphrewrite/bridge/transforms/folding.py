"""Writing trained transforms into the graph: other numbers in the place of a weight, nodes behind a tensor."""

from collections.abc import Mapping

import onnx_graphsurgeon as gs
import torch

from graphrewrite.bridge.module import GraphModule
from graphrewrite.bridge.numbers import array_from
from graphrewrite.bridge.transforms.attaching import attached
from graphrewrite.bridge.transforms.base import Draw
from graphrewrite.bridge.weights import stored
from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Array, Builder, Model, Namer
from graphrewrite.ir.edit import redirect, set_input, sort_nodes


def fold(module: GraphModule, state: Mapping[str, torch.Tensor] | None = None) -> Model:
    """Return a copy of the model with the trained weights, and with every transform in its final form.

    `state` is a whole state gathered from elsewhere, keyed as the module's own.

    Raises:
        InvalidConfig: a transform stands behind one that already made nodes of a weight.
    """
    state = module.state_dict() if state is None else state
    model = module.write_back(state)
    entries = stored(model)
    namer = Namer(model.graph)
    ends: dict[str, gs.Tensor] = {}
    for place, standing in attached(module):
        name, transform = standing.tensor, standing.transform
        own = {
            key.removeprefix(f"{place}.form."): array_from(tensor)
            for key, tensor in state.items()
            if key.startswith(f"{place}.form.")
        }
        weight: Array | None = None
        if standing.is_weight:
            if name in ends:
                raise InvalidConfig(
                    f"{type(transform).__name__} stands behind a transform of {name!r} that makes nodes; expected what "
                    "makes nodes to be the last; attach them in another order"
                )
            weight = entries[name].array
        lowered = transform.lower(weight, own)
        if standing.is_weight and lowered.weight is not None:
            entries[name].replace(lowered.weight)
        if lowered.draw is not None:
            graph = entries[name].graph if standing.is_weight else model.graph
            start = entries[name].tensor if standing.is_weight else ends.get(name) or _activation(model, name)
            ends[name] = _draw(lowered.draw, Builder(opset=model.opset), graph, start, namer)
    return model


def _draw(draw: Draw, builder: Builder, graph: gs.Graph, tensor: gs.Tensor, namer: Namer) -> gs.Tensor:
    """Draw nodes behind a tensor and return their end, which all its readers read."""
    stand_in = gs.Variable("", tensor.dtype, tensor.shape)  # so that old readers and new ones stay apart
    end = draw(builder, stand_in)
    made = list(builder.graph.nodes)
    for node in made:
        node.name = namer.fresh(f"{tensor.name}.{node.name}")
        for output in node.outputs:
            output.name = namer.fresh(f"{tensor.name}.{output.name}")
    for constant in builder.graph.initializers.values():
        constant.name = namer.fresh(f"{tensor.name}.{constant.name}")
        graph.initializers[constant.name] = constant
    if any(output is tensor for output in graph.outputs):
        end.name, tensor.name = tensor.name, namer.fresh(f"{tensor.name}.before")
        end.dtype, end.shape = tensor.dtype, tensor.shape
    redirect(graph, tensor, end)
    for node in made:
        for slot, read in enumerate(node.inputs):
            if read is stand_in:
                set_input(node, slot, tensor)
    graph.nodes.extend(made)
    sort_nodes(graph)
    return end


def _activation(model: Model, name: str) -> gs.Tensor:
    tensors = [*model.inputs, *(tensor for node in model.graph.nodes for tensor in node.outputs)]
    return next(tensor for tensor in tensors if tensor.name == name)
