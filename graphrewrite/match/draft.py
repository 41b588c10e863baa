"""An editing session over one graph: every change is local, cheap and remembered, the node list is rebuilt once.

While a draft is open nodes are only marked dead and new nodes wait beside the node they were made for; `close` puts
everything in place. So a rewrite costs what it touches, also where one tensor feeds thousands of nodes.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.ir import Array, Model, Namer
from graphrewrite.ir.edit import add_constant, all_graphs, captured, drop_unused, sort_nodes, subgraphs_of
from graphrewrite.ir.symbols import Dim
from graphrewrite.match.view import View


class Draft(View):
    """A model's main graph under revision; the graph is consistent again only after `close`.

    Attributes:
        anchor: the node at whose place new nodes are put; the rule engine sets it.
        changed: tensors that got another producer or meaning since the rule engine last looked.
        moved: nodes that read another tensor than before.
        freed: tensors that lost a reader.
        fresh: nodes that were made.
        edits: how many changes were made.
        adopted: how many nodes came out of bodies.
    """

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        self.anchor: gs.Node | None = None
        self.changed: list[gs.Tensor] = []
        self.moved: list[gs.Node] = []
        self.freed: list[gs.Tensor] = []
        self.fresh: list[gs.Node] = []
        self.edits = 0
        self.adopted = 0
        self._namer = Namer(model.graph)
        # Tensors that lost a reading, kept alive so that their ids stay theirs.
        self._lost: list[gs.Tensor] = []
        self._fresh_ids: set[int] = set()
        self._made: list[gs.Node] = []

    def op(
        self,
        op_type: str,
        *inputs: gs.Tensor | None,
        like: gs.Tensor | None = None,
        shape: Sequence[Dim] | None = None,
        outputs: int = 1,
        domain: str | None = None,
        attrs: Mapping[str, object] | None = None,
        **more: object,
    ) -> gs.Variable:
        """Make a node beside the anchor and return its first output; None stands for an input left out.

        `like` is a tensor of the same element type, and of the same shape unless `shape` is given. Attributes come
        as a mapping, by name, or both.
        """
        assert self.anchor is not None
        stem = self.anchor.outputs[0].name if len(self.anchor.outputs) else self.anchor.name
        sources = [gs.Variable.empty() if tensor is None else tensor for tensor in inputs]
        while sources and sources[-1].is_empty():
            sources.pop()
        made = [gs.Variable(self._namer.fresh(f"{stem}_{op_type.lower()}")) for _ in range(outputs)]
        node = gs.Node(op_type, self.anchor.name, {**(attrs or {}), **more}, sources, made, domain)
        self._place(node)
        if like is not None:
            self.describe(made[0], self.shape(like) if shape is None else tuple(shape), self.dtype(like))
        else:
            self.describe(made[0], None if shape is None else tuple(shape), None)
        return made[0]

    def _place(self, node: gs.Node) -> None:
        self._beside.setdefault(id(self.anchor), []).append(node)
        self._own.add(id(node))
        self._fresh_ids.add(id(node))
        self._made.append(node)
        self.fresh.append(node)
        self.edits += 1

    def describe(
        self, tensor: gs.Tensor, shape: tuple[Dim, ...] | None, dtype: np.dtype[np.generic] | None
    ) -> None:
        """File what is known of a new tensor."""
        self._described[tensor.name] = (shape, dtype)

    def add_constant(
        self, values: Array, stem: str, origin: tuple[gs.Tensor, str] | None = None
    ) -> gs.Constant:
        """File a new initializer; `origin` is the tensor it replaces and how, for those who follow weights by name."""
        constant = add_constant(self.graph, self._namer.fresh(stem), values)
        if self.model.ir_version < 4:
            self.graph.inputs.append(constant)
        if origin is not None:
            old, how = origin
            self.model.origin[constant.name] = (old.name, how)
        return constant

    def make_constant(self, tensor: gs.Tensor, values: "Array | gs.Constant") -> bool:
        """Turn a computed tensor into an initializer of the same name; what computed it dies if nothing else needs it.

        An output of the graph must be written by a node, so it becomes the output of a `Constant` node.
        """
        if self.is_output(tensor):
            maker = self.producer(tensor)
            if maker is None or maker.op == "Constant":
                return False
            self.anchor = maker
            stored = values if isinstance(values, gs.Constant) else gs.Constant("", _frozen(values))
            return self.replace(tensor, self.op("Constant", like=tensor, value=stored))
        if isinstance(values, gs.Constant):  # keep the form the numbers are stored in
            constant = gs.Constant(tensor.name, values._values)
        else:
            constant = gs.Constant(tensor.name, _frozen(values))
        self.graph.initializers[tensor.name] = constant
        if self.model.ir_version < 4:
            self.graph.inputs.append(constant)
        self._reroute(tensor, constant)
        # The node may go on writing a tensor nothing reads (one of several outputs); its name is taken now.
        tensor.name = self._namer.fresh(tensor.name)
        self._bury(tensor)
        self.edits += 1
        return True

    def set_input(self, node: gs.Node, index: int, tensor: gs.Tensor | None) -> None:
        """Make `tensor` the `index`-th input of a node (None leaves it out); what nothing reads any more dies."""
        old = node.inputs[index]
        new = gs.Variable.empty() if tensor is None else tensor
        if old is new:
            return
        list.__setitem__(node.inputs, index, new)
        list.append(new.outputs, node)
        self._unread(old)
        self._touch(node)
        self._bury(old)

    def append_input(self, node: gs.Node, tensor: gs.Tensor) -> None:
        """Add an input behind the present ones."""
        node.inputs.append(tensor)
        self._touch(node)

    def drop_inputs(self, node: gs.Node, start: int) -> None:
        """Take away the inputs from position `start` on."""
        dropped = list(node.inputs)[start:]
        list.__delitem__(node.inputs, slice(start, None))
        self._touch(node)
        for old in dropped:
            self._unread(old)
            self._bury(old)

    def set_attribute(self, node: gs.Node, name: str, value: object) -> None:
        """Change an attribute; None takes it away."""
        if value is None:
            node.attrs.pop(name, None)
        else:
            node.attrs[name] = value
        self._touch(node)

    def can_replace(self, old: gs.Tensor, new: gs.Tensor) -> bool:
        """Tell whether `replace` could put an existing tensor in the place of another.

        An output keeps its name, so its place can only be taken by what a node of this graph writes and no other
        output claims.
        """
        if old is new:
            return False
        if not self.is_output(old):
            return True
        maker = self.producer(new)
        return maker is not None and not self.is_output(new) and id(maker) in self._own

    def replace(self, old: gs.Tensor, new: gs.Tensor, keep_name: bool = False) -> bool:
        """Let everything that reads `old` read `new`; False (and nothing done) when `can_replace` says so.

        The name of `old` stays where possible, because it is known to readers, reports and outputs: a node that was
        just made, or any node with `keep_name`, then writes `old` itself.
        """
        if not self.can_replace(old, new):
            return False
        maker = self.producer(new)
        if maker is not None and (keep_name or self.is_output(old) or id(maker) in self._fresh_ids):
            self._swap(old, new, maker)
            self._reroute(new, old)
            self._bury(new)
        else:
            self._reroute(old, new)
            self._bury(old)
        self.edits += 1
        return True

    def rename(self, tensor: gs.Tensor) -> None:
        """Give a tensor inside the graph a fresh name, because its numbers no longer are what the old name meant."""
        shape, dtype = self.shape(tensor), self.dtype(tensor)
        tensor.name = self._namer.fresh(tensor.name)
        self.describe(tensor, shape, dtype)

    def _swap(self, old: gs.Tensor, new: gs.Tensor, maker: gs.Node) -> None:
        """Let `maker` write `old`, and what wrote `old` write `new`."""
        former = self.producer(old)
        list.__setitem__(maker.outputs, _place_of(maker, new), old)
        list.clear(new.inputs)
        if former is not None:
            list.__setitem__(former.outputs, _place_of(former, old), new)
            list.append(new.inputs, former)
        list.clear(old.inputs)
        list.append(old.inputs, maker)
        self.changed.append(old)
        assert not any(tensor is old for tensor in maker.inputs), (
            "a node cannot take the place of its own input"
        )

    def _reroute(self, old: gs.Tensor, new: gs.Tensor) -> None:
        users = self.users(old)
        for node in users:
            for index, tensor in enumerate(node.inputs):
                if tensor is old:
                    list.__setitem__(node.inputs, index, new)
        list.extend(new.outputs, users)
        list.clear(old.outputs)
        self.moved.extend(users)

    def _touch(self, node: gs.Node) -> None:
        self.edits += 1
        self.changed.extend(tensor for tensor in node.outputs if not tensor.is_empty())

    def _unread(self, tensor: gs.Tensor) -> None:
        """Count one reading less. The list of readers is put right when it is next asked for, in one go for all."""
        if not tensor.is_empty():
            self._gone[id(tensor)] = self._gone.get(id(tensor), 0) + 1
            self._lost.append(tensor)
            self.freed.append(tensor)

    def _bury(self, tensor: gs.Tensor) -> None:
        """Mark the node that writes `tensor` dead if nothing reads any of its outputs, and so on backwards."""
        stack = [tensor]
        while stack:
            maker = self.producer(stack.pop())
            if maker is None or id(maker) in self._dead or id(maker) not in self._own:
                continue
            if any(self.use_count(out) for out in maker.outputs if not out.is_empty()):
                continue
            self._dead[id(maker)] = maker
            self.edits += 1
            released = list(maker.inputs)
            for body in subgraphs_of(maker):
                for nested in all_graphs(body):
                    for inner in nested.nodes:
                        self._dead[id(inner)] = inner
                        released.extend(inner.inputs)
            for source in released:
                self._unread(source)
            stack.extend(released)

    # --------------------------------------------------------------------------------------------------- closing

    def bury_unused(self) -> list[str]:
        """Mark every node dead that no output depends on; return their names."""
        before = len(self._dead)
        for node in list(self.nodes()):
            for tensor in node.outputs:
                if self.use_count(tensor) == 0:
                    self._bury(tensor)
                    break
        return [node.name or node.op for node in list(self._dead.values())[before:]]

    def close(self) -> tuple[list[str], list[str]]:
        """Put the graph in order; return the names of dead nodes and initializers that were dropped on the way."""
        living = list(self.nodes())
        for tensor in self._lost:
            if self._gone.pop(id(tensor), 0):
                self._sweep(tensor)
        for node in self._dead.values():
            for tensor in node.outputs:
                if tensor.inputs and tensor.inputs[0] is node:
                    list.clear(tensor.inputs)
        for node in self._dead.values():
            list.clear(node.inputs)
            list.clear(node.outputs)
        self._name_nodes(living)
        self.graph.nodes = living
        self._dead, self._beside, self._lost = {}, {}, []
        self._fresh_ids.clear()
        if not _is_ordered(living):
            sort_nodes(self.graph)
        return drop_unused(self.graph)

    def _name_nodes(self, living: list[gs.Node]) -> None:
        """Give new nodes names of their own; the last of those that took a node's place gets its name."""
        made = {id(node) for node in self._made}
        used = {node.name for node in living if id(node) not in made}
        for node in reversed(living):
            if id(node) not in made:
                continue
            if node.name in used:
                out = node.outputs[0].name
                node.name = out if out not in used else self._namer.fresh(f"{out}.node")
            used.add(node.name)
        self._made = []

    def adopt(self, node: gs.Node, name: str) -> None:
        """Move the nodes and initializers of a body, the attribute `name` of a node, to the node's own place.

        The tensors of the body get fresh names; the node has lost the attribute and must be replaced next.
        """
        body: gs.Graph = node.attrs.pop(name)
        self.adopted += len(body.nodes)
        for tensor in body.outputs:
            self._held[id(tensor)] -= 1
        for constant in body.initializers.values():
            constant.name = self._namer.fresh(constant.name)
            self.graph.initializers[constant.name] = constant
        for inner in body.nodes:
            for tensor in inner.outputs:
                if not tensor.is_empty():
                    tensor.name = self._namer.fresh(tensor.name)
                    self.describe(tensor, None, None)
            self._place(inner)

    def settle(self) -> None:
        """Forget which nodes are new: from now on they are nodes like others (the rule engine calls it)."""
        self._fresh_ids.clear()


def _frozen(values: Array) -> Array:
    # ascontiguousarray alone would give a scalar an axis.
    array = np.ascontiguousarray(values).reshape(np.shape(values)).view()
    array.flags.writeable = False
    return array


def _place_of(node: gs.Node, tensor: gs.Tensor) -> int:
    return next(index for index, out in enumerate(node.outputs) if out is tensor)


def _is_ordered(nodes: list[gs.Node]) -> bool:
    position = {id(node): index for index, node in enumerate(nodes)}
    for index, node in enumerate(nodes):
        for tensor in (*node.inputs, *captured(node)):
            for maker in tensor.inputs:
                if position.get(id(maker), -1) > index:
                    return False
    return True
