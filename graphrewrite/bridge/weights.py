"""Where a model's floating numbers are stored, under which name each is trained, and which of them are.

A name is the initializer's own, or the output's of a Constant node; where bodies of If, Loop or Scan use a name twice,
later ones get "@" and a number. The same model always gives the same names.
"""

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.bridge.reach import form_of, is_floating
from graphrewrite.errors import InvalidConfig, UnknownNameError
from graphrewrite.ir import Array, Model, constant_value
from graphrewrite.ir.domains import domain_name
from graphrewrite.ir.edit import all_graphs
from graphrewrite.ir.values import StoredValues

PARAMETER, STATISTIC, FROZEN = "parameter", "statistic", "frozen"
STATISTICS = {"BatchNormalization": (3, 4)}  # slots of the running mean and variance
_MASK = 1e9  # attention masks are made of such numbers; no weight is


@dataclass(frozen=True)
class Stored:
    """Numbers of a model: an initializer, or the output of a Constant node."""

    tensor: gs.Tensor
    graph: gs.Graph

    @property
    def array(self) -> Array:
        """The numbers, read-only."""
        array = constant_value(self.tensor)
        assert array is not None
        return array

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Element type, without reading the numbers of an initializer."""
        return np.dtype(self.tensor.dtype if isinstance(self.tensor, gs.Constant) else self.array.dtype)

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes, without reading the numbers of an initializer."""
        return tuple(self.tensor.shape if isinstance(self.tensor, gs.Constant) else self.array.shape)

    def replace(self, array: Array) -> None:
        """Store other numbers in the same place and form."""
        array.flags.writeable = False
        if isinstance(self.tensor, gs.Constant):
            self.tensor.values = array
            return
        attributes = self.tensor.inputs[0].attrs
        for name, value in attributes.items():
            if isinstance(value, gs.Constant):
                value.values = array
            elif isinstance(value, np.ndarray):
                attributes[name] = array
            else:
                attributes[name] = array.tolist()


@dataclass(frozen=True)
class Role:
    """What becomes of stored numbers: a parameter, a running statistic, or frozen, and why."""

    kind: str
    why: str = ""


def stored(model: Model) -> dict[str, Stored]:
    """Return all floating initializers and Constant nodes of a model by the names they are trained under."""
    found: dict[str, Stored] = {}
    for graph in all_graphs(model.graph):
        for tensor in _constants(graph):
            key, number = tensor.name, 1
            while key in found:
                number += 1
                key = f"{tensor.name}@{number}"
            found[key] = Stored(tensor, graph)
    return {key: entry for key, entry in found.items() if is_floating(entry.dtype)}


def readers(tensor: gs.Tensor) -> Iterator[tuple[gs.Node, int, gs.Tensor]]:
    """Yield the nodes that read a tensor with the slots they read it in, and the name it has for them.

    Identity nodes only hand it on under another name, unless nothing but the outside reads that.
    """
    for node in {id(node): node for node in tensor.outputs}.values():
        for slot, read in enumerate(node.inputs):
            if read is not tensor:
                continue
            if node.op == "Identity" and not domain_name(node.domain) and node.outputs[0].outputs:
                yield from readers(node.outputs[0])
            else:
                yield node, slot, tensor


def _constants(graph: gs.Graph) -> Iterator[gs.Tensor]:
    for constant in graph.initializers.values():
        if not (isinstance(constant._values, StoredValues) and constant.dtype == np.dtype(object)):
            yield constant
    for node in graph.nodes:
        if node.op == "Constant" and node.outputs and constant_value(node.outputs[0]) is not None:
            yield node.outputs[0]


def roles(
    numbers: Mapping[str, Stored],
    opsets: Mapping[str, int],
    trainable: Sequence[str] = (),
    frozen: Sequence[str] = (),
    reached: Container[int] | None = None,
) -> dict[str, Role]:
    """Decide for each stored tensor what becomes of it.

    Parameters are all floats through which something can be learned, but for single numbers (factors and bounds of the
    arithmetic, as a rule), attention masks and settings such as a quantizer's scales. Names or patterns in `trainable`
    and `frozen` overrule that. `reached` has the ids of the tensors that a gradient gets to; all, where it is left out.

    Raises:
        UnknownNameError: a pattern fits no stored tensor.
        InvalidConfig: a weight that `trainable` names is read by nothing that has a gradient.
    """
    for pattern in (*trainable, *frozen):
        if not any(fnmatchcase(key, pattern) for key in numbers):
            raise UnknownNameError(
                f"no weight is called {pattern!r}; expected the name of a floating initializer, or a pattern with * "
                f"that fits some of the {len(numbers)} there are; list them with stored(model)"
            )
    found = {key: _role(key, entry, opsets, trainable, frozen) for key, entry in numbers.items()}
    if reached is not None:
        unreached = Role(
            FROZEN, "no gradient gets to it: all that comes of it ends in sizes, choices or nothing"
        )
        for key, entry in numbers.items():
            if found[key].kind == PARAMETER and id(entry.tensor) not in reached:
                found[key] = unreached
    for key in trainable:
        if key in found and found[key].kind != PARAMETER:
            raise InvalidConfig(
                f"the weight {key!r} was to be trained, but cannot be: {found[key].why}; expected one through which a "
                "gradient flows and that is not frozen by name; leave it out"
            )
    return found


def _role(
    key: str, entry: Stored, opsets: Mapping[str, int], trainable: Sequence[str], frozen: Sequence[str]
) -> Role:
    reads = [(node, slot) for node, slot, _ in readers(entry.tensor)]
    if reads and all(slot in STATISTICS.get(node.op, ()) for node, slot in reads):
        return Role(STATISTIC, "a running statistic: measured while training, not learned")
    if any(fnmatchcase(key, pattern) for pattern in frozen):
        return Role(FROZEN, "asked for")
    asked = any(fnmatchcase(key, pattern) for pattern in trainable)
    reasons = [_why_still(node, slot, opsets, asked) for node, slot in reads]
    if not reasons or all(reason is not None for reason in reasons):
        return Role(FROZEN, next((reason for reason in reasons if reason), "nothing reads it"))
    if asked:
        return Role(PARAMETER, "asked for")
    if int(np.prod(entry.shape)) < 2:
        return Role(FROZEN, "a single number; name it to train it")
    if not bool(np.all(np.abs(np.asarray(entry.array, np.float64)) < _MASK)):
        return Role(FROZEN, "a mask: it holds infinities or numbers beyond any weight")
    return Role(PARAMETER)


def _why_still(node: gs.Node, slot: int, opsets: Mapping[str, int], asked: bool) -> str | None:
    form = form_of(node, opsets)
    if form is None or (asked and form.gradient and not form.is_host(slot)):
        return None
    return form.why_still(slot)
