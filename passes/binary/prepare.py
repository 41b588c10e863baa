"""Writing into a graph what a binarizer puts around its layers, and marking where signs will be taken."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.ir import Array, Model
from graphrewrite.match import Draft
from graphrewrite.passes.binary.around import planes
from graphrewrite.passes.binary.binarizer import Binarizer
from graphrewrite.passes.binary.choice import Choice, before_rectifier, label, rectifier_of
from graphrewrite.passes.binary.plain import make_plain
from graphrewrite.passes.tidy.reading import integer, source
from graphrewrite.pipeline import Note


@dataclass(frozen=True)
class Prepared:
    """A graph that is ready to be trained as a binary net.

    Attributes:
        model: the graph; where signs of an activation will be taken it is multiplied by a single 1, whose name a
            transform can stand behind without standing before other readers too.
        weights: layer -> its weight's name.
        marks: names of the products.
        notes: what stays as it is, and why.
    """

    model: Model
    weights: dict[str, str]
    marks: tuple[str, ...]
    notes: tuple[Note, ...]


def prepare(model: Model, choice: Choice, method: Binarizer) -> Prepared:
    """Return a copy of a model prepared for a method; weights keep their names and numbers.

    Raises:
        InvalidConfig: a pattern of the choice names nothing.
    """
    prepared = model.clone()
    draft = Draft(prepared)
    nodes, notes = choice.chosen(draft)
    writer = _Writer(draft, method, _own(draft, nodes))
    for node in nodes:
        writer.write(node)
    draft.close()
    return Prepared(
        prepared, writer.weights, tuple(mark.name for mark in writer.marks.values()), tuple(notes)
    )


def settle(model: Model, marks: tuple[str, ...]) -> Model:
    """Take the products by 1 out again, and put sizes and biases behind the sums of signs; return the model."""
    draft = Draft(model)
    for node in [each for each in draft.nodes() if each.outputs and each.outputs[0].name in marks]:
        draft.replace(node.outputs[0], node.inputs[0])
    draft.close()
    make_plain(model, zero_is_plus=False)
    return model


def _own(draft: Draft, nodes: Sequence[gs.Node]) -> set[int]:
    """Return, by identity, the stored weights that nothing but the layers reads."""
    chosen = {id(node) for node in nodes}
    return {
        id(stored)
        for stored in (node.inputs[1] for node in nodes)
        if isinstance(stored, gs.Constant)
        and all(id(user) in chosen and user.inputs[1] is stored for user in draft.users(stored))
    }


@dataclass
class _Writer:
    draft: Draft
    method: Binarizer
    own: set[int]  # weights that may be used as they are
    weights: dict[str, str] = field(default_factory=dict)
    copies: dict[int, gs.Tensor] = field(default_factory=dict)  # by the weight they are of
    marks: dict[int, gs.Tensor] = field(default_factory=dict)  # by the tensor that a layer read

    def write(self, node: gs.Node) -> None:
        draft, method = self.draft, self.method
        shape, like = draft.shape(node.outputs[0]), node.outputs[0]
        draft.anchor = node
        filters = draft.constant(node.inputs[1])
        assert filters is not None
        mark = self._mark(node.inputs[0], filters.shape[1] * integer(node, "group", 1))
        weight = self._weight(node, filters)
        out: gs.Tensor = draft.op("Conv", mark, weight, like=like, shape=shape, attrs=dict(node.attrs))
        out = method.behind(draft, out, filters)
        if source(node, 2) is not None:
            bias = draft.constant(node.inputs[2])
            assert bias is not None
            out = draft.op(
                "Add", out, planes(draft, np.array(bias, np.float32), "bias"), like=like, shape=shape
            )
        self.weights[label(node)] = weight.name
        draft.replace(node.outputs[0], out)

    def _mark(self, tensor: gs.Tensor, channels: int) -> gs.Tensor:
        if id(tensor) in self.marks:
            return self.marks[id(tensor)]
        draft = self.draft
        x = self._rectified(tensor, channels)
        x = self.method.before(draft, x, channels)
        one = draft.add_constant(np.array(1, np.float32), "mark")
        mark = draft.op("Mul", x, one, like=x)
        self.marks[id(tensor)] = mark
        return mark

    def _rectified(self, tensor: gs.Tensor, channels: int) -> gs.Tensor:
        """Return what signs are taken of: before a rectifier, or behind what the method puts in its place."""
        draft = self.draft
        rectifier = rectifier_of(draft, tensor)
        if rectifier is None:
            return tensor
        made = self.method.rectifier(draft, rectifier.inputs[0], channels)
        if made is None:
            return before_rectifier(draft, tensor)
        draft.replace(tensor, made)
        return tensor

    def _weight(self, node: gs.Node, filters: Array) -> gs.Tensor:
        """Return the weight, or a copy where something else reads it too."""
        stored: gs.Tensor = node.inputs[1]
        if id(stored) in self.own:
            return stored
        if id(stored) not in self.copies:
            origin = (stored, "the latent form of") if isinstance(stored, gs.Constant) else None
            name = f"{stored.name}_binary"
            self.copies[id(stored)] = self.draft.add_constant(np.array(filters), name, origin)
        return self.copies[id(stored)]
