"""Which nodes are to compute in floats although integer kernels are there: what they save is less than roundings cost.

Every node takes a time in floats and one in integers, and every tensor between the two kinds takes a conversion. The
split of a graph that takes the least time in all is a minimum cut, which is found exactly, for each region of nodes
that bytes join by itself. Times are measured ones (`tests/bench/integer_times.py`), foretold between the sizes that
were measured.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import resources
from math import prod
from pathlib import Path
from typing import NamedTuple

import networkx as nx
import onnx_graphsurgeon as gs

from graphrewrite.cost.speeds import Speeds, Work, read_speeds
from graphrewrite.errors import InvalidConfig
from graphrewrite.ir.symbols import Sym
from graphrewrite.match.view import View
from graphrewrite.passes.tidy.reading import integer

# Times are of one machine, and layers measured by themselves: a narrow loss is none, and conversions take twice as long
# in a network (tried on twelve of them, with 0.65 to 0.95, and 1 to 3).
_MARGIN, _AMONG_OTHERS = 0.9, 2.0
# Sums of foretold times are off by up to a tenth. A split that gains no more than that on bytes throughout is no gain
# (tf_mobilenetv2: foretold 0.91, measured 1.09), unless floats throughout are foretold to be faster, too.
_SPLIT_GAINS, _FLOATS_GAIN = 1.1, 1.05
_LARGE = (
    1 << 18
)  # numbers of a weight that come from memory rather than from a cache: bytes are always a gain
_LIKE = {"Mul": "Add"}  # operators that cost what another one does
_INTEGERS, _FLOATS = "integers", "floats"


class Region(NamedTuple):
    """Nodes that could compute in integers, by id, with what is known of their neighbours.

    Those `between` layers take bytes only, `forced` ones compute in integers anyway. `reads` returns the tensors whose
    numbers a node computes with, `ends` what it writes, behind bounds that belong to it.
    """

    layers: Mapping[int, gs.Node]
    between: Mapping[int, gs.Node]
    forced: Mapping[int, gs.Node]
    reads: Callable[[gs.Node], Sequence[gs.Tensor]]
    ends: Callable[[gs.Node], Sequence[gs.Tensor]]


def load_times(name: str) -> Speeds:
    """Return the measured times of a name that comes with this package, or of a file.

    Raises:
        InvalidConfig: there are none, or the file is damaged.
    """
    folder = resources.files("graphrewrite.passes.quant") / "tables"
    shipped = folder / f"{name}.json"
    if shipped.is_file():
        return read_speeds(shipped.read_text(encoding="utf-8"), shipped.name)
    if Path(name).is_file():
        return read_speeds(Path(name).read_text(encoding="utf-8"), name)
    there = sorted(
        each.name.removesuffix(".json") for each in folder.iterdir() if each.name.endswith(".json")
    )
    raise InvalidConfig(
        f"no times are known by the name {name!r}; expected {', '.join(there)}, or a file measured elsewhere; with "
        "none, all that has an integer kernel is quantised"
    )


def slower_in_integers(view: View, region: Region, times: Speeds) -> dict[int, str]:
    """Return the nodes, by id, that are better left in floats, with the reason."""
    nodes = {**region.layers, **region.between}
    costs = {key: _costs(view, node, times) for key, node in nodes.items()}
    graph = _drawn(view, region, costs, times)
    found: dict[int, str] = {}
    ends = {_INTEGERS, _FLOATS}
    for part in list(nx.connected_components(nx.Graph(graph.subgraph(graph.nodes - ends)))):
        inside = graph.subgraph(part | ends)
        least, (_, floats) = nx.minimum_cut(inside, _INTEGERS, _FLOATS)
        all_bytes, all_floats = _cut(inside, _FLOATS), _cut(inside, _INTEGERS)
        if all_bytes <= _SPLIT_GAINS * least and all_bytes <= _FLOATS_GAIN * all_floats:
            continue
        found.update({key: _why(costs[key]) for key in floats if key in nodes})
    return found


def _cut(graph: "nx.DiGraph[object]", end: str) -> float:
    """Return what it takes to set one end apart from all the rest."""
    towards = graph.in_edges if end == _FLOATS else graph.out_edges
    return float(sum(capacity for *_, capacity in towards(end, data="capacity")))


class _Costs(NamedTuple):
    """Seconds of a node in floats and in integers; None where nobody knows."""

    floats: float
    integers: float


def _why(costs: _Costs | None) -> str:
    if costs is None or not (costs.floats or costs.integers):
        return "the layers around it compute in floats: roundings would take longer than integers save"
    one, other = (f"{seconds * 1e6:.1f}" for seconds in (costs.integers, costs.floats))
    return (
        f"too small: measured, it takes {one} us on bytes, {other} us on floats, and bytes have roundings too"
    )


def _drawn(
    view: View, region: Region, costs: Mapping[int, _Costs | None], times: Speeds
) -> "nx.DiGraph[object]":
    """Return the graph whose least cut is the best split; an edge costs what it takes where its ends are apart."""
    graph: nx.DiGraph[object] = nx.DiGraph()
    graph.add_nodes_from((_INTEGERS, _FLOATS))

    def add(source: object, target: object, seconds: float) -> None:
        """Count seconds where the source is among the integers and the target among the floats."""
        known = graph.get_edge_data(source, target, {"capacity": 0.0})["capacity"]
        graph.add_edge(source, target, capacity=known + seconds)

    nodes = {**region.layers, **region.between}
    makers = {end.name: key for key, node in nodes.items() for end in region.ends(node)}
    for key, node in nodes.items():
        cost, behind = costs[key], _convolution_before(view, node) if node.op == "Add" else None
        # Behind a convolution of floats onnxruntime adds where that writes, which costs next to nothing.
        add(_INTEGERS if behind is None else id(behind), key, float("inf") if cost is None else cost.floats)
        add(key, _FLOATS, 0.0 if cost is None else _MARGIN * cost.integers)
        for tensor in region.reads(node):
            maker, asked = makers.get(tensor.name, _FLOATS), ("bytes", tensor.name)
            if asked not in graph:
                add(asked, maker, _rounded(view, tensor, times))
            add(key, maker if key in region.between else asked, float("inf"))
        for tensor in region.ends(node):
            for user in _users(view, region, tensor):
                add(key, user, _expanded(view, node, tensor, times))
    return graph


def _users(view: View, region: Region, tensor: gs.Tensor) -> Iterator[object]:
    """Yield who reads a tensor, each of which expands it for itself; all that read floats anyway are one."""
    for user in view.users(tensor):
        reads_bytes = any(tensor is each for each in region.reads(user))
        if id(user) in region.forced:
            yield _INTEGERS
        else:
            yield (
                id(user)
                if reads_bytes and (id(user) in region.layers or id(user) in region.between)
                else _FLOATS
            )
    if view.is_output(tensor):
        yield _FLOATS


def _costs(view: View, node: gs.Node, times: Speeds) -> _Costs | None:
    """Return what a node takes; nothing where it only moves numbers or was not measured."""
    found = _work(view, node)
    if found is None:
        return None
    form, work = found
    floats, integers = times.seconds(form, work), times.seconds(f"{form}/8", work)
    if floats is None or integers is None:
        return _Costs(0.0, 0.0)
    return _Costs(floats, integers)


def _work(view: View, node: gs.Node) -> tuple[str, Work] | None:
    """Return the form that a node was measured in and its size; None where sizes are not known, or large."""
    out = _sizes(view, node.outputs[0])
    if out is None:
        return None
    if node.op == "Conv":
        weight = _sizes(view, node.inputs[1])
        if weight is None or prod(weight) > _LARGE:
            return None
        groups, taps = integer(node, "group", 1), prod(weight[2:])
        kind = "Conv" if groups == 1 else "ConvEach" if weight[1] == 1 else "ConvGroups"
        return kind, Work(weight[1], weight[0], prod(out[2:]), taps)
    if node.op in ("Gemm", "MatMul"):
        read = _sizes(view, node.inputs[0])
        if read is None or read[-1] * out[-1] > _LARGE:
            return None
        return "MatMul", Work(read[-1], out[-1], prod(out[:-1]))
    return _LIKE.get(node.op, node.op), Work(1, 1, prod(out))


def _sizes(view: View, tensor: gs.Tensor) -> tuple[int, ...] | None:
    """Return a tensor's sizes for a batch of one where the batch is not known, None where others are not."""
    shape = view.shape(tensor)
    if not shape:
        return None
    first = shape[0] if isinstance(shape[0], int) else _of_one(shape[0])
    rest = tuple(size for size in shape[1:] if isinstance(size, int))
    return None if first is None or len(rest) < len(shape) - 1 else (first, *rest)


def _of_one(size: Sym) -> int | None:
    """Return a multiple of one unknown size where that is 1."""
    (terms, factor), *more = size.terms
    return factor if not more and len(terms) == 1 else None


def _convolution_before(view: View, node: gs.Node) -> gs.Node | None:
    """Return a convolution whose result only this node reads."""
    makers = [(tensor, view.producer(tensor)) for tensor in node.inputs]
    return next(
        (
            maker
            for tensor, maker in makers
            if maker is not None and maker.op == "Conv" and view.sole_user(tensor) is node
        ),
        None,
    )


def _rounded(view: View, tensor: gs.Tensor, times: Speeds) -> float:
    """Return what it takes to make bytes of a tensor."""
    return _converted(view, tensor, times, "QuantizeLinear")


def _expanded(view: View, maker: gs.Node, tensor: gs.Tensor, times: Speeds) -> float:
    """Return what it takes to make floats of the bytes in a tensor; products give them at once."""
    if maker.op in ("Gemm", "MatMul"):
        return 0.0
    return _converted(view, tensor, times, "DequantizeLinear")


def _converted(view: View, tensor: gs.Tensor, times: Speeds, form: str) -> float:
    sizes = _sizes(view, tensor)
    if sizes is None:
        return 0.0
    work = Work(1, 1, prod(sizes))
    seconds = times.seconds(form, work) or 0.0
    if len(sizes) == 4:
        # Maps are turned as well: kernels of bytes want channels last, those of floats in blocks.
        seconds = max(seconds, (times.seconds("Turn", work) or 0.0) / 2)
    return _AMONG_OTHERS * seconds


__all__ = ["Region", "load_times", "slower_in_integers"]
