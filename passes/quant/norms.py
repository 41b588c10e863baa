"""Batch norms that go on learning while the layers before them are rounded, and are folded at the end.

A norm multiplies each output of its layer. A grid with a step for each output takes that into its steps: the codes of
the weight stay those of training. For that no factor may be below zero: signs at the start go over into the filters.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.ir import Array, Model, Namer
from graphrewrite.ir.edit import add_constant, drop_unused, producer, remove_nodes, set_input, sort_nodes
from graphrewrite.ir.values import constant_value
from graphrewrite.match import Draft
from graphrewrite.passes.quant.grid import Floats, along
from graphrewrite.passes.tidy.absorb import FoldBatchNorm
from graphrewrite.passes.tidy.linear import Linear, is_inference_batchnorm, read_affine, read_linear
from graphrewrite.passes.tidy.reading import integer, real, source
from graphrewrite.pipeline import Context

_LAYERS = ("Conv", "Gemm")
_SMALLEST = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Norm:
    """A batch norm that was taken away from behind a layer.

    Attributes:
        output: what it wrote, and the layer writes in its place.
        inner: what it read.
        bias: the initializer in the layer that will hold what the norm adds.
        is_new: whether the layer had no bias before.
        numbers: gain, offset, mean and variance by the names they have when the norm is back; no gain is below zero.
        attributes: of the node.
        dtype: of the layer's numbers.
    """

    output: str
    inner: str
    bias: str
    is_new: bool
    numbers: Mapping[str, Array]
    attributes: Mapping[str, object]
    dtype: np.dtype[np.generic]

    @property
    def gain(self) -> str:
        """Name of what the norm multiplies with."""
        return next(iter(self.numbers))


def take_away(model: Model, context: Context) -> tuple[Norm, ...]:
    """Take norms away from behind layers, in place, and fold those that cannot come back.

    What stays is the graph as it will be when all is folded; its weights and biases are still those before the norms.
    """
    draft = Draft(model)
    pairs = [pair for node in draft.nodes() if (pair := _behind(draft, node)) is not None]
    for linear, _ in pairs:
        if not isinstance(linear.weight, gs.Constant):
            draft.make_constant(linear.weight, _numbers(linear.weight))
    draft.close()
    names = Namer(model.graph)
    taken = [_Taken(model, linear.node, norm, names) for linear, norm in pairs]
    remove_nodes(model.graph, [norm for _, norm in pairs])
    for each in taken:
        each.layer.outputs[0] = each.output
    FoldBatchNorm().run(model, context)
    drop_unused(model.graph)
    names = Namer(model.graph)
    makers = {out.name: node for node in model.graph.nodes for out in node.outputs}
    return tuple(each.filed(model, makers[each.output.name], names) for each in taken)


def _behind(draft: Draft, node: gs.Node) -> tuple[Linear, gs.Node] | None:
    """Return a layer and the norm that `node` is, where it follows one whose weight nothing else reads."""
    if node.op != "BatchNormalization" or not is_inference_batchnorm(draft, node):
        return None
    linear = read_linear(draft, draft.producer(node.inputs[0]))
    if linear is None or linear.node.op not in _LAYERS or not draft.feeds_only(linear.output, node):
        return None
    if any(real(linear.node, name, 1.0) != 1.0 for name in ("alpha", "beta")):
        return None
    if (
        draft.use_count(linear.weight) > 1
        or read_affine(draft, node, 0, linear.axis, linear.channels) is None
    ):
        return None
    # A second norm behind the first would be taken for that of the layer: both are folded at once.
    followers = draft.users(node.outputs[0])
    return None if any(user.op == "BatchNormalization" for user in followers) else (linear, node)


class _Taken:
    """A norm on its way out of a graph; signs of its factors have gone over into the layer."""

    def __init__(self, model: Model, layer: gs.Node, norm: gs.Node, names: Namer) -> None:
        self.layer, self.output, self.inner = layer, norm.outputs[0], str(norm.inputs[0].name)
        self.attributes = dict(norm.attrs)
        self.names = [str(tensor.name) for tensor in list(norm.inputs)[1:5]]
        tensors = list(norm.inputs)[1:5]
        signs = np.where(_wide(tensors[0]) < 0, -1.0, 1.0)
        ones = np.ones(signs.shape)
        self.arrays = [
            (_wide(tensor) * factors).astype(_numbers(tensor).dtype)
            for tensor, factors in zip(tensors, (signs, ones, signs, ones), strict=True)
        ]
        weight = _wide(layer.inputs[1])
        turned = weight * along(signs, axis_of(layer), weight.ndim)
        layer.inputs[1].values = turned.astype(_numbers(layer.inputs[1]).dtype)
        bias = source(layer, 2)
        if bias is not None:  # one of its own: others may read the numbers too
            turned = np.broadcast_to(_wide(bias).reshape(-1), signs.shape) * signs
            turned = turned.astype(_numbers(bias).dtype)
            if isinstance(bias, gs.Constant) and len(bias.outputs) == 1:
                bias.values = turned
            else:
                set_input(layer, 2, add_constant(model.graph, names.fresh(bias.name), turned))

    def filed(self, model: Model, layer: gs.Node, names: Namer) -> Norm:
        """Give the layer a bias where it has none, and return what is needed to put the norm back."""
        bias, weight = source(layer, 2), layer.inputs[1]
        is_new, dtype = bias is None, _numbers(weight).dtype
        if bias is None:
            zeros = np.zeros(self.arrays[0].shape, dtype)
            bias = add_constant(model.graph, names.fresh(f"{weight.name}_bias"), zeros)
            if len(layer.inputs) > 2:
                set_input(layer, 2, bias)
            else:
                layer.inputs.append(bias)
        numbers = dict(zip(map(names.fresh, self.names), self.arrays, strict=True))
        output, label = str(self.output.name), str(bias.name)
        return Norm(output, self.inner, label, is_new, numbers, self.attributes, dtype)


def put_back(model: Model, norms: Sequence[Norm]) -> Model:
    """Return a copy of a model in which norms stand behind their layers again, to be trained."""
    model = model.clone()
    names, labels = Namer(model.graph), Namer(model.graph, nodes=True)
    makers = {out.name: node for node in model.graph.nodes for out in node.outputs}
    for norm in norms:
        layer = makers[norm.output]
        out = layer.outputs[0]
        inner = gs.Variable(names.fresh(norm.inner), out.dtype, out.shape)
        layer.outputs[0] = inner
        if norm.is_new:
            del layer.inputs[2]
        numbers = [add_constant(model.graph, name, array) for name, array in norm.numbers.items()]
        label = labels.fresh(norm.output)
        node = gs.Node("BatchNormalization", label, dict(norm.attributes), [inner, *numbers], [out])
        model.graph.nodes.append(node)
    sort_nodes(model.graph)
    drop_unused(model.graph)
    return model


def fold_in(model: Model, norms: Sequence[Norm]) -> Model:
    """Return a copy of a trained model with its norms folded: into the steps where a weight is codes, else into it."""
    model = model.clone()
    makers = {out.name: node for node in model.graph.nodes for out in node.outputs}
    for norm in norms:
        node = makers[norm.output]
        layer, out = producer(node.inputs[0]), node.outputs[0]
        assert layer is not None
        gain, offset, mean, variance = (_wide(tensor) for tensor in node.inputs[1:5])
        factors = gain / np.sqrt(variance + real(node, "epsilon", 1e-5))
        bias = np.zeros(()) if norm.is_new else _wide(layer.inputs[2])
        added = np.asarray(offset + (bias - mean) * factors).astype(norm.dtype)
        _multiply(layer, factors)
        remove_nodes(model.graph, [node])
        layer.outputs[0] = out
        if norm.is_new:
            layer.inputs.append(add_constant(model.graph, norm.bias, added))
        else:
            layer.inputs[2].values = added
    drop_unused(model.graph)
    return model


def _multiply(layer: gs.Node, factors: Floats) -> None:
    """Multiply the outputs of a layer [outputs] by its weight, or by the steps of the weight's codes."""
    axis, weight = axis_of(layer), layer.inputs[1]
    end = producer(weight)
    if end is None:
        values = _wide(weight)
        weight.values = (values * along(factors, axis, values.ndim)).astype(_numbers(weight).dtype)
        return
    codes, steps = _numbers(end.inputs[0]), _wide(end.inputs[1])
    found = (steps * factors).astype(np.float32)
    is_gone = found < _SMALLEST  # a step of zero is none: the codes are zero instead
    if is_gone.any():
        kept = along(np.where(is_gone, 0.0, 1.0), axis, codes.ndim)
        end.inputs[0].values = np.where(kept > 0, codes, np.zeros((), codes.dtype))
    end.inputs[1].values = np.where(is_gone, steps, found).astype(np.float32)
    end.inputs[2].values = np.zeros(found.shape, codes.dtype)
    end.attrs["axis"] = axis


def axis_of(layer: gs.Node) -> int:
    """Return the axis of a layer's weight that counts outputs."""
    return 0 if layer.op == "Conv" or integer(layer, "transB", 0) else 1


def _numbers(tensor: gs.Tensor) -> Array:
    found = constant_value(tensor)
    assert found is not None
    return np.asarray(found)


def _wide(tensor: gs.Tensor) -> Floats:
    return _numbers(tensor).astype(np.float64)
