"""What a shape rule sees of one node, and the registry the rules file themselves in.

A rule is a function of one `Call`: it reads the shapes, element types and known values of the inputs and puts what it
knows of the outputs. An output nothing is put for stays unknown, which is always sound. Rules raise freely (a wrong
rank, a missing attribute): the sweep then leaves the node's outputs unknown and notes the reason.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
import onnx_graphsurgeon as gs

from graphrewrite.errors import InvalidConfig
from graphrewrite.ir.domains import domain_name
from graphrewrite.ir.symbols import Dim, Sym
from graphrewrite.ir.values import Array

if TYPE_CHECKING:
    from graphrewrite.ir.shape_rules.sweep import Sweep

Shape: TypeAlias = tuple[Dim, ...]
DType: TypeAlias = np.dtype[np.generic]


class Fact(NamedTuple):
    """What is known of one tensor, or of a sequence of tensors; an optional is a sequence of at most one."""

    shape: Shape | None = None
    dtype: DType | None = None
    value: Array | None = None
    elements: "Elements | None" = None


class Elements(NamedTuple):
    """What is known of each element of a sequence, or of all of them (one fact) while nobody knows how many."""

    facts: tuple[Fact, ...]
    counted: bool = True


INT64: DType = np.dtype(np.int64)
INT32: DType = np.dtype(np.int32)
UINT8: DType = np.dtype(np.uint8)
BOOL: DType = np.dtype(np.bool_)
FLOAT32: DType = np.dtype(np.float32)
STRING: DType = np.dtype(np.object_)

# Values of more elements than this are not followed.
VALUE_LIMIT = 4096
# Float values are followed only while they are as short as scales, epsilons and paddings are.
FLOAT_LIMIT = 64
# Elements of a content-dependent integer tensor stand as unknown sizes when there are at most this many of them.
UNKNOWN_LIMIT = 64


class Call:
    """One node with what is known of its inputs; a rule puts what follows for the outputs."""

    __slots__ = ("sweep", "node", "names", "outputs")

    def __init__(self, sweep: "Sweep", node: gs.Node) -> None:
        self.sweep = sweep
        self.node = node
        self.names: list[str] = [tensor.name for tensor in node.inputs]
        self.outputs: list[str] = [tensor.name for tensor in node.outputs]

    @property
    def opset(self) -> int:
        """Version of the default operator set in this scope."""
        return self.sweep.opset

    # ------------------------------------------------------------------------------------------------------ inputs

    def has(self, index: int) -> bool:
        """Tell whether the optional input `index` is given."""
        return index < len(self.names) and self.names[index] != ""

    def shape(self, index: int) -> Shape | None:
        """Return the shape of an input, None when its rank is unknown or it is not given."""
        return self.sweep.shapes.get(self.names[index]) if index < len(self.names) else None

    def known(self, index: int) -> Shape:
        """Return the shape of an input whose rank the rule cannot do without."""
        shape = self.shape(index)
        if shape is None:
            raise Unknown
        return shape

    def dtype(self, index: int) -> DType | None:
        """Return the element type of an input."""
        return self.sweep.dtypes.get(self.names[index]) if index < len(self.names) else None

    def value(self, index: int) -> Array | None:
        """Return the value of an input when it is known; elements may be Syms (dtype object)."""
        return self.sweep.value(self.names[index]) if self.has(index) else None

    def ints(self, index: int) -> list[Dim] | None:
        """Return an integer input as a flat list; unknown elements of a short vector are unknown Syms."""
        array = self.elements(index)
        if array is None:
            return None
        flat = array.reshape(-1).tolist()
        if array.dtype.kind == "f":
            flat = [int(item) if item.is_integer() else item for item in flat]
        return None if any(not isinstance(item, (int, Sym)) for item in flat) else flat

    def numbers(self, index: int) -> list[int] | None:
        """Return an integer input as a flat list of plain numbers, None if any of them is symbolic or unknown."""
        array = self.value(index)
        if array is None or array.dtype == object:
            return None
        return [int(item) for item in array.reshape(-1).tolist()]

    def elements(self, index: int) -> Array | None:
        """Return the value of an integer input, with unknown Syms for contents when its shape is short and static."""
        array = self.value(index)
        return (
            array
            if array is not None
            else self.sweep.contents(self.names[index])
            if self.has(index)
            else None
        )

    # -------------------------------------------------------------------------------------------------- attributes

    def attribute(self, name: str) -> object:
        """Return an attribute, looking through references to a surrounding function's attributes."""
        value = self.node.attrs.get(name)
        if isinstance(value, onnx.AttributeProto) and value.ref_attr_name:
            return self.sweep.bindings.get(value.ref_attr_name)
        return value

    def integer(self, name: str, default: int) -> int:
        """Return an integer attribute."""
        value = self.attribute(name)
        return default if value is None else int(value)  # type: ignore[call-overload]

    def number(self, name: str, default: float) -> float:
        """Return a float attribute."""
        value = self.attribute(name)
        return default if value is None else float(value)  # type: ignore[arg-type]

    def integers(self, name: str) -> list[int] | None:
        """Return a list attribute, None when it is not given."""
        value = self.attribute(name)
        return None if value is None else [int(item) for item in value]  # type: ignore[attr-defined]

    def text(self, name: str, default: str) -> str:
        """Return a string attribute."""
        value = self.attribute(name)
        return default if value is None else value.decode() if isinstance(value, bytes) else str(value)

    # ----------------------------------------------------------------------------------------------------- outputs

    def put(
        self, index: int, shape: Iterable[Dim] | None, dtype: DType | None = None, value: Array | None = None
    ) -> None:
        """State what is known of an output; dtype None keeps what the rule's registration says."""
        if index >= len(self.outputs) or self.outputs[index] == "":
            return
        name = self.outputs[index]
        if shape is not None:
            self.sweep.shapes[name] = tuple(shape)
        if dtype is not None:
            self.sweep.dtypes[name] = dtype
        if value is not None:
            self.sweep.values[name] = value

    def put_value(self, index: int, value: Array, dtype: DType | None = None) -> None:
        """State the value of an output, and with it its shape; an array that is too long gives the shape only."""
        self.put(index, np.shape(value), dtype, value if value.size <= VALUE_LIMIT else None)

    def unknown(self) -> Sym:
        """Return a size that hangs on contents."""
        return self.sweep.symbols.unknown()


class Unknown(Exception):
    """Raised inside a rule when something it needs is not known; its outputs stay as they are."""


Rule: TypeAlias = Callable[[Call], None]
ValueRule: TypeAlias = Callable[[Call, list[Array | None]], "Array | Sequence[Array] | None"]


@dataclass(frozen=True)
class Entry:
    """A filed rule and the element type of the outputs unless the rule says otherwise (None: that of input 0)."""

    rule: Rule
    dtype: DType | None


RULES: dict[str, Entry] = {}
VALUE_RULES: dict[str, ValueRule] = {}


def shape_rule(*ops: str, domain: str = "", dtype: npt.DTypeLike | None = None) -> Callable[[Rule], Rule]:
    """File a shape rule under operator types of one domain."""

    def add(rule: Rule) -> Rule:
        _file(RULES, ops, domain, Entry(rule, None if dtype is None else np.dtype(dtype)))
        return rule

    return add


def value_rule(*ops: str) -> Callable[[ValueRule], ValueRule]:
    """File a rule that computes outputs from values; it is called when every given input has one.

    Arrays of dtype object hold ints and Syms. The rule returns the arrays of the outputs (one array for one output),
    or None when it cannot tell. TypeError means: not expressible with Syms; the sample worlds are computed instead.
    """

    def add(rule: ValueRule) -> ValueRule:
        _file(VALUE_RULES, ops, "", rule)
        return rule

    return add


def key_of(op: str, domain: str | None) -> str:
    """Return the name rules are filed under: the operator type, after its domain unless that is the default one."""
    return f"{name}::{op}" if (name := domain_name(domain)) else op


def _file(
    table: dict[str, Entry] | dict[str, ValueRule], ops: Sequence[str], domain: str, entry: object
) -> None:
    for op in ops:
        key = key_of(op, domain)
        if key in table:
            raise InvalidConfig(
                f"the operator {key} has two rules in one table; there must be one; remove either"
            )
        table[key] = entry  # type: ignore[assignment]


# --------------------------------------------------------------------------------------------------- common helpers


def axis_of(axis: int, rank: int) -> int:
    """Return a possibly negative axis as one in [0, rank)."""
    resolved = axis + rank if axis < 0 else axis
    if not 0 <= resolved < max(rank, 1):
        raise ValueError(f"axis {axis} of a tensor of rank {rank}")
    return resolved


def bound_attributes(call: Call) -> Mapping[str, object]:
    """Return all attributes of a node with references to the surrounding function's attributes replaced."""
    found = {name: call.attribute(name) for name in call.node.attrs}
    return {name: value for name, value in found.items() if value is not None}
