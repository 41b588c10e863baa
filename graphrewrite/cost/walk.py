"""One walk over the nodes of a graph in order; bodies and function bodies are walks of their own."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx_graphsurgeon as gs
from onnx import FunctionProto

from graphrewrite.cost.bodies import (
    Body,
    FunctionKey,
    Given,
    body_model,
    called,
    function_key,
    function_model,
)
from graphrewrite.cost.memory import peak_bytes
from graphrewrite.cost.registry import RULES, UNCOUNTED, Key, key_of
from graphrewrite.cost.site import Site, Sizes, Unsized
from graphrewrite.cost.table import NodeCost
from graphrewrite.cost.tally import KnownShapes, Tally
from graphrewrite.cost.trips import Trip, trips
from graphrewrite.cost.weights import Held, attribute_numbers, bits_of, held_by, learned, weight_numbers
from graphrewrite.ir import Array, Model
from graphrewrite.ir.edit import subgraphs_of
from graphrewrite.ir.garbage import paused
from graphrewrite.ir.shapes import infer

# Attribute values whose repr is no identity, or far too long.
_BULKY = (gs.Graph, gs.Constant)
# More floating-point numbers than this are weights, not scales of a Resize or bounds of a Range.
_FEW = 16
# Operators whose output is a sequence -> how many inputs, the first ones, it is made of.
_HELD_BY_SEQUENCE = {"SequenceConstruct": None, "SequenceEmpty": 0, "SequenceInsert": 2, "SplitToSequence": 1}
# Notes from inside a body that its node repeats; the rest is only counted.
_TOLD = 3


@paused()
def count_graph(model: Model, info: KnownShapes, world: int) -> Tally:
    """Walk a model's main graph, and whatever its nodes run inside."""
    return Walk.over(model, info, world).run()


@dataclass
class _Shared:
    """What the walks of one count have in common."""

    functions: Mapping[FunctionKey, FunctionProto]
    results: dict[str, Tally] = field(default_factory=dict)
    bits: dict[np.dtype[np.generic], int] = field(default_factory=dict)


@dataclass(slots=True)
class _Inside:
    """What the bodies of a node add to its row."""

    macs: int = 0
    ops: int = 0
    params: int = 0
    weight_bytes: int = 0
    activation_bytes: int = 0
    peak: int = 0
    notes: list[str] = field(default_factory=list)


class Walk:
    """A walk over one graph; its methods may also be asked about single nodes, in order."""

    def __init__(
        self,
        model: Model,
        info: KnownShapes,
        world: int,
        shared: _Shared,
        scope: str,
        held: dict[int, Held | None],
        stack: tuple[FunctionKey, ...],
    ) -> None:
        self.model, self.info, self.world, self.shared = model, info, world, shared
        self.scope, self.held, self.stack = scope, held, stack
        self.sizes: dict[str, Sizes | None] = {}
        self.bytes: dict[int, int] = {}
        self.tally = Tally()

    @classmethod
    def over(cls, model: Model, info: KnownShapes, world: int) -> "Walk":
        """Prepare a walk over a model's main graph."""
        functions = {function_key(function): function for function in model.functions}
        return cls(model, info, world, _Shared(functions), "", {}, ())

    def run(self) -> Tally:
        """Count every node, and the memory over time."""
        graph, tally = self.model.graph, self.tally
        during: dict[int, int] = {}
        tally.entered = sum(self._measure(tensor) or 0 for tensor in self.model.inputs)
        for position, node in enumerate(graph.nodes):
            row, extra = self.row(node)
            tally.rows.append(row)
            if extra:
                during[position] = extra
        self.file_returned()
        tally.peak = peak_bytes(graph, self.bytes, during, is_body=bool(self.scope))
        edge = {id(tensor) for tensor in (*graph.inputs, *graph.outputs)}
        tally.inner = sum(size for tensor, size in self.bytes.items() if tensor not in edge)
        return tally

    def row(self, node: gs.Node) -> tuple[NodeCost, int]:
        """Return a node's row and the extra memory it needs while it runs."""
        name = node.name or (node.outputs[0].name if len(node.outputs) else node.op)
        key = key_of(node.domain, node.op)
        label = f"{key[0]}.{key[1]}" if key[0] else key[1]
        params, stored = self.weights(node, key)
        written, missing = 0, ""
        for tensor in node.outputs:
            if tensor.name:
                size = self._measure(tensor)
                if size is None and node.op in _HELD_BY_SEQUENCE:
                    size = self._measure_sequence(node, tensor)
                if size is None:
                    missing = tensor.name
                else:
                    written += size
        function = self.shared.functions.get(called(node)) if self.shared.functions else None
        rule = RULES.get(key)
        macs = ops = 0
        inside: _Inside | None = None
        if (
            function is not None and rule is None
        ):  # a rule says what a kernel does, which is less than the body
            inside = self._call(node, name, label, function, written)
        elif rule is None:
            self.tally.unknown.setdefault(label, []).append(name)
            inside = _Inside(notes=[f"not counted: {UNCOUNTED.get(key, 'this operator has no cost rule')}"])
        elif rule.macs is not None or rule.ops is not None:
            site = self.site(node)
            try:
                macs = rule.macs(site) if rule.macs else 0
                ops = rule.ops(site) if rule.ops else 0
            except Unsized as unsized:
                missing = str(unsized)
        if function is None and subgraphs_of(node):
            inside = self._bodies(node, name, written, inside or _Inside())
        if missing:
            self.tally.unsized.append(name)
            inside = inside or _Inside()
            inside.notes.append(f"the size or type of {missing} is not known")
        if inside is None:
            return NodeCost(name, label, macs, ops, params, stored, written), 0
        return (
            NodeCost(
                name,
                label,
                macs + inside.macs,
                ops + inside.ops,
                params + inside.params,
                stored + inside.weight_bytes,
                written + inside.activation_bytes,
                "; ".join(inside.notes),
            ),
            inside.peak,
        )

    def runs_inside(self, node: gs.Node) -> bool:
        """Whether a node has bodies, or calls a function."""
        functions = self.shared.functions
        return bool(functions and called(node) in functions) or bool(subgraphs_of(node))

    # ------------------------------------------------------------------------------------- sizes and numbers

    def site(self, node: gs.Node) -> Site:
        """Return what a rule sees of a node."""
        return Site(node, self.sizes_of, self.numbers_of, self.model.opset)

    def sizes_of(self, name: str) -> Sizes | None:
        """Return a tensor's sizes in the world that is counted."""
        try:
            return self.sizes[name]
        except KeyError:
            sizes = self.sizes[name] = self.info.sizes(name, self.world)
            return sizes

    def numbers_of(self, name: str) -> Array | None:
        """Return a short tensor's value in the world that is counted."""
        return self.info.numbers(name, self.world)

    def given(self, tensor: gs.Tensor) -> Given:
        """Describe a tensor to a body; of numbers only those that may steer shapes there."""
        numbers = self.numbers_of(tensor.name) if tensor.name else None
        if numbers is not None and numbers.dtype.kind not in "ib" and numbers.size > _FEW:
            numbers = None
        item = self.info.item(tensor.name, self.world)
        parts = self.info.parts(tensor.name, self.world) if item is None else None
        return Given(self.sizes_of(tensor.name), self._dtype(tensor), numbers, item, parts)

    def _dtype(self, tensor: gs.Tensor) -> np.dtype[np.generic] | None:
        dtype = self.info.dtype(tensor.name)
        return dtype if dtype is not None else tensor.dtype

    def _measure(self, tensor: gs.Tensor) -> int | None:
        """Return and remember the bytes of an activation; None when its sizes or its type are not known."""
        sizes = self.sizes_of(tensor.name)
        dtype = self._dtype(tensor)
        if sizes is None or dtype is None:
            return None
        bits = self.shared.bits.get(dtype)
        if bits is None:
            bits = self.shared.bits[dtype] = bits_of(dtype)
        count = 1
        for size in sizes:
            count *= size
        found = self.bytes[id(tensor)] = (count * bits + 7) >> 3
        return found

    def _measure_sequence(self, node: gs.Node, tensor: gs.Tensor) -> int | None:
        """Return and remember the bytes of a new sequence: those of the tensors it is made of."""
        total = 0
        for source in node.inputs[: _HELD_BY_SEQUENCE[node.op]]:
            size = self.bytes.get(id(source))
            if size is None:
                size = self._measure(source) if self.hold(source) is None else 0
            if size is None:
                return None
            total += size
        self.bytes[id(tensor)] = total
        return total

    # ------------------------------------------------------------------------------------------------ weights

    def hold(self, tensor: gs.Tensor) -> Held | None:
        """Describe a constant, or what stands for one of an outer graph; None for what is not constant."""
        key = id(tensor)
        if key not in self.held:
            self.held[key] = held_by(tensor, self.scope)
        return self.held[key]

    def file_returned(self) -> None:
        """File the weights that the graph returns as they are."""
        for held in map(self.hold, self.model.graph.outputs):
            if held is not None and (numbers := learned(held)):
                self.tally.weights[held.identity] = (numbers, held.stored)

    def weights(self, node: gs.Node, key: Key) -> tuple[int, int]:
        """Return (numbers, bytes) of the weights a node reads, and file them for the totals."""
        params = stored = 0
        for index, tensor in enumerate(node.inputs):
            held = self.hold(tensor)
            if held is None:
                continue
            numbers = weight_numbers(node, key, index, held)
            if numbers:
                params += numbers
                stored += held.stored
                self.tally.weights[held.identity] = (numbers, held.stored)
        if key[0] == "ai.onnx.ml":
            numbers = attribute_numbers(node)
            params, stored = params + numbers, stored + 4 * numbers
            self.tally.weights[self.scope, f"attributes of {node.outputs[0].name}"] = (numbers, 4 * numbers)
        return params, stored

    # ------------------------------------------------------------------------------------------------- bodies

    def _call(self, node: gs.Node, name: str, label: str, function: FunctionProto, written: int) -> _Inside:
        key = function_key(function)
        inside = _Inside()
        if key in self.stack:
            self.tally.unknown.setdefault(label, []).append(name)
            inside.notes.append("not counted: the function calls itself")
            return inside
        formal = [self.given(tensor) for tensor in node.inputs]
        alike = (key, tuple(node.attrs.items()), *(_fingerprint(given) for given in formal))
        remembered = (
            repr(alike) if not any(isinstance(value, _BULKY) for value in node.attrs.values()) else None
        )
        tally = self.shared.results.get(remembered) if remembered else None
        if tally is None:
            body = function_model(function, node, self.model, formal)
            tally = self._walk_inside(body, f"function {'::'.join(key)}", (*self.stack, key))[0]
            if remembered:
                self.shared.results[remembered] = tally
        self._merge(inside, tally, name, 1)
        inside.peak = max(0, tally.peak - tally.entered - written)
        return inside

    def _bodies(self, node: gs.Node, name: str, written: int, inside: _Inside) -> _Inside:
        branches: list[Tally] = []
        for trip in trips(node, self.given, self.model.opset):
            body = body_model(trip.body, self.model, trip.formal, self.given)
            scope = f"{self.scope}/{node.outputs[0].name}.{trip.attribute}"
            tally, info = self._walk_inside(body, scope, self.stack)
            if trip.either:
                branches.append(tally)
                continue
            times = trip.times
            if trip.goes_on and times is not None and times > 0 and not _stays_true(trip, info):
                times = None
            if times is None:
                inside.notes.append(f"{trip.attribute} counted once: how often it runs is not known")
            if times is None or times > 1:
                inside.notes.extend(_growing(node, trip, info))
            self._merge(inside, tally, name, 1 if times is None else times)
            if times != 0:
                handed_on = sum(self.bytes.get(id(tensor), 0) for tensor in node.outputs[: trip.handed_on])
                inside.peak = max(inside.peak, tally.peak - tally.entered - handed_on)
        if branches:
            dearer = max(branches, key=lambda tally: tally.work)
            for tally in branches:
                self._merge(inside, tally, name, 1 if tally is dearer else 0)
                inside.peak = max(inside.peak, tally.peak - tally.entered - written)
            if branches[0].work != branches[-1].work:
                inside.notes.append("the dearer branch is counted: the condition is not known")
        return inside

    def _walk_inside(
        self, body: Body, scope: str, stack: tuple[FunctionKey, ...]
    ) -> tuple[Tally, KnownShapes]:
        held = {
            inner: None if outer is None else self.hold(outer) for inner, outer in body.stands_for.items()
        }
        info = infer(body.model, body.lists)
        return Walk(body.model, info, 0, self.shared, scope, held, stack).run(), info

    def _merge(self, inside: _Inside, tally: Tally, name: str, times: int) -> None:
        """Add a body that runs `times` times; its weights are there once however often it runs."""
        macs, ops = tally.work
        inside.macs += times * macs
        inside.ops += times * ops
        inside.activation_bytes += times * tally.inner
        for identity, (numbers, stored) in tally.weights.items():
            self.tally.weights[identity] = (numbers, stored)
            inside.params += numbers
            inside.weight_bytes += stored
        for label, names in tally.unknown.items():
            self.tally.unknown.setdefault(label, []).extend(f"{name}/{inner}" for inner in names)
        self.tally.unsized.extend(f"{name}/{inner}" for inner in tally.unsized)
        noted = [f"{row.name}: {row.note}" for row in tally.rows if row.note]
        inside.notes.extend(noted[:_TOLD])
        if len(noted) > _TOLD:
            inside.notes.append(f"and {len(noted) - _TOLD} more inside")


def _stays_true(trip: Trip, info: KnownShapes) -> bool:
    going = info.numbers(trip.body.outputs[0].name, 0)
    return going is not None and bool(going.reshape(-1)[0])


def _growing(node: gs.Node, trip: Trip, info: KnownShapes) -> list[str]:
    """Say which carried tensors change their sizes from run to run: every run is counted like the first."""
    if node.op != "Loop":
        return []  # the state of a Scan keeps its sizes by definition
    notes = []
    for given, tensor in zip(trip.formal[2:], trip.body.outputs[1:], strict=False):
        sizes = info.sizes(tensor.name, 0)
        if given.sizes is not None and sizes != given.sizes:
            notes.append(
                f"{tensor.name} changes its sizes from run to run; every run is counted like the first"
            )
    return notes


def _fingerprint(given: Given) -> object:
    """Return what tells two arguments of a call apart, as far as costs go."""
    numbers = given.numbers
    return (
        given.sizes,
        given.dtype,
        given.item,
        given.parts,
        None if numbers is None else (str(numbers.dtype), numbers.shape, numbers.tolist()),
    )
