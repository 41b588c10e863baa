"""The pass that takes a model to another operator set, and the walk that does it."""

from collections import Counter
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import onnx
import onnx_graphsurgeon as gs

from graphrewrite.errors import InvalidConfig, UnsupportedOp
from graphrewrite.ir import Builder, Model
from graphrewrite.ir.codec import nodes_from_proto
from graphrewrite.ir.domains import domain_name
from graphrewrite.ir.edit import all_graphs, all_nodes
from graphrewrite.ir.garbage import paused
from graphrewrite.ir.inline import inlined
from graphrewrite.ir.shapes import infer
from graphrewrite.match.view import is_default_domain
from graphrewrite.passes.factor.writer import Names, Writer
from graphrewrite.passes.opset import inputs, meaning
from graphrewrite.passes.opset.history import (
    NEWEST,
    OLDEST,
    between,
    check_start,
    described,
    drop_defaults,
    known,
    versions,
    why_not,
)
from graphrewrite.passes.opset.site import Site, Unfit
from graphrewrite.pipeline import Claim, Context, Note, Outcome, Same, passes
from graphrewrite.pipeline.base import Json

_ADAPTERS = {**inputs.TABLE, **meaning.TABLE}
_TOLD = 3


class Conversion(NamedTuple):
    """A model in another operator set, and the nodes that have another form there: operator -> names."""

    model: Model
    rewritten: dict[str, list[str]]


@passes.register("convert_opset")
@dataclass(frozen=True)
class ConvertOpset:
    """Take a model to another version of the standard operators; the outputs stay the same.

    Args:
        to: the operator set, 7 to the newest of the installed onnx; from 21 on there is all that quantisers write.

    A model is raised as far as there is a form for each of its nodes, which is nearly always so; it is lowered only
    where all nodes can stay as they are. Names, documentation, functions, weights in files beside the model and nodes
    of other domains are kept; bodies of loops are converted too. The format of the file (IR version) is the one it has.
    """

    to: int = 21

    claim: ClassVar[Claim] = Same()

    def __post_init__(self) -> None:
        if isinstance(self.to, bool) or not known(self.to):
            newest = min(NEWEST, onnx.defs.onnx_opset_version())
            raise InvalidConfig(
                f"ConvertOpset.to is {self.to!r}; expected an operator set from {OLDEST} to {newest}; choose one"
            )

    def run(self, model: Model, context: Context) -> Outcome:
        """Convert it.

        Raises:
            UnsupportedOp: nodes have no form in that operator set.
        """
        start = model.opset
        if start in (0, self.to):
            why = f"its operator set is {start}" if start else "it uses no standard operators"
            return Outcome(model, False, (Note("skipped", "the whole model", why),))
        done = converted(model, self.to)
        notes = [Note("done", "operator set", f"from {start} to {self.to}")]
        for op, names in done.rewritten.items():
            listed = ", ".join(names[:_TOLD]) + (", ..." if len(names) > _TOLD else "")
            notes.append(Note("done", op, f"{len(names)} in another form: {listed}"))
        details: dict[str, Json] = {
            "from": start,
            "to": self.to,
            "rewritten": {op: len(n) for op, n in done.rewritten.items()},
        }
        return Outcome(done.model, True, tuple(notes), details=details)


@paused()
def converted(model: Model, to: int) -> Conversion:
    """Return a copy of a model in another operator set; the model itself stays as it is.

    Raises:
        UnsupportedOp: nodes have no form in that operator set; the message names them.
        InvalidModel: its own set is not one of those that were looked at.
    """
    check_start(model.opset)
    copy = model.clone()
    if any(_unfit_inside(function, to) for function in copy.functions):
        copy = inlined(copy)
    walk = _Walk(copy, to)
    for function in copy.functions:
        walk.left += _unfit_inside(function, to)
        for entry in function.opset_import:
            if not domain_name(entry.domain):
                entry.version = to
    for graph in list(all_graphs(copy.graph)):
        walk.graph(graph)
    if walk.left:
        raise _refused(model.opset, to, walk.left)
    copy.opsets[""] = to
    for graph in all_graphs(copy.graph):
        graph.opset = to
    return Conversion(copy, walk.rewritten)


class _Left(NamedTuple):
    name: str
    op: str
    why: str


class _Walk:
    """One model on its way: what is known of its tensors, what was rewritten and what cannot be."""

    def __init__(self, model: Model, to: int) -> None:
        self.model, self.start, self.to = model, model.opset, to
        self.rewritten: dict[str, list[str]] = {}
        self.left: list[_Left] = []
        self._info = infer(model)
        self._names = Names(model)
        self._returned = {id(tensor) for graph in all_graphs(model.graph) for tensor in graph.outputs}

    def graph(self, graph: gs.Graph) -> None:
        """Take the nodes of one graph there; those of its bodies are left to others."""
        done: list[gs.Node] = []
        for node in graph.nodes:
            done += self._node(graph, node, self.start)
        graph.nodes = done

    def _node(self, graph: gs.Graph, node: gs.Node, start: int) -> list[gs.Node]:
        """Return a node in its last form, with the nodes that it needs around it."""
        if not is_default_domain(node) or not versions(node.op):  # fused operators of runtimes lie there too
            return [node]
        name, op = node.name or (node.outputs[0].name if node.outputs else ""), node.op
        if described(op, start) is None:
            self.left.append(_Left(name, op, f"operator set {start} does not have it"))
            return [node]
        front: list[gs.Node] = []
        behind: list[gs.Node] = []
        waiting = between(op, start, self.to)
        while waiting:
            version = waiting[0]
            site = Site(node, Writer(self.model, graph, name, self._names), self._info, self._returned)
            try:
                _step(site, start, version, self.to)
            except Unfit as error:
                self.left.append(_Left(name, op, str(error)))
                break
            if (node.op, version) in _ADAPTERS or (op, version) in _ADAPTERS:
                self.rewritten.setdefault(op, []).append(name)
            for made, where in ((site.writer.made, front), (site.behind, behind)):
                where += [last for each in made for last in self._node(graph, each, version)]
            start = version if version <= self.to else version - 1
            waiting = between(node.op, start, self.to)
        return [*front, node, *behind]


def _step(site: Site, start: int, version: int, to: int) -> None:
    """Take a node over one change of its operator.

    Raises:
        Unfit: it cannot be.
    """
    node = site.node
    adapt = _ADAPTERS.get((node.op, version))
    if version <= to and adapt is not None:
        adapt(site)
        return
    old, new = described(node.op, start), described(node.op, version if version <= to else version - 1)
    if new is None or (to < version and version == versions(node.op)[0]):
        raise Unfit(f"operator set {to} does not have it")
    if adapt is not None:
        raise Unfit(f"it has had another form before operator set {version}, and there is no way back")
    assert old is not None
    why = why_not(node, old, new, site.dtype)
    if why:
        raise Unfit(why)
    drop_defaults(node, old, new)


def _unfit_inside(function: onnx.FunctionProto, to: int) -> list[_Left]:
    """Return the nodes of a function that are not the same nodes in another operator set."""
    start = next((entry.version for entry in function.opset_import if not domain_name(entry.domain)), to)
    left: list[_Left] = []
    outer = gs.Graph(nodes=nodes_from_proto(function.node, {}))
    for node in all_nodes(outer):
        if not is_default_domain(node) or not versions(node.op):
            continue
        old, new = described(node.op, start), described(node.op, to)
        if old is None or new is None:
            why = "one of the two operator sets does not have it"
        elif not all(_is_kept(node, version) for version in between(node.op, start, to)):
            why = "it has another form there, and functions stay as they are"
        else:
            why = why_not(node, old, new, lambda _: None) or _would_drop(node, new)
        if why:
            left.append(_Left(f"{node.name or node.op} in the function {function.name}", node.op, why))
    return left


def _is_kept(node: gs.Node, version: int) -> bool:
    """Tell whether the adapter of a version, if it has one, finds nothing to do; it may change the node."""
    adapt = _ADAPTERS.get((node.op, version))
    if adapt is None:
        return True
    if any(isinstance(value, onnx.AttributeProto) for value in node.attrs.values()):
        return False  # of an attribute that each call gives, nobody knows
    nowhere = Builder().model()
    site = Site(node, Writer(nowhere, nowhere.graph, node.op, Names(nowhere)), infer(nowhere), set())
    before = (node.op, dict(node.attrs), list(node.inputs), list(node.outputs))
    try:
        adapt(site)
    except Unfit:
        return False
    after = (node.op, node.attrs, list(node.inputs), list(node.outputs))
    return before == after and not site.writer.made and not site.behind


def _would_drop(node: gs.Node, new: onnx.defs.OpSchema) -> str:
    gone = [name for name in node.attrs if name not in new.attributes]
    return f"it has no attribute {gone[0]} there" if gone else ""


def _refused(start: int, to: int, left: list[_Left]) -> UnsupportedOp:
    told = "; ".join(f"{each.name!r} ({each.op}): {each.why}" for each in left[:_TOLD])
    kinds = Counter(each.op for each in left)
    more = f"; and {len(left) - _TOLD} more of {', '.join(kinds)}" if len(left) > _TOLD else ""
    return UnsupportedOp(
        f"the model cannot go from operator set {start} to {to}: {told}{more}; expected nodes that have a form "
        "there; export the model again for that operator set"
    )


__all__ = ["Conversion", "ConvertOpset", "converted"]
