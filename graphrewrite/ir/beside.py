"""Several models as one, side by side on the same inputs, or one model on two sets of them."""

from collections.abc import Mapping

import onnx
import onnx_graphsurgeon as gs

from graphrewrite.errors import InvalidModel
from graphrewrite.ir import garbage
from graphrewrite.ir.bodies import own_tensors, without_declarations
from graphrewrite.ir.edit import all_graphs, redirect, remove_nodes
from graphrewrite.ir.model import Model


@garbage.paused()
def beside(parts: Mapping[str, Model]) -> Model:
    """Return one model that runs all parts on the same inputs and gives the outputs of all, in order.

    Keys are prefixes: the tensor, weight or node `w` of the part at "a/" becomes "a/w"; at "" it stays `w`. Inputs keep
    their names, and what several parts call the same is one input. The parts stay as they are; numbers are shared.

    Raises:
        InvalidModel: parts need different operator sets or functions, declare an input differently, hand an input on as
            an output, or a prefix leads to a name that is there already.
    """
    if not parts:
        raise InvalidModel("there are no models to put side by side; expected one part or more; give some")
    whole = Model(gs.Graph(nodes=[], inputs=[], outputs=[], name="beside"), {})
    whole.graph.initializers = {}
    whole.graph.shell = onnx.GraphProto()
    whole.ir_version = max(
        4, *(model.ir_version for model in parts.values())
    )  # weights are no inputs since 4
    inputs: dict[str, gs.Variable] = {}
    taken: set[str] = set()
    for prefix, model in parts.items():
        _agree(whole, model, prefix)
        copy = model.clone()
        _rename(copy, prefix, taken)
        for tensor in copy.inputs:
            redirect(copy.graph, tensor, _joined(inputs, tensor, prefix))
        whole.graph.nodes.extend(copy.graph.nodes)
        whole.graph.outputs.extend(copy.graph.outputs)
        whole.graph.initializers.update(copy.graph.initializers)
    whole.graph.inputs = list(inputs.values())
    whole.graph.opset = whole.opset
    return whole


@garbage.paused()
def twice(model: Model, prefix: str) -> Model:
    """Return one model that runs the same weights on two sets of inputs: two views of each sample.

    The second set, and all that is computed from it, has the prefix before its names. Weights are there once, under
    their own names.

    Raises:
        InvalidModel: as `beside`.
    """
    view = model.clone()
    for tensor in view.inputs:
        tensor.name = f"{prefix}{tensor.name}"
    whole = beside({"": model, prefix: view})
    made = whole.nodes("Constant")
    first, again = made[: len(made) // 2], made[len(made) // 2 :]
    for one, other in zip(first, again, strict=True):
        redirect(whole.graph, other.outputs[0], one.outputs[0])
    remove_nodes(whole.graph, again)
    known = whole.graph.initializers
    for name in model.graph.initializers:
        redirect(whole.graph, known.pop(f"{prefix}{name}"), known[name])
    return whole


def _agree(whole: Model, part: Model, prefix: str) -> None:
    """Take up a part's operator sets and functions."""
    for domain, version in part.opsets.items():
        if whole.opsets.setdefault(domain, version) != version:
            raise InvalidModel(
                f"the part at {prefix!r} uses operator set {version} of the domain {domain or 'ai.onnx'!r}, a part "
                f"before it {whole.opsets[domain]}; expected the same; convert one of them"
            )
    known = {(entry.domain, entry.name, entry.overload): entry for entry in whole.functions}
    for function in part.functions:
        if known.setdefault((function.domain, function.name, function.overload), function) != function:
            raise InvalidModel(
                f"the part at {prefix!r} has another function {function.name!r} than a part before it; expected the "
                "same; write functions out first"
            )
    whole.functions = list(known.values())


def _rename(part: Model, prefix: str, taken: set[str]) -> None:
    """Give everything but the inputs its prefix, and add the names to those that are taken."""
    inputs = {id(tensor): tensor.name for tensor in part.inputs}
    names: set[str] = set()
    for graph in all_graphs(part.graph):
        for tensor in own_tensors(graph):
            if id(tensor) not in inputs:
                tensor.name = f"{prefix}{tensor.name}"
                names.add(tensor.name)
        for node in graph.nodes:
            node.name = f"{prefix}{node.name}" if node.name else ""
            names.add(f"node {node.name}")
        graph.initializers = {constant.name: constant for constant in graph.initializers.values()}
        graph.shell = without_declarations(graph.shell)
    names.discard("node ")
    passed = [tensor.name for tensor in part.outputs if id(tensor) in inputs]
    if passed:
        raise InvalidModel(
            f"the part at {prefix!r} hands its input {passed[0]!r} on as an output, which can have one name only; "
            "expected an output that a node makes; put an Identity between"
        )
    clash = min(names & taken | names & set(inputs.values()), default=None)
    if clash is not None:
        raise InvalidModel(
            f"the prefix {prefix!r} makes a second {clash!r}; expected names that no other part has; take another "
            "prefix"
        )
    taken |= names


def _joined(inputs: dict[str, gs.Variable], tensor: gs.Variable, prefix: str) -> gs.Variable:
    """Return the one input of a name."""
    known = inputs.setdefault(tensor.name, tensor)
    if (known.dtype, known.shape) != (tensor.dtype, tensor.shape):
        raise InvalidModel(
            f"the part at {prefix!r} takes {tensor.name!r} as {tensor.dtype} {tensor.shape}, a part before it as "
            f"{known.dtype} {known.shape}; expected the same; rename the input of one"
        )
    return known
