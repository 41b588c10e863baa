"""Model-local functions written out where they are called, so that passes see plain operators.

Works on the graph objects, not on a proto: weights stay where they are, however large. Functions that onnx's own
schemas define are not touched.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType

import onnx
import onnx_graphsurgeon as gs
from onnx import AttributeProto, FunctionProto, NodeProto, ValueInfoProto

from graphrewrite.custom_ops import DOMAIN
from graphrewrite.ir import garbage
from graphrewrite.ir.check import check_functions, nodes_of
from graphrewrite.ir.clone import clone_attribute
from graphrewrite.ir.codec import attribute_value, describe, nodes_from_proto
from graphrewrite.ir.domains import domain_name
from graphrewrite.ir.edit import Namer, all_graphs, captured, detach, subgraphs_of
from graphrewrite.ir.model import Model

_Key = tuple[str, str, str]


@garbage.paused()
def inlined(model: Model, keep: Collection[str] = (DOMAIN,)) -> Model:
    """Return a copy in which every call of a model-local function is replaced by the function's nodes.

    Functions of the domains `keep` stay calls: a node of ours that was written out would never be fast again.

    New nodes and tensors are named after the call: `block1/relu`. Functions call each other to any depth; calls in
    the bodies of If, Loop and Scan count. A function that needs another version of an operator set, where that makes
    a difference to one of its operators, stays a function. Without a call to replace, `model` itself is returned.

    Raises:
        InvalidModel: a function calls itself, is defined twice, or returns what it does not make.
    """
    called = {_callee(node) for graph in all_graphs(model.graph) for node in graph.nodes}
    if not any(_key(function) in called for function in model.functions):
        return model
    check_functions(model.functions)
    opsets = dict(model.opsets)
    local = {_key(function) for function in model.functions}
    fitting = {_key(f): f for f in model.functions if f.domain not in keep and _fits(f, opsets, local)}
    if not any(key in called for key in fitting):
        return model
    copy = model.clone()
    copy.opsets.update(opsets)
    Expansion(copy, fitting).run()
    _drop_unused_functions(copy, opsets.keys() - model.opsets.keys())
    return copy


class Expansion:
    """One run over a model: what all calls share.

    `body` alone hooks a function's nodes to the tensors of a call that stays where it is: those then name both as their
    producers and readers, so the model must be a copy that is thrown away.
    """

    def __init__(self, model: Model, functions: Mapping[_Key, FunctionProto] = MappingProxyType({})) -> None:
        self.model = model
        self.functions = functions
        self.namer = Namer(model.graph)
        self.node_namer = Namer(model.graph, nodes=True)
        self.symbols = {
            size for tensor in model.inputs for size in tensor.shape or () if isinstance(size, str) and size
        }

    def run(self) -> None:
        """Replace every call, in bodies too."""
        waiting = [self.model.graph]
        while waiting:
            graph = waiting.pop()
            stack = graph.nodes[::-1]
            kept: list[gs.Node] = []
            calls: list[gs.Node] = []
            while stack:
                node = stack.pop()
                function = self.functions.get(_callee(node))
                if function is None:
                    kept.append(node)
                    waiting.extend(subgraphs_of(node))
                else:
                    calls.append(node)
                    stack.extend(reversed(self.body(node, function)))
            graph.nodes = kept
            detach(calls)

    def body(self, call: gs.Node, function: FunctionProto) -> list[gs.Node]:
        """Return the nodes that do what one call does, hooked to the call's tensors."""
        prefix = call.name or self.namer.fresh(function.name)
        tensors: dict[str, gs.Tensor] = {}
        for index, name in enumerate(function.input):
            tensors[name] = call.inputs[index] if index < len(call.inputs) else gs.Variable.empty()
        passed_on: list[tuple[str, gs.Tensor]] = []
        for name, tensor in zip(function.output, call.outputs, strict=False):
            if tensor.name == "":
                continue
            if name in tensors:  # the function returns an input, or one result twice
                passed_on.append((name, tensor))
            else:
                tensors[name] = tensor
        outside = set(tensors)
        nodes = nodes_from_proto(function.node, tensors)
        for name, tensor in tensors.items():
            if name not in outside:
                tensor.name = self.namer.fresh(f"{prefix}/{name}")
        for info in function.value_info:
            if info.name in tensors and getattr(tensors[info.name], "info", None) is None:
                describe(tensors[info.name], self.local_info(info, tensors[info.name].name))
        nodes.extend(
            gs.Node("Identity", f"return_{name}", {}, [tensors[name]], [made]) for name, made in passed_on
        )
        self.settle(nodes, call, function, prefix)
        return nodes

    def settle(self, nodes: Sequence[gs.Node], call: gs.Node, function: FunctionProto, prefix: str) -> None:
        """Give nodes, and what is in their bodies, names of their own and the attributes of the call."""
        defaults = {attribute.name: attribute for attribute in function.attribute_proto}
        bodies = [graph for node in nodes for body in subgraphs_of(node) for graph in all_graphs(body)]
        for graph in bodies:
            inner = [*graph.inputs, *(tensor for node in graph.nodes for tensor in node.outputs)]
            constants = list(graph.initializers.values())
            for tensor in {id(t): t for t in (*inner, *constants) if t.name}.values():
                tensor.name = self.namer.fresh(f"{prefix}/{tensor.name}")
            graph.initializers = {constant.name: constant for constant in constants}
            for field in ("value_info", "output"):  # said of names as they are inside the function
                graph.shell.ClearField(field)
        for node in [*nodes, *(node for graph in bodies for node in graph.nodes)]:
            node.name = self.node_namer.fresh(f"{prefix}/{node.name or node.op}")
            for name, value in list(node.attrs.items()):
                if isinstance(value, AttributeProto) and value.ref_attr_name:
                    del node.attrs[name]
                    self.fill(node, name, value, call, defaults.get(value.ref_attr_name))

    def fill(
        self, node: gs.Node, name: str, wanted: AttributeProto, call: gs.Node, default: AttributeProto | None
    ) -> None:
        """Set an attribute that refers to one of the call; one given by neither call nor default stays away."""
        if wanted.ref_attr_name in call.attrs:
            # What a graph captures stays what it is at the place of the call.
            around = {id(tensor): tensor for tensor in captured(call)}
            value = clone_attribute(call.attrs[wanted.ref_attr_name], around)
        elif default is not None:
            value = attribute_value(default, {})
        else:
            return
        node.attrs[name] = value
        if isinstance(value, list) and not value:
            shell = NodeProto()
            if node.shell is not None:
                shell.CopyFrom(node.shell)
            shell.attribute.add(name=name, type=wanted.type)
            node.shell = shell

    def local_info(self, info: ValueInfoProto, name: str) -> ValueInfoProto:
        """Copy a declaration out of a function; symbols that the model's inputs do not have mean nothing outside."""
        copy = ValueInfoProto()
        copy.CopyFrom(info)
        copy.name = name
        for dim in copy.type.tensor_type.shape.dim if copy.type.HasField("tensor_type") else ():
            if dim.HasField("dim_param") and dim.dim_param not in self.symbols:
                dim.ClearField("dim_param")
        return copy


def _key(function: FunctionProto) -> _Key:
    return domain_name(function.domain), function.name, function.overload


def _callee(node: gs.Node) -> _Key:
    shell = getattr(node, "shell", None)
    return domain_name(node.domain), node.op, shell.overload if shell is not None else ""


def _fits(function: FunctionProto, opsets: dict[str, int], local: set[_Key]) -> bool:
    """Tell whether a function means the same under the model's operator sets, adding those the model lacks."""
    own = {domain_name(entry.domain): entry.version for entry in function.opset_import}
    for node in nodes_of(function):
        domain = domain_name(node.domain)
        if (domain, node.op_type, node.overload) in local:
            continue
        theirs = opsets.get(domain, own.get(domain))
        if theirs != own.get(domain) and not _same_op(node.op_type, domain, own.get(domain), theirs):
            return False
    for domain, version in own.items():
        opsets.setdefault(domain, version)
    return True


def _same_op(op: str, domain: str, one: int | None, two: int | None) -> bool:
    if one is None or two is None or not onnx.defs.has(op, domain):
        return False
    try:
        schemas = [onnx.defs.get_schema(op, version, domain) for version in (one, two)]
    except onnx.defs.SchemaError:
        return False
    return bool(schemas[0].since_version == schemas[1].since_version)


def _drop_unused_functions(model: Model, added: set[str]) -> None:
    """Keep functions that are still called, and of the domains that came with functions those still in use."""
    before = {_key(function) for function in model.functions}
    by_key = {_key(function): function for function in model.functions}
    nodes = [node for graph in all_graphs(model.graph) for node in graph.nodes]
    waiting = {_callee(node) for node in nodes} & before
    kept: set[_Key] = set()
    while waiting:
        key = waiting.pop()
        kept.add(key)
        inner = {(domain_name(n.domain), n.op_type, n.overload) for n in nodes_of(by_key[key])}
        waiting |= (inner & before) - kept
    model.functions = [function for function in model.functions if _key(function) in kept]
    used = {domain_name(node.domain) for node in nodes} | _domains(model.functions)
    for domain in (added | {domain for domain, _, _ in before - kept}) - used:
        model.opsets.pop(domain, None)


def _domains(functions: Iterable[FunctionProto]) -> set[str]:
    return {domain_name(function.domain) for function in functions} | {
        domain_name(entry.domain) for function in functions for entry in function.opset_import
    }
