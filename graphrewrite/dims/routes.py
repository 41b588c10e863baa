"""The ways channels take: from layer to layer for a drawing, and from a weight to what pins it."""

import re
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import onnx_graphsurgeon as gs

from graphrewrite.dims.axes import Axis
from graphrewrite.dims.explanation import Flow
from graphrewrite.dims.record import Analysis, is_constant

if TYPE_CHECKING:
    from graphrewrite.dims.explain import Carried

# These read a constant beside their data; they are no layer of their own.
_PLAIN = frozenset({"Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Where", "Concat", "PRelu"})


def layer_labels(nodes: Sequence[gs.Node]) -> list[str]:
    """Return a short name for every node: its module's path where an exporter left it, else its own name."""
    readers: dict[str, int] = {}
    for node in nodes:
        for tensor in node.inputs:
            if is_constant(tensor):
                readers[tensor.name] = readers.get(tensor.name, 0) + 1
    return [_label(node, readers) for node in nodes]


def _label(node: gs.Node, readers: dict[str, int]) -> str:
    weight = next((t.name for t in node.inputs if is_constant(t) and t.name.endswith(".weight")), "")
    if weight and readers[weight] == 1:
        return str(weight).removesuffix(".weight")
    if not node.name:
        return str(node.outputs[0].name if node.outputs else node.op)
    parts = [part for part in node.name.split("/") if part]
    reads_weight = node.op not in _PLAIN and any(
        is_constant(t) and len(t.shape or ()) > 1 for t in node.inputs
    )
    if len(parts) > 1 and reads_weight and parts[-1] == node.op:
        parts.pop()
    # torch writes a module's whole path as each component: layer1/layer1.0/layer1.0.conv1
    kept = [
        part for part, after in zip(parts, [*parts[1:], ""], strict=True) if not after.startswith(f"{part}.")
    ]
    return "/".join(kept) or str(node.name)


class Routes:
    """Ways through an analysed model; the nodes of bodies come after those of the main graph.

    Attributes:
        ends: label and kind ("input", "output") of the graph's inputs (-1, -2, ...) and outputs (from the number of
            nodes on).
    """

    def __init__(
        self, analysis: Analysis, carried: "Callable[[Axis], Carried]", labels: Sequence[str]
    ) -> None:
        graph = analysis.model.graph
        self._analysis = analysis
        self._carried = carried
        self._labels = labels
        self._nodes = analysis.nodes
        self._makers = {t.name: i for i, node in enumerate(self._nodes) for t in node.outputs if t.name}
        self._inputs = {t.name: -1 - i for i, t in enumerate(graph.inputs)}
        self._outputs = {len(self._nodes) + i: t.name for i, t in enumerate(graph.outputs)}
        self.ends = {number: (name, "input") for name, number in self._inputs.items()}
        self.ends |= {number: (name, "output") for number, name in self._outputs.items()}
        self._pinned: dict[int, set[str]] | None = None
        self._towards: dict[int, dict[int, int]] = {}

    # --- to what pins -----------------------------------------------------------------------------------------------

    def chain(self, reason: int, text: str, sites: Iterable[int], whys: Sequence[str]) -> tuple[str, ...]:
        """Return the nodes that tie a pinned weight to what `text` is about, nearest first.

        Only nodes where several tensors with the pin meet are listed: the others just hand it on.
        """
        if reason not in self._towards:
            self._towards[reason] = self._search(reason, self._obstacle(text, whys))
        ahead = self._towards[reason]
        site = min(
            (node for node in sites if node in ahead), key=lambda node: ahead[node] != node, default=-1
        )
        if site < 0:
            return ()
        names = self._carrying(reason)
        result = []
        while ahead[site] != site:
            site = ahead[site]
            if sum(t.name in names for t in self._nodes[site].inputs) > 1:
                result.append(f"{self._nodes[site].op} {self._labels[site]}")
        return tuple(result)

    def _obstacle(self, text: str, whys: Sequence[str]) -> int:
        if text.startswith("graph output "):
            return self._makers.get(text.removeprefix("graph output "), -1)
        lead = re.split(r": | joins it with", text)[0]
        return next((node for node, why in enumerate(whys) if why == lead), -1)

    def _carrying(self, reason: int) -> set[str]:
        """Return the tensors with an axis that is pinned for a reason."""
        if self._pinned is None:
            self._pinned = {}
            for tensor, axes in self._analysis.env.items():
                for axis in axes or ():
                    if not axis.is_rigid:
                        for number in self._carried(axis).pins:
                            self._pinned.setdefault(number, set()).add(tensor)
        return self._pinned.get(reason, set())

    def _search(self, reason: int, start: int) -> dict[int, int]:
        """Return, for each node that the pin reaches, the next one on the way to the obstacle."""
        if start < 0:
            return {}
        names = self._carrying(reason)
        readers: dict[str, list[int]] = {}
        for number, node in enumerate(self._nodes):
            for tensor in node.inputs:
                if tensor.name in names:
                    readers.setdefault(tensor.name, []).append(number)
        ahead = {start: start}
        queue = deque([start])
        while queue:
            node = queue.popleft()
            for tensor in (*self._nodes[node].inputs, *self._nodes[node].outputs):
                if tensor.name not in names:
                    continue
                for other in (self._makers.get(tensor.name, -1), *readers.get(tensor.name, ())):
                    if other >= 0 and other not in ahead:
                        ahead[other] = node
                        queue.append(other)
        return ahead

    # --- to draw ----------------------------------------------------------------------------------------------------

    def draw(self, wanted: Iterable[int], names: Sequence[str]) -> tuple[list[int], tuple[Flow, ...]]:
        """Return the stations in graph order (node numbers, and `ends`), and what flows between them.

        Stations are the `wanted` nodes, and those where channels of different origin meet; what lies between two
        stations hands them on. `names` are the names of the groups.
        """
        stations = set(wanted)
        origin: dict[str, int] = dict(self._inputs)
        edges: dict[tuple[int, int, str], int] = {}
        for number, node in enumerate(self._nodes):
            sources: dict[int, list[str]] = {}
            for tensor in node.inputs:
                if tensor.name in origin:
                    sources.setdefault(origin[tensor.name], []).append(tensor.name)
            labelled = [source for source, tensors in sources.items() if any(map(self._is_labelled, tensors))]
            if number in stations or len(labelled) > 1:
                stations.add(number)
                for source in labelled or sources:
                    self._connect(edges, source, number, sources[source], names)
                origin.update((t.name, number) for t in node.outputs if t.name)
            elif sources:
                lead = next(iter(labelled or sources))
                origin.update((t.name, lead) for t in node.outputs if t.name)
        for number, name in self._outputs.items():
            if name in origin:
                self._connect(edges, origin[name], number, [name], names)
        used = {end for source, target, _ in edges for end in (source, target)}
        stops = [n for n in sorted(stations | used) if n in used or n in self.ends]
        place = {node: index for index, node in enumerate(stops)}
        flows = tuple(
            Flow(place[source], place[target], group, length)
            for (source, target, group), length in edges.items()
        )
        return stops, flows

    def _connect(
        self,
        edges: dict[tuple[int, int, str], int],
        source: int,
        target: int,
        tensors: Sequence[str],
        names: Sequence[str],
    ) -> None:
        free = False
        longest = 0
        for tensor in tensors:
            for axis in self._analysis.env.get(tensor) or ():
                if axis.is_rigid:
                    continue
                carried = self._carried(axis)
                longest = max(longest, carried.length)
                for group in carried.groups:
                    free = True
                    edges[source, target, names[group]] = carried.length
        if not free:
            edges[source, target, ""] = longest

    def _is_labelled(self, tensor: str) -> bool:
        return any(not axis.is_rigid for axis in self._analysis.env.get(tensor) or ())
