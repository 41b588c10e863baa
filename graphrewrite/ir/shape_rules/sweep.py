"""The forward sweep: every node once, in order, rules first, then onnx's own inference, then what the file declares."""

from collections.abc import Iterable, Mapping

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from graphrewrite.ir.codec import graph_from_proto
from graphrewrite.ir.domains import domain_name
from graphrewrite.ir.shape_rules.call import (
    FLOAT_LIMIT,
    RULES,
    UNKNOWN_LIMIT,
    VALUE_LIMIT,
    VALUE_RULES,
    Call,
    DType,
    Elements,
    Fact,
    Shape,
    Unknown,
    bound_attributes,
    key_of,
)
from graphrewrite.ir.shape_rules.evaluate import COMPUTED, in_worlds, tidied
from graphrewrite.ir.shape_rules.fallback import ask_onnx
from graphrewrite.ir.symbols import Dim, Sym, Symbols
from graphrewrite.ir.values import Array

# Two values of at most this many elements broadcast to one that may still be followed.
_PLAINLY_SHORT = 64

# What a rule may raise over a graph that is wrong or that it does not understand.
_TROUBLE = (ValueError, TypeError, IndexError, KeyError, ZeroDivisionError, AttributeError, OverflowError)


class Functions:
    """Model-local functions by `domain::name`; a body is read once, however often it is called."""

    def __init__(self, protos: Iterable[onnx.FunctionProto]) -> None:
        self.protos = {key_of(proto.name, proto.domain): proto for proto in protos}
        self._bodies: dict[str, list[gs.Node]] = {}

    def body(self, key: str) -> list[gs.Node]:
        """Return the nodes of a function."""
        if key not in self._bodies:
            proto = self.protos[key]
            graph = graph_from_proto(onnx.GraphProto(node=proto.node, value_info=proto.value_info))
            self._bodies[key] = list(graph.nodes)
        return self._bodies[key]


class Sweep:
    """Facts about tensors by name, gathered in one pass over the nodes of a graph.

    Attributes:
        shapes: tensor -> shape; a tensor of unknown rank is missing.
        dtypes: tensor -> element type.
        values: tensor -> small value that does not hang on the inputs' contents, elements may be Syms.
        stored: constant -> where its numbers lie; read only when a rule asks.
        unknowns: short integer tensor that hangs on contents -> unknown Syms in place of its elements.
        sequences: sequence of tensors (or optional) -> what is known of its elements.
        problems: what rules stumbled over, "node: reason".
        inside: tensor of a body -> what is known of it in every round and at every place of that name.
    """

    def __init__(
        self,
        symbols: Symbols,
        opsets: Mapping[str, int],
        functions: "Functions",
        bindings: Mapping[str, object] | None = None,
    ) -> None:
        self.symbols = symbols
        self.opsets = opsets
        self.opset = opsets.get("", 0)
        self.functions = functions
        self.bindings = bindings or {}
        self.shapes: dict[str, Shape] = {}
        self.dtypes: dict[str, DType] = {}
        self.values: dict[str, Array] = {}
        self.stored: dict[str, object] = {}
        self.unknowns: dict[str, Array] = {}
        self.sequences: dict[str, Elements] = {}
        self.problems: list[str] = []
        self.inside: dict[str, Fact] = {}

    # ------------------------------------------------------------------------------------------------------- facts

    def value(self, name: str) -> Array | None:
        """Return a tensor's value when it is known and short; constants are read here, on first use."""
        found = self.values.get(name)
        if found is None and name in self.stored and self.flows(name):
            found = self.values[name] = self.read(name)
        return found

    def fact(self, name: str) -> Fact:
        """Return what is known of a tensor or sequence."""
        return Fact(self.shapes.get(name), self.dtypes.get(name), self.value(name), self.sequences.get(name))

    def assume(self, name: str, known: Fact) -> None:
        """File what is known of a tensor or sequence; what is None stays as it is."""
        shape, dtype, value, elements = known
        if elements is not None:
            self.sequences[name] = elements
        if shape is not None:
            self.shapes[name] = shape
        if dtype is not None:
            self.dtypes[name] = dtype
        if value is not None:
            self.values[name] = value

    def flows(self, name: str) -> bool:
        """Tell whether a constant is short enough for its numbers to be followed."""
        count = 1
        for size in self.shapes[name]:
            count *= size  # type: ignore[assignment]
        return count <= FLOAT_LIMIT or (count <= VALUE_LIMIT and self.dtypes[name].kind in "iub")

    def read(self, name: str) -> Array:
        """Return the numbers of a constant."""
        stored = self.stored[name]
        return np.asarray(stored.load() if hasattr(stored, "load") else stored)

    def contents(self, name: str) -> Array | None:
        """Return a short integer tensor that hangs on contents as an array of unknown Syms, the same at every call."""
        found = self.unknowns.get(name)
        if found is not None:
            return found
        shape, dtype = self.shapes.get(name), self.dtypes.get(name)
        if shape is None or dtype is None or dtype.kind not in "iu":
            return None
        if any(isinstance(size, Sym) for size in shape):
            return None
        count = int(np.prod(shape, dtype=np.int64))  # type: ignore[arg-type]
        if count > UNKNOWN_LIMIT:
            return None
        array = np.empty(count, dtype=object)
        for index in range(count):
            array[index] = self.symbols.content()
        found = self.unknowns[name] = array.reshape(shape)  # type: ignore[arg-type]
        return found

    def declare(self, constants: Iterable[gs.Constant]) -> None:
        """File constants: shape and type now, numbers when asked for."""
        for constant in constants:
            self.file(constant.name, constant._values)

    def file(self, name: str, stored: object) -> None:
        """File one constant under a name; `stored` is an array or numbers still in the file."""
        self.shapes[name] = tuple(stored.shape)  # type: ignore[attr-defined]
        self.dtypes[name] = np.dtype(stored.dtype)  # type: ignore[attr-defined]
        self.stored[name] = stored

    # ------------------------------------------------------------------------------------------------------- nodes

    def run(self, nodes: Iterable[gs.Node]) -> None:
        """Sweep nodes in order."""
        for node in nodes:
            self.step(node)

    def step(self, node: gs.Node) -> None:
        """Find out what one node's outputs are."""
        call = Call(self, node)
        key = key_of(node.op, node.domain)
        entry = RULES.get(key)
        if entry is None and key in self.functions.protos:
            self._guarded(call, self._call_function)
        else:
            known = entry is not None or key in VALUE_RULES
            if entry is not None:
                dtype = entry.dtype or (self.dtypes.get(call.names[0]) if call.names else None)
                if dtype is not None:
                    for name in call.outputs:
                        self.dtypes[name] = dtype
            if not (self._flowing(call) and self._evaluate(call, key)):
                if entry is not None:
                    self._guarded(call, entry.rule)
                if call.outputs and not (known and self._tells(call.outputs[0])):
                    self._guarded(call, ask_onnx)
        for tensor in node.outputs:
            self.settle(tensor)

    def _tells(self, name: str) -> bool:
        return name in self.shapes or name in self.sequences

    def settle(self, tensor: gs.Tensor) -> None:
        """Merge what was found for a tensor with what the file declares about it."""
        name = tensor.name
        if not name or isinstance(tensor, gs.Constant):
            return
        if name not in self.dtypes and tensor.dtype is not None:
            self.dtypes[name] = np.dtype(tensor.dtype)
        declared = tensor.shape
        if declared is None:
            return
        found = self.shapes.get(name)
        if found is None:
            self.shapes[name] = tuple(self._declared(dim) for dim in declared)
        elif len(found) == len(declared):
            for axis, dim in enumerate(declared):
                present = found[axis]
                if (
                    isinstance(dim, int)
                    and dim >= 0
                    and isinstance(present, Sym)
                    and present.sample == (None, None)
                ):
                    found = (*found[:axis], dim, *found[axis + 1 :])
            self.shapes[name] = found

    def _declared(self, dim: object) -> Dim:
        if isinstance(dim, (int, np.integer)) and dim >= 0:
            return int(dim)
        if isinstance(dim, str) and dim:
            named = self.symbols.named(dim)
            if named is not None:
                return named
        return self.symbols.unknown()

    def _guarded(self, call: Call, rule: object) -> None:
        try:
            rule(call)  # type: ignore[operator]
        except Unknown:
            return
        except _TROUBLE as error:
            self.problems.append(f"{call.node.name or call.node.op}: {type(error).__name__}: {error}")

    def _flowing(self, call: Call) -> bool:
        """Tell whether the node has inputs and every one of them has a value."""
        values, stored = self.values, self.stored
        found = False
        for name in call.names:
            if name in values:
                found = True
            elif name:
                if name not in stored or not self.flows(name):
                    return False
                found = True
        return found

    def _evaluate(self, call: Call, key: str) -> bool:
        rule = VALUE_RULES.get(key)
        if not call.outputs or (rule is None and key not in COMPUTED):
            return False
        arrays = [self.value(name) if name else None for name in call.names]
        # Values broadcast against each other can be long though each of them is short.
        long = sum(array is not None and array.size > _PLAINLY_SHORT for array in arrays)
        if long > 1 and not self._is_short(call, key):
            return False
        try:
            results = None
            symbolic = any(array is not None and array.dtype == object for array in arrays)
            if rule is not None and not any(a is not None and a.dtype.kind == "U" for a in arrays):
                try:
                    results = rule(call, arrays)
                except TypeError:
                    if not symbolic:
                        raise
            if results is None:
                results = in_worlds(call, arrays) if self._is_short(call, key) else None
            if results is None:
                return False
        except Unknown:
            return False
        except (*_TROUBLE, RuntimeError, NotImplementedError) as error:
            self.problems.append(f"{call.node.name or call.node.op}: {type(error).__name__}: {error}")
            return False
        listed = [np.asarray(results)] if isinstance(results, (np.ndarray, np.generic)) else list(results)
        for index, array in enumerate(listed):
            if index < len(call.outputs):
                result = tidied(array, self.dtypes.get(call.outputs[index]))
                dtype = None if result.dtype == object else result.dtype
                call.put_value(index, result, dtype)
        return bool(listed)

    def _is_short(self, call: Call, key: str) -> bool:
        """Tell whether a node's first output has a static shape of at most `VALUE_LIMIT` elements."""
        if call.node.op in ("NonZero", "Unique", "Compress"):
            return True  # no longer than the input
        entry = RULES.get(key)
        if entry is not None:
            self._guarded(call, entry.rule)
        shape = self.shapes.get(call.outputs[0])
        count = 1
        for size in shape if shape is not None else (VALUE_LIMIT + 1,):
            if isinstance(size, Sym):
                return False
            count *= size
        return count <= VALUE_LIMIT

    def _call_function(self, call: Call) -> None:
        """Sweep the body of a model-local function with the shapes of this call."""
        key = key_of(call.node.op, call.node.domain)
        function = self.functions.protos[key]
        bindings = {attribute.name: _default(attribute) for attribute in function.attribute_proto}
        bindings.update(bound_attributes(call))
        opsets = {domain_name(entry.domain): entry.version for entry in function.opset_import}
        inner = Sweep(self.symbols, opsets, self.functions, bindings)
        for index, formal in enumerate(function.input):
            if call.has(index):
                copy_facts(self, call.names[index], inner, formal)
        inner.run(self.functions.body(key))
        self.problems.extend(inner.problems)
        for index, formal in enumerate(function.output):
            if index < len(call.outputs) and call.outputs[index]:
                copy_facts(inner, formal, self, call.outputs[index])


def copy_facts(source: Sweep, name: str, target: Sweep, other: str) -> None:
    """Let `other` in one sweep be what `name` is in another (or the same) sweep."""
    if name in source.shapes:
        target.shapes[other] = source.shapes[name]
    if name in source.dtypes:
        target.dtypes[other] = source.dtypes[name]
    if name in source.values:
        target.values[other] = source.values[name]
    if name in source.sequences:
        target.sequences[other] = source.sequences[name]
    if name in source.stored:
        target.stored[other] = source.stored[name]


def _default(attribute: onnx.AttributeProto) -> object:
    node = graph_from_proto(
        onnx.GraphProto(node=[onnx.NodeProto(op_type="Constant", attribute=[attribute])])
    ).nodes[0]
    return node.attrs[attribute.name]
