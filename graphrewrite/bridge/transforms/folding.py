"""Writing trained transforms into the graph: other numbers in the place of a weight, nodes behind a tensor."""

from collections.abc import Mapping

import numpy as np
import onnx_graphsurgeon as gs
import torch

from graphrewrite.bridge.module import GraphModule
from graphrewrite.bridge.numbers import array_from
from graphrewrite.bridge.transforms.attaching import attached
from graphrewrite.bridge.transforms.base import Draw
from graphrewrite.bridge.weights import Stored, stored
from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Builder, Model, Namer, infer
from graphrewrite.ir.edit import redirect, set_input, sort_nodes
from graphrewrite.ir.values import numpy_dtype_to_onnx

_FLOAT = numpy_dtype_to_onnx(np.dtype(np.float32))


def fold(module: GraphModule, state: Mapping[str, torch.Tensor] | None = None) -> Model:
    """Return a copy of the model with the trained weights, and with every transform in its final form.

    `state` is a whole state gathered from elsewhere, keyed as the module's own.

    Raises:
        InvalidConfig: a transform stands behind one that already made nodes of a weight.
    """
    state = module.state_dict() if state is None else state
    model = module.write_back(state)
    entries = stored(model)
    pen = _Pen(model)
    # As trained: what was written back may have been rounded to half precision since.
    latent = {name: array_from(tensor) for name, tensor in state.items()}
    kinds = {name: entry.dtype for name, entry in entries.items()}
    ends: dict[str, gs.Tensor] = {}
    for place, standing in attached(module):
        name, transform = standing.tensor, standing.transform
        prefix = f"{place}.form."
        own = {key.removeprefix(prefix): array for key, array in latent.items() if key.startswith(prefix)}
        if standing.is_weight and name in ends:
            raise InvalidConfig(
                f"{type(transform).__name__} stands behind a transform of {name!r} that makes nodes; expected what "
                "makes nodes to be the last; attach them in another order"
            )
        lowered = transform.lower(latent[name].astype(np.float32) if standing.is_weight else None, own)
        if standing.is_weight and lowered.weight is not None:
            latent[name] = lowered.weight
            is_final = lowered.draw is not None  # nodes read it: it keeps the type they were drawn for
            entries[name].replace(lowered.weight if is_final else lowered.weight.astype(kinds[name]))
        if lowered.draw is None:
            continue
        if standing.is_weight:
            ends[name] = pen.behind_weight(lowered.draw, entries[name], kinds[name])
        else:
            ends[name] = pen.behind_activation(
                lowered.draw, ends[name] if name in ends else _activation(model, name), name
            )
    return model


class _Pen:
    """Draws nodes behind tensors of a model; transforms work in float32, whatever the graph around them is in."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._names = Namer(model.graph)
        self._labels = Namer(model.graph, nodes=True)
        self._info = infer(model)  # of the graph before it was drawn in

    def behind_weight(self, draw: Draw, entry: Stored, kind: np.dtype[np.generic]) -> gs.Tensor:
        """Draw behind stored numbers, whose readers expect `kind`."""
        return self._draw(lambda b, x: _cast(b, draw(b, x), kind), entry.graph, entry.tensor)

    def behind_activation(self, draw: Draw, tensor: gs.Tensor, name: str) -> gs.Tensor:
        """Draw behind a tensor; `name` is what it was called before anything was drawn."""
        kind = self._info.dtype(name) or np.dtype(np.float32)
        if kind == np.float32:
            return self._draw(draw, self._model.graph, tensor)
        return self._draw(
            lambda b, x: _cast(b, draw(b, b.op("Cast", x, to=_FLOAT)), kind), self._model.graph, tensor
        )

    def _draw(self, draw: Draw, graph: gs.Graph, tensor: gs.Tensor) -> gs.Tensor:
        """Draw nodes and return their end, which all readers of the tensor read."""
        builder = Builder(opset=self._model.opset)
        stand_in = gs.Variable("x", tensor.dtype, tensor.shape)  # so that old readers and new ones stay apart
        end = draw(builder, stand_in)
        made = list(builder.graph.nodes)
        for node in made:
            node.name = self._labels.fresh(f"{tensor.name}.{node.name}")
            for output in node.outputs:
                output.name = self._names.fresh(f"{tensor.name}.{output.name}")
        for constant in builder.graph.initializers.values():
            constant.name = self._names.fresh(f"{tensor.name}.{constant.name}")
            graph.initializers[constant.name] = constant
        if any(output is tensor for output in graph.outputs):
            end.name, tensor.name = tensor.name, self._names.fresh(f"{tensor.name}.before")
            end.dtype, end.shape = tensor.dtype, tensor.shape
        redirect(graph, tensor, end)
        for node in made:
            for slot, read in enumerate(node.inputs):
                if read is stand_in:
                    set_input(node, slot, tensor)
        graph.nodes.extend(made)
        sort_nodes(graph)
        return end


def _cast(b: Builder, x: gs.Tensor, kind: np.dtype[np.generic]) -> gs.Tensor:
    return x if kind == np.float32 else b.op("Cast", x, to=numpy_dtype_to_onnx(kind))


def _activation(model: Model, name: str) -> gs.Tensor:
    tensors = [*model.inputs, *(tensor for node in model.graph.nodes for tensor in node.outputs)]
    return next(tensor for tensor in tensors if tensor.name == name)
