"""Is this a model one can work on? Structure first, in our own words, then the rules of the installed onnx package.

Linear, and without ever making a proto of the weights: onnx's checker sees every node, attribute and declaration, but
large tensors only by name and type. (Their lengths were compared with their shapes when the model was loaded.)
"""

from collections.abc import Iterator, Mapping

import onnx
import onnx_graphsurgeon as gs
from onnx import AttributeProto, GraphProto, NodeProto, TensorProto

from graphrewrite.errors import InvalidModel
from graphrewrite.ir.clone import clone_graph
from graphrewrite.ir.codec import FREE_INITIALIZERS, graph_to_proto
from graphrewrite.ir.domains import domain_name
from graphrewrite.ir.edit import all_graphs, sort_nodes, subgraphs_of
from graphrewrite.ir.model import Model
from graphrewrite.ir.values import is_sparse, proto_from_constant, stored_type, tensor_bytes

# Larger tensors are shown to onnx's checker empty. Small ones may matter to it (a sparse layout, a text).
_SHOWN = 1024
# Operators that onnxruntime's fusions put into the default domain of any operator set, and the first set that has them.
EARLY = {"LayerNormalization": 17}
# Stands in for the domain of operators that no release of onnx knows: the checker lets unknown domains pass.
_ELSEWHERE = "graphrewrite.unknown"
# Where the rows of onnx's table of releases (release, IR version, ...) hold the operator-set version of a domain.
_COLUMNS = {"": 2, "ai.onnx.ml": 3}


def check(model: Model) -> None:
    """Return when the model is sound.

    Operators of domains that onnx does not know pass, and so do operators of the default domain that no release of
    onnx ever had (fused operators of runtimes live there), or that runtimes had before it. A graph without nodes is
    sound when its outputs are inputs or initializers. Inputs without a rank and outputs without a type are sound.

    Raises:
        InvalidModel: with one line that names the first thing found wrong.
    """
    _check_versions(model)
    check_functions(model.functions)
    if not model.graph.outputs:
        raise InvalidModel("the model's graph has no outputs; expected at least one; export it again")
    for tensor in model.graph.inputs:
        _check_type(tensor, is_input=True)
    for tensor in model.graph.outputs:
        _check_type(tensor, is_input=False)
    _check_names(model.graph, (), "the graph")
    try:
        onnx.checker.check_model(_skeleton(model).SerializeToString())
    except (onnx.checker.ValidationError, ValueError, RuntimeError) as error:
        text = " ".join(str(error).replace("==> Context:", "--").split()).rstrip(".")
        raise InvalidModel(
            f"the model breaks the rules of ONNX: {text}; expected a model that onnx.checker accepts; export it again"
        ) from error


def _check_versions(model: Model) -> None:
    if not 1 <= model.ir_version <= onnx.IR_VERSION:
        raise InvalidModel(
            f"the model has IR version {model.ir_version}; onnx {onnx.__version__} reads 1 to {onnx.IR_VERSION}; "
            "update the onnx package, or export the model for an older release"
        )
    newest = {
        domain: max(int(row[place]) for row in onnx.helper.VERSION_TABLE)
        for domain, place in _COLUMNS.items()
    }
    for domain, version in model.opsets.items():
        limit = newest.get(domain)
        if limit is not None and not 1 <= version <= limit:
            raise InvalidModel(
                f"the model uses version {version} of the operator set {domain or 'ai.onnx'}; onnx {onnx.__version__} "
                f"knows 1 to {limit}; update the onnx package, or export the model for an older operator set"
            )


def _check_type(tensor: gs.Tensor, is_input: bool) -> None:
    """Refuse an input without a type, and an output with half of one: runtimes infer only what is left out whole."""
    if isinstance(tensor, gs.Constant) or tensor.dtype is not None or tensor.type != "tensor_type":
        return
    info = getattr(tensor, "info", None)
    if is_input or (info is not None and info.HasField("type")):
        raise InvalidModel(
            f"the graph {'input' if is_input else 'output'} {tensor.name!r} has no element type; "
            "expected one such as float32; export the model again"
        )


def check_functions(functions: list[onnx.FunctionProto]) -> None:
    """Refuse functions that are defined twice, call themselves, or return what they do not make.

    Raises:
        InvalidModel: with the name of the function.
    """
    seen: set[tuple[str, str, str]] = set()
    for function in functions:
        key = (function.domain, function.name, function.overload)
        if key in seen:
            raise InvalidModel(
                f"the function {signature(key)} is defined twice; expected one definition; export it again"
            )
        made = {name for node in function.node for name in node.output} | set(function.input)
        missing = [name for name in function.output if name not in made]
        if missing:
            raise InvalidModel(
                f"the function {signature(key)} returns {missing[0]!r}, which nothing in it makes; "
                "expected an output of one of its nodes; export the model again"
            )
        seen.add(key)
    check_recursion(functions)


def check_recursion(functions: list[onnx.FunctionProto]) -> None:
    """Refuse functions that call themselves, directly or through others.

    Raises:
        InvalidModel: with the name of the function.
    """
    calls = {
        (function.domain, function.name, function.overload): {
            (node.domain, node.op_type, node.overload) for node in nodes_of(function)
        }
        for function in functions
    }
    state: dict[tuple[str, str, str], str] = {}
    stack = list(calls)
    while stack:
        key = stack[-1]
        if key in state:
            stack.pop()
            state[key] = "done"
            continue
        state[key] = "open"
        inner = [other for other in calls[key] if other in calls]
        for other in inner:
            if state.get(other) == "open":
                raise InvalidModel(
                    f"the function {signature(other)} calls itself (through {signature(key)}); "
                    "ONNX functions must not be recursive; export the model again"
                )
        stack.extend(other for other in inner if other not in state)


def signature(key: tuple[str, str, str]) -> str:
    """Write a function's (domain, name, overload) as one word."""
    return f"{key[0]}::{key[1]}" + (f":{key[2]}" if key[2] else "")


def _check_names(graph: gs.Graph, outer: tuple[Mapping[str, object], ...], where: str) -> None:
    """Check that every name is made once, and before it is read; `outer` says what the graphs around have made."""
    makers: dict[str, gs.Node | str] = {}
    for tensor in graph.inputs:
        _make(makers, tensor.name, f"the input {tensor.name!r}", where)
    for name, constant in graph.initializers.items():
        if name != constant.name:
            raise InvalidModel(
                f"the initializer filed as {name!r} is named {constant.name!r}; expected one name; "
                "file it anew under its name"
            )
        makers.setdefault(name, "an initializer")
    visible = (makers, *outer)
    for node in graph.nodes:
        for tensor in node.inputs:
            name = tensor.name
            if name and name not in makers and not any(name in scope for scope in outer):
                raise _unmade(graph, node, tensor, where)
        for body in subgraphs_of(node):
            _check_names(body, visible, f"a body of {_label(node)}")
        for tensor in node.outputs:
            if tensor.name:
                _make(makers, tensor.name, node, where)
    for tensor in graph.outputs:
        if tensor.name not in makers:
            raise InvalidModel(
                f"nothing in {where} makes its output {tensor.name!r}; expected an output of a node, an input or an "
                "initializer of the same graph; export the model again"
            )


def _make(makers: dict[str, gs.Node | str], name: str, maker: gs.Node | str, where: str) -> None:
    if name in makers:
        raise InvalidModel(
            f"the tensor {name!r} of {where} is made twice, by {_label(makers[name])} and by {_label(maker)}; "
            "expected every name to be made once; export the model again"
        )
    makers[name] = maker


def _unmade(graph: gs.Graph, node: gs.Node, tensor: gs.Tensor, where: str) -> InvalidModel:
    """Say why a name is not there when it is read."""
    if isinstance(tensor, gs.Constant):
        return InvalidModel(
            f"{_label(node)} reads the constant {tensor.name!r}, which is not among the initializers of {where}; "
            "expected it there; file it with add_constant"
        )
    if not len(tensor.inputs):
        return InvalidModel(
            f"{_label(node)} reads {tensor.name!r}, which nothing makes; "
            "expected an input, an initializer or an output of an earlier node; export the model again"
        )
    try:
        sort_nodes(clone_graph(graph))
    except InvalidModel as cycle:
        return cycle
    return InvalidModel(
        f"{_label(node)} reads {tensor.name!r} before the node that makes it; "
        "expected nodes in the order of their dependencies; sort them with sort_nodes, or export the model again"
    )


def _label(node: gs.Node | str) -> str:
    if isinstance(node, str):
        return node
    return f"the node {node.name!r}" if node.name else f"an unnamed {node.op} node"


def _skeleton(model: Model) -> onnx.ModelProto:
    """Write the model for onnx's checker: everything but the numbers of large tensors and inner declarations."""
    # The checker wants every initializer of older files listed as an input, which `Model` sees to when it writes them.
    proto = onnx.ModelProto(ir_version=max(model.ir_version, FREE_INITIALIZERS))
    for domain, version in model.opsets.items():
        proto.opset_import.add(domain=domain, version=version)
    proto.functions.extend(model.functions)
    graph_to_proto(model.graph, _without_numbers, proto.graph, inner=False)
    _complete(proto.graph)
    unknown = {op for op in _standard_ops(model) if not onnx.defs.has(op)}
    unknown |= {op for op, since in EARLY.items() if model.opset < since} & _standard_ops(model)
    if unknown:
        proto.opset_import.add(domain=_ELSEWHERE, version=1)
        for function in proto.functions:
            function.opset_import.add(domain=_ELSEWHERE, version=1)
        for holder in (proto.graph, *proto.functions):
            for node in nodes_of(holder):
                if not domain_name(node.domain) and node.op_type in unknown:
                    node.domain = _ELSEWHERE
    return proto


def _standard_ops(model: Model) -> set[str]:
    """Return the operator types used out of the default domain."""
    ops = {
        node.op for graph in all_graphs(model.graph) for node in graph.nodes if not domain_name(node.domain)
    }
    return ops | {
        n.op_type for function in model.functions for n in nodes_of(function) if not domain_name(n.domain)
    }


def _without_numbers(constant: gs.Constant) -> TensorProto | onnx.SparseTensorProto:
    if is_sparse(constant):
        return proto_from_constant(constant)
    number = stored_type(constant)
    if number != TensorProto.STRING and tensor_bytes(number, tuple(constant.shape)) <= _SHOWN:
        return proto_from_constant(constant)
    return TensorProto(name=constant.name, data_type=number, dims=[0])


def _complete(graph: GraphProto) -> None:
    """Declare what the checker asks for and runtimes do without: the rank of an input, the type of an output."""
    for info in (*graph.input, *graph.output):
        if info.type.WhichOneof("value") in (None, "tensor_type"):
            tensor = info.type.tensor_type
            tensor.elem_type = tensor.elem_type or TensorProto.FLOAT
            tensor.shape.SetInParent()


def nodes_of(holder: GraphProto | onnx.FunctionProto) -> Iterator[NodeProto]:
    """Yield the nodes of a graph or function and those of their bodies."""
    stack = [holder]
    while stack:
        for node in stack.pop().node:
            yield node
            for attribute in node.attribute:
                if attribute.type == AttributeProto.GRAPH:
                    stack.append(attribute.g)
                elif attribute.type == AttributeProto.GRAPHS:
                    stack.extend(attribute.graphs)
