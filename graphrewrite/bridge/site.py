"""What a torch form may know of the node it stands for, and how it writes its calls."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

import numpy as np
import onnx_graphsurgeon as gs
from torch import fx, nn

from graphrewrite.bridge.host import Numbers
from graphrewrite.bridge.value import Value
from graphrewrite.errors import UnsupportedOp
from graphrewrite.ir import Array, constant_value
from graphrewrite.ir.domains import domain_name

if TYPE_CHECKING:
    from graphrewrite.bridge.build import Writer


@dataclass(frozen=True)
class BodyOf:
    """A graph inside a node, written as a module.

    Attributes:
        module: takes the body's inputs, then what is captured, and returns a tuple of the body's outputs.
        captured: the tensors and numbers that it reads from around the node.
        outputs: element type and sizes of each output, as far as they are known.
    """

    module: nn.Module
    captured: tuple[fx.Node | Numbers, ...]
    outputs: tuple[tuple[np.dtype[np.generic] | None, tuple[int | None, ...] | None], ...]


class Site:
    """One node: its attributes, what is known of its inputs, and the place where its calls are written.

    Attributes:
        node: the node.
        version: version of the operator set it belongs to.
        inputs: values by slot; None for an optional input that is left out.
        attributes: attribute name -> Python value (lists as tuples, tensors as `gs.Constant`, graphs as `gs.Graph`).
    """

    def __init__(self, writer: "Writer", node: gs.Node, version: int, inputs: Sequence[Value | None]) -> None:
        self._writer = writer
        self.node = node
        self.version = version
        self.inputs = tuple(inputs)
        self.attributes: dict[str, object] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in node.attrs.items()
        }

    @property
    def outputs(self) -> int:
        """Number of outputs the node names, up to the last one that has a name."""
        named = [i for i, tensor in enumerate(self.node.outputs) if tensor.name]
        return named[-1] + 1 if named else 0

    def has(self, slot: int) -> bool:
        """Whether an input is there."""
        return self._value(slot) is not None

    def _value(self, slot: int) -> Value | None:
        return self.inputs[slot] if slot < len(self.inputs) else None

    def tensor(self, slot: int) -> fx.Node | None:
        """Return an input as a tensor, None when it is left out."""
        value = self._value(slot)
        return None if value is None else self._writer.tensor(value)

    def numbers(self, slot: int) -> fx.Node | Numbers | None:
        """Return an input as Python numbers (a call that yields them when they are not known yet)."""
        value = self._value(slot)
        return None if value is None else self._writer.numbers(value)

    def constant(self, slot: int) -> Array | None:
        """Return an input's numbers when they can never change (weights that may be trained do not count)."""
        value = self._value(slot)
        return None if value is None else value.array

    def shape(self, slot: int) -> tuple[int | None, ...] | None:
        """Return the sizes of an input as far as they are known, None when its rank is not."""
        value = self._value(slot)
        return None if value is None else self._writer.shape(value)

    def dtype(self, slot: int) -> np.dtype[np.generic] | None:
        """Return the element type of an input where it is known."""
        value = self._value(slot)
        return None if value is None else self._writer.dtype(value)

    def is_statistic(self, slot: int) -> bool:
        """Whether an input is a running statistic of the module, which the norm that reads it moves in place."""
        value = self._value(slot)
        return value is not None and value.node is not None and bool(value.node.meta.get("statistic"))

    def is_read(self, output: int) -> bool:
        """Whether anything reads an output of the node."""
        if output >= len(self.node.outputs):
            return False
        made = self.node.outputs[output]
        return bool(made.outputs) or any(made is tensor for tensor in self._writer.graph.outputs)

    def call(self, target: Callable[..., object], *args: object, **kwargs: object) -> fx.Node:
        """Write a call of a function that can be imported by name (torch's, or one of a family's file)."""
        return self._writer.call(target, *args, **kwargs)

    def module(self, made: object, *args: object) -> fx.Node:
        """Write a call of an `nn.Module` made for this node."""
        return self._writer.call_module(made, str(self.node.op), *args)

    def item(self, value: fx.Node, index: int) -> fx.Node:
        """Write the choice of one entry of a tuple."""
        return self._writer.item(value, index)

    def body(self, name: str, given: Sequence[np.dtype[np.generic]] = (), told: int = 0) -> BodyOf:
        """Build the graph in an attribute: a module, and what it reads from around the node.

        Its first inputs arrive as single numbers of the types `given`; its first `told` outputs leave as numbers.
        """
        return self._writer.body(self.node, name, self._graph(name), given, told)

    def branch(self, name: str) -> list[Value]:
        """Write the nodes of the graph in an attribute in place of this node; return its outputs."""
        return self._writer.branch(self._graph(name))

    def _graph(self, name: str) -> gs.Graph:
        graph = self.attributes.get(name)
        if not isinstance(graph, gs.Graph):
            self.refuse(f"it has no graph {name!r}")
        return graph

    @property
    def like(self) -> fx.Node:
        """A tensor on the module's device."""
        return self._writer.like

    def integer(self, name: str, default: int) -> int:
        """Return a whole number attribute."""
        value = self.attributes.get(name, default)
        assert isinstance(value, int)
        return value

    def integers(self, name: str, default: Sequence[int] = ()) -> tuple[int, ...]:
        """Return a list of whole numbers."""
        value = self.attributes.get(name, tuple(default))
        assert isinstance(value, tuple)
        return value

    def number(self, name: str, default: float) -> float:
        """Return a number attribute."""
        value = self.attributes.get(name, default)
        assert isinstance(value, (int, float))
        return float(value)

    def text(self, name: str, default: str) -> str:
        """Return a text attribute."""
        return str(self.attributes.get(name, default))

    def array(self, name: str, default: Array) -> Array:
        """Return the numbers of a tensor attribute."""
        found = array_in(self.attributes.get(name))
        return default if found is None else found

    def refuse(self, why: str) -> NoReturn:
        """Say that this node has no torch form.

        Raises:
            UnsupportedOp: always; names the node, its operator and version, and `why`.
        """
        raise refusal(self.node, self.version, why)


def array_in(value: object) -> Array | None:
    """Return the numbers of an attribute that holds a tensor, None when it holds something else."""
    if isinstance(value, gs.Constant):
        return constant_value(value)
    return value if isinstance(value, np.ndarray) else None


def refusal(node: gs.Node, version: int, why: str) -> UnsupportedOp:
    """Return the error that says why a node has no torch form."""
    domain = f"{name}." if (name := domain_name(node.domain)) else ""
    outputs = ", ".join(tensor.name for tensor in node.outputs if tensor.name)
    return UnsupportedOp(
        f"the node {node.name or outputs!r} ({domain}{node.op}, operator set {version}) has no torch form: {why}; "
        "expected an operator of graphrewrite/bridge/optable, or one with a function body; add a form, or train a part "
        "of the model without this node"
    )
