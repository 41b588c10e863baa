"""An ONNX graph written out as a `torch.fx` graph: one call for each node, arithmetic on sizes as plain numbers."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import onnx_graphsurgeon as gs
import torch
from torch import fx, nn

from graphrewrite.bridge import host
from graphrewrite.bridge.forms import Form, find
from graphrewrite.bridge.host import Numbers
from graphrewrite.bridge.names import ANCHOR, CONSTANTS, put
from graphrewrite.bridge.numbers import array_from, tensor_of
from graphrewrite.bridge.reach import is_floating
from graphrewrite.bridge.site import BodyOf, Site, array_in, refusal
from graphrewrite.bridge.sizes import on_host
from graphrewrite.bridge.value import Value
from graphrewrite.errors import InvalidModel
from graphrewrite.ir import Array, Model, ShapeInfo, constant_value, infer
from graphrewrite.ir.domains import domain_name
from graphrewrite.ir.inline import Expansion


class Weighed:
    """What all graphs of one model share: its weights by tensor, and what is known of shapes."""

    def __init__(self, model: Model, places: Mapping[int, str], expand: "Expand") -> None:
        self.model = model
        self.places = (
            places  # id of a stored tensor -> where its parameter or statistic lies in the root module
        )
        self.expand = expand
        self.expansion = Expansion(model)
        self._info: ShapeInfo | None = None

    @property
    def info(self) -> ShapeInfo:
        """Shapes and types, found out when first asked for."""
        if self._info is None:
            self._info = infer(self.model)
        return self._info

    def version(self, domain: str) -> int:
        """Return the version of an operator set."""
        return self.model.opsets.get(domain, 1)


# Given a node without a torch form: the nodes that do the same, hooked to its tensors, or None.
Expand = Callable[[gs.Node, Weighed], Sequence[gs.Node] | None]


class Writer:
    """Writes one graph; a body has a writer of its own, whose `parent` writes what is around it."""

    def __init__(
        self, shared: Weighed, graph: gs.Graph, root: nn.Module, parent: "Writer | None" = None
    ) -> None:
        self.shared = shared
        self.graph = graph
        self.root = root
        self.parent = parent
        self.written = fx.Graph()
        self.values: dict[str, Value] = {}
        self.captured: list[tuple[Value, bool]] = []  # of the parent, and whether it comes as numbers
        self._weights: dict[str, fx.Node] = {}
        self._constants: dict[int, fx.Node] = {}
        self._kept: list[Array] = []  # so that the ids above stay theirs
        self._modules = 0

    def run(self, given: Sequence[np.dtype[np.generic]] = (), told: int = 0) -> None:
        """Write all nodes and the outputs.

        The first inputs arrive as single numbers of the types `given`, the first `told` outputs leave as numbers.
        """
        for i, tensor in enumerate(self.graph.inputs):
            if not isinstance(tensor, gs.Constant):
                node = self._input(tensor.name)
                held = Value(tensor.name, node) if i >= len(given) else self._number(node, tensor, given[i])
                self.values[tensor.name] = held
        self.nodes(self.graph.nodes)
        made = self._results(self.graph)
        outputs = [self.numbers(value) if i < told else self.tensor(value) for i, value in enumerate(made)]
        single = self.parent is None and len(outputs) == 1
        self.written.output(outputs[0] if single else tuple(outputs))
        for node in [node for node in self.written.nodes if node.target is _getitem and not node.users]:
            self.written.erase_node(node)  # an output that nothing reads

    def _number(self, node: fx.Node, tensor: gs.Tensor, kind: np.dtype[np.generic]) -> Value:
        """Return what a number given to a body is there: a vector of one where the body declares that."""
        if not tensor.shape:
            return Value("", numbers=node, rank=0, kind=kind)
        return Value("", numbers=self.call(host.unsqueeze, node), rank=1, length=1, kind=kind)

    def _results(self, graph: gs.Graph) -> list[Value]:
        found = []
        for tensor in graph.outputs:
            value = self.value(tensor)
            if value is None:
                raise InvalidModel(
                    f"nothing makes the output {tensor.name!r}; expected a node, an input or a constant of that name; "
                    "export the model again"
                )
            found.append(value)
        return found

    def nodes(self, nodes: Sequence[gs.Node]) -> None:
        """Write nodes one after the other; one without a form is replaced by the nodes of its function body."""
        for node in nodes:
            domain = domain_name(node.domain)
            if node.op == "Constant" and not domain:
                continue  # read where it is used
            version = self.shared.version(domain)
            site = Site(self, node, version, [self.value(tensor) for tensor in node.inputs])
            found = on_host(self, site)
            if found is None:
                form = find(node.op, domain, version)
                if form is None:
                    body = self.shared.expand(node, self.shared)
                    if body is None:
                        raise refusal(node, version, "nothing is known of this operator")
                    self.nodes(body)
                    continue
                found = self._folded(site, form) or self._outputs_of(site, form)
            self._made(node, found)

    def _made(self, node: gs.Node, found: Sequence[Value | None]) -> None:
        for tensor, value in zip(node.outputs, found, strict=False):
            if tensor.name and value is not None:
                value.name = tensor.name
                self.values[tensor.name] = value
                if value.node is not None:
                    value.node.meta["tensor"] = tensor.name

    def _outputs_of(self, site: Site, form: Form) -> list[Value | None]:
        if form.lower is not None:
            made = form.lower(site)
            several = list(made) if isinstance(made, (tuple, list)) else [made]
            return [
                entry if isinstance(entry, Value) or entry is None else Value("", entry) for entry in several
            ]
        settings = self._settings(site, form)
        inputs = [
            None if value is None else (self.numbers(value) if form.is_host(slot) else self.tensor(value))
            for slot, value in enumerate(site.inputs)
        ]
        _drop_left_out(inputs)
        target = cast("Callable[..., object]", form.target)
        if form.is_module:
            call = self.call_module(target(**settings), site.node.op, *inputs)
        else:
            if form.plain is not None and not settings and self._are_floats(site):
                target = form.plain
            call = self.call(target, *inputs, **settings)
        if form.several:
            return [Value("", self.item(call, i)) for i in range(site.outputs)]
        return [Value("", call)]

    def _are_floats(self, site: Site) -> bool:
        kinds = [None if value is None else self.dtype(value) for value in site.inputs]
        return all(kind is not None and is_floating(kind) for kind in kinds)

    def _settings(self, site: Site, form: Form) -> dict[str, object]:
        """Return the keyword arguments of a form: the node's attributes, and what forms are given."""
        settings: dict[str, object] = {}
        for name, default in (form.attributes or {}).items():
            if name == "outputs":
                settings[name] = site.outputs
            elif name == "like":
                settings[name] = self.like
            elif name in site.attributes:
                value = site.attributes[name]
                settings[name] = tensor_of(array) if (array := array_in(value)) is not None else value
            elif default is Form.REQUIRED:
                site.refuse(f"it lacks the attribute {name!r}")
        ignored = set(site.attributes) - set(form.attributes or {}) - form.ignores
        if ignored and form.attributes is not None:
            site.refuse(f"its torch form knows no attribute {sorted(ignored)[0]!r}")
        return settings

    def _folded(self, site: Site, form: Form) -> list[Value | None] | None:
        """Return the outputs of a node whose inputs are all constants, computed now; None when it must run."""
        values = site.inputs
        if not form.folds or not any(values) or any(v is not None and v.array is None for v in values):
            return None
        if form.lower is not None:
            return self._folded_calls(site, form.lower)
        settings = self._settings(site, form)
        if "like" in settings:
            settings["like"] = torch.zeros(0)
        inputs: list[object] = []
        for slot, value in enumerate(values):
            if value is None or value.array is None:
                inputs.append(None)
            elif form.is_host(slot):
                inputs.append(host.literal(value.array))
            else:
                inputs.append(tensor_of(value.array))
        _drop_left_out(inputs)
        try:
            with torch.no_grad():
                made = cast("Callable[..., object]", form.target)(*inputs, **settings)
        except (RuntimeError, ValueError, IndexError, TypeError):
            return None  # it may stand in a branch that is never taken; if it is, it fails where a user can see it
        several = made if isinstance(made, tuple) else (made,)
        if not all(entry is None or isinstance(entry, torch.Tensor) for entry in several):
            return None
        return [None if entry is None else Value("", array=array_from(entry)) for entry in several]

    def _folded_calls(self, site: Site, lower: Callable[[Site], object]) -> list[Value | None] | None:
        """Return the outputs of a node whose form writes calls, from running these calls now."""
        aside = Writer(self.shared, gs.Graph(), nn.Module())
        values = [None if value is None else Value(value.name, array=value.array) for value in site.inputs]
        made = lower(Site(aside, site.node, site.version, values))
        calls = tuple(made) if isinstance(made, (tuple, list)) else (made,)
        aside.written.output(calls)
        try:
            with torch.no_grad():
                several = fx.Interpreter(aside.root, graph=aside.written).run()
        except (RuntimeError, ValueError, IndexError, TypeError):
            return None  # as above
        return [None if entry is None else Value("", array=array_from(entry)) for entry in several]

    # What forms ask for.

    def value(self, tensor: gs.Tensor) -> Value | None:
        """Return what is known of a tensor that a node reads; None for an optional input left out.

        Raises:
            InvalidModel: nothing makes it.
        """
        if not tensor.name:
            return None
        if tensor.name in self.values:
            return self.values[tensor.name]
        place = self.shared.places.get(id(tensor))
        made: Value
        if place is not None:
            made = self._weight(tensor.name, place)
        elif (array := constant_value(tensor)) is not None:
            made = Value(tensor.name, array=array)
        elif self.parent is not None:
            outer = self.parent.value(tensor)
            assert outer is not None
            made = self._capture(outer)
        else:
            raise InvalidModel(
                f"nothing makes the tensor {tensor.name!r} before it is read; expected a node, an input or a constant "
                "of that name; export the model again"
            )
        self.values[tensor.name] = made
        return made

    def tensor(self, value: Value) -> fx.Node:
        """Return a value as a torch tensor."""
        if value.node is None:
            if value.array is not None:
                value.node = self._constant(value.array)
            else:
                value.node = self.call(
                    host.from_numbers, value.numbers, tensor_of(np.zeros(0, value.kind)).dtype, self.like
                )
        return value.node

    def numbers(self, value: Value) -> fx.Node | Numbers:
        """Return a value as Python numbers, or the call that yields them."""
        if value.numbers is None:
            if value.array is not None:
                value.numbers = host.literal(value.array)
            else:
                value.numbers = self.call(host.to_numbers, self.tensor(value))
        return value.numbers

    def shape(self, value: Value) -> tuple[int | None, ...] | None:
        """Return a value's sizes as far as they hold for every input; None when not even the rank does."""
        if value.array is not None:
            return tuple(value.array.shape)
        if value.node is not None and isinstance(sizes := value.node.meta.get("sizes"), tuple):
            return sizes
        found = self.shared.info.shape(value.name) if value.name else None
        return None if found is None else (None,) * len(found)

    def dtype(self, value: Value) -> np.dtype[np.generic] | None:
        """Return a value's element type where it is known."""
        if value.array is not None or (value.numbers is not None and value.rank is not None):
            return value.kind_of_numbers
        return self.shared.info.dtype(value.name) if value.name else None

    def call(self, target: Callable[..., object], *args: object, **kwargs: object) -> fx.Node:
        """Write a call of a function."""
        return self.written.call_function(target, args, kwargs)

    def call_module(self, module: object, stem: str, *args: object) -> fx.Node:
        """Put a module into the tree and write its call."""
        assert isinstance(module, nn.Module)
        self._modules += 1
        place = f"_ops.{stem}_{self._modules}"
        put(self.root, place, module)
        return self.written.create_node("call_module", place, args, {})

    def item(self, value: fx.Node, index: int) -> fx.Node:
        """Write the choice of one entry of a tuple."""
        return self.written.call_function(_getitem, (value, index))

    @property
    def like(self) -> fx.Node:
        """A tensor on the module's device."""
        if ANCHOR not in self._weights:
            put(self.root, ANCHOR, torch.zeros(0), keep=False)
            self._weights[ANCHOR] = self.written.create_node("get_attr", ANCHOR)
        return self._weights[ANCHOR]

    def body(
        self, node: gs.Node, name: str, graph: gs.Graph, given: Sequence[np.dtype[np.generic]], told: int
    ) -> BodyOf:
        """Write a graph inside a node; `given` and `told` as for `run`."""
        inner = Writer(self.shared, graph, nn.Module(), self)
        inner.run(given, told)
        module = fx.GraphModule(inner.root, inner.written, class_name=f"{node.op}_{name}")
        captured = [self.numbers(v) if on_host else self.tensor(v) for v, on_host in inner.captured]
        kinds = [inner.dtype(inner.values[tensor.name]) for tensor in graph.outputs]
        sizes = [self.shared.info.shape(tensor.name) for tensor in graph.outputs]
        known = [None if s is None else tuple(d if isinstance(d, int) else None for d in s) for s in sizes]
        return BodyOf(module, tuple(captured), tuple(zip(kinds, known, strict=True)))

    def branch(self, graph: gs.Graph) -> list[Value]:
        """Write the nodes of a graph inside a node right here, its names hidden from what follows."""
        around = dict(self.values)
        own = [*graph.initializers.values(), *(tensor for node in graph.nodes for tensor in node.outputs)]
        for tensor in own:
            self.values.pop(tensor.name, None)
        self.nodes(graph.nodes)
        found = [replace(value) for value in self._results(graph)]
        self.values = around
        return found

    # Inputs, weights, constants.

    def _input(self, name: str) -> fx.Node:
        """Write a placeholder behind those there are, before everything else."""
        stem = re.sub(r"\W", "_", name)
        stem = stem if stem and not stem[0].isdigit() else f"input_{stem}"
        first = next((node for node in self.written.nodes if node.op != "placeholder"), None)
        if first is None:
            return self.written.placeholder(stem)
        with self.written.inserting_before(first):
            return self.written.placeholder(stem)

    def _capture(self, outer: Value) -> Value:
        if outer.array is not None:
            return Value(outer.name, array=outer.array)
        on_host = outer.numbers is not None and outer.rank is not None
        if on_host and not isinstance(outer.numbers, fx.Node):
            return replace(outer, node=None)
        node = self._input(outer.name)
        self.captured.append((outer, on_host))
        if on_host:
            return replace(outer, node=None, numbers=node)
        if outer.node is not None:
            node.meta.update((k, v) for k, v in outer.node.meta.items() if k in ("sizes", "statistic"))
        return Value(outer.name, node)

    def _weight(self, name: str, place: str) -> Value:
        if self.parent is not None:
            return self._capture(self.parent._weight(name, place))
        if place not in self._weights:
            node = self.written.create_node("get_attr", place)
            stored = getattr(self.root.get_submodule(place.rpartition(".")[0]), place.rpartition(".")[2])
            node.meta["sizes"] = tuple(stored.shape)
            node.meta["statistic"] = not isinstance(stored, nn.Parameter)
            self._weights[place] = node
        return Value(name, self._weights[place])

    def _constant(self, array: Array) -> fx.Node:
        if id(array) not in self._constants:
            place = f"{CONSTANTS}.{len(self._constants)}"
            put(self.root, place, tensor_of(array), keep=False)
            self._constants[id(array)] = self.written.create_node("get_attr", place)
            self._kept.append(array)
        return self._constants[id(array)]


def _drop_left_out(inputs: list[Any]) -> None:
    """Drop optional inputs left out at the end, so that the form's defaults hold."""
    while inputs and inputs[-1] is None:
        inputs.pop()


def _getitem(values: Sequence[object], index: int) -> object:
    """Return one of a form's outputs; a form may leave out those that come last."""
    return values[index]
