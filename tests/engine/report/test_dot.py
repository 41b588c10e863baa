"""The graph in Graphviz's language: read back by a small reader, right for small nets, small for large ones."""

import re
from collections.abc import Iterator

import numpy as np
import onnx_graphsurgeon as gs
import pytest

from graphrewrite.dims.explain import explain
from graphrewrite.ir import Builder, Model
from graphrewrite.report.dot import dot

NASTY = 'a"b\\c\nd{e}<f>&\x1b[2J -> x;]'

_TOKEN = re.compile(
    r"""\s*(?: (?P<text>"(?:[^"\\]|\\.)*") | (?P<html><<TABLE.*?</TABLE>>) | (?P<arrow>->) | (?P<mark>[{}\[\]=,;])
    | (?P<word>[A-Za-z_0-9.#]+) )""",
    re.VERBOSE | re.DOTALL,
)


class Graph:
    """Nodes and edges with their attributes; anything that is not the language fails."""

    def __init__(self, text: str) -> None:
        self.nodes: dict[str, dict[str, str]] = {}
        self.edges: list[tuple[str, str, dict[str, str]]] = []
        self.clusters: list[str] = []
        self._tokens = list(self._split(text))
        assert self._take() == "digraph"
        self._take()
        self._body()
        assert not self._tokens, "something follows the graph"

    @staticmethod
    def _split(text: str) -> Iterator[str]:
        place = 0
        while place < len(text.rstrip()):
            found = _TOKEN.match(text, place)
            assert found, f"not the language: {text[place : place + 60]!r}"
            place = found.end()
            yield found[0].strip()

    def _take(self) -> str:
        return self._tokens.pop(0)

    def _body(self) -> None:
        assert self._take() == "{"
        while (name := self._take()) != "}":
            if name == "subgraph":
                self.clusters.append(self._take())
                self._body()
            elif self._tokens[0] == "=":
                self._take(), self._take()
                self._end()
            elif self._tokens[0] == "->":
                self._take()
                target = self._take()
                self.edges.append((name, target, self._attributes()))
            else:
                fields = self._attributes()
                if name not in ("graph", "node", "edge"):
                    assert name not in self.nodes, f"{name} is drawn twice"
                    self.nodes[name] = fields

    def _end(self) -> None:
        if self._tokens[0] == ";":
            self._take()

    def _attributes(self) -> dict[str, str]:
        fields: dict[str, str] = {}
        if self._tokens[0] == "[":
            self._take()
            while self._tokens[0] != "]":
                key = self._take()
                assert self._take() == "="
                fields[key] = self._take()
                if self._tokens[0] == ",":
                    self._take()
            self._take()
        self._end()
        return fields

    def label(self, name: str) -> str:
        return (
            self.nodes[name]["label"]
            .strip('"')
            .replace("\\n", "\n")
            .replace('\\"', '"')
            .replace("\\\\", "\\")
        )


def net(blocks: int, name: str = "") -> Model:
    """A stem of 8 channels and residual blocks of two layers (8 -> 6 -> 8), with the blocks' names prefixed."""
    b = Builder()

    def layer(x: gs.Tensor, title: str, out: int, into: int) -> gs.Variable:
        return b.op(
            "Conv", x, b.weight(out, into, 1, 1, name=f"{title}.weight"), name=title, kernel_shape=[1, 1]
        )

    x = layer(b.input([1, 3, 4, 4], name=f"{name}x"), f"{name}stem", 8, 3)
    for number in range(blocks):
        inner = b.relu(layer(x, f"{name}block{number}.in", 6, 8))
        x = b.op("Add", x, layer(inner, f"{name}block{number}.out", 8, 6), name=f"{name}block{number}.join")
    return b.model(layer(x, f"{name}head", 4, 8))


def test_a_small_net_is_drawn_layer_by_layer() -> None:
    found = explain(net(1))
    graph = Graph(dot(found, "net"))
    names = {node: graph.label(node).split("\n")[0] for node in graph.nodes if node.startswith("n")}
    drawn = {(names[a], names[b], fields.get("label", "").strip('"')) for a, b, fields in graph.edges}
    out = next(s.label for s in found.stations if s.kind == "output")
    assert drawn == {
        ("x", "stem", ""),
        ("stem", "block0.in", "8"),
        ("block0.in", "block0.out", "6"),
        ("stem", "Add", "8"),
        ("block0.out", "Add", "8"),
        ("Add", "head", "8"),
        ("head", out, "4"),
    }
    colours = {(names[a], names[b]): fields["color"] for a, b, fields in graph.edges}
    assert colours["stem", "block0.in"] == colours["Add", "head"] == colours["stem", "Add"]
    assert colours["stem", "block0.in"] != colours["block0.in", "block0.out"]
    assert colours["x", "stem"] == colours["head", out], "what cannot shrink has one colour"
    assert len(graph.clusters) == 1, "the block"


def test_every_end_of_an_edge_is_a_node() -> None:
    for model in (net(1), net(40)):
        graph = Graph(dot(explain(model), "net"))
        assert {end for a, b, _ in graph.edges for end in (a, b)} <= set(graph.nodes)


def test_a_large_net_is_drawn_by_groups_and_repeated_blocks_are_one() -> None:
    found = explain(net(40))
    graph = Graph(dot(found, "net"))
    boxes = {node: graph.label(node) for node in graph.nodes if node.startswith("g")}
    assert len(boxes) == 2, "the stream, and the inside of all blocks"
    stream = next(node for node, text in boxes.items() if "Add x40" in text)
    inside = next(node for node in boxes if node != stream)
    assert "40 groups of 6 units" in boxes[inside]
    edges = {(a, b): fields["label"].strip('"') for a, b, fields in graph.edges}
    assert edges[stream, inside] == edges[inside, stream] == "40 layers"
    assert edges["entrance", stream] == "stem" and edges[stream, "exit"] == "head"


def test_a_depthwise_layer_is_no_way_in() -> None:
    b = Builder()
    x = b.input([1, 3, 4, 4])
    for number in range(70):
        x = b.conv(b.conv(x, 8, 3 if number == 0 else 8), 8, 8, group=8)
    graph = Graph(dot(explain(b.model(b.conv(x, 2, 8))), "net"))
    assert [edge for edge in graph.edges if edge[0] == "entrance"] != []
    assert len([edge for edge in graph.edges if edge[0] == "entrance"]) == 1


def test_the_whole_of_a_large_net_is_drawn_on_request() -> None:
    found = explain(net(40))
    assert len(Graph(dot(found, "net", whole=True)).nodes) == len(found.stations)


@pytest.mark.parametrize("blocks", [1, 40])
def test_odd_names_stay_text(blocks: int) -> None:
    graph = Graph(dot(explain(net(blocks, NASTY)), NASTY))
    assert any(graph.label(node).startswith('a"b\\c') for node in graph.nodes if node != "key")
    assert "\x1b" not in dot(explain(net(blocks, NASTY)), NASTY)


def test_a_net_without_groups_is_still_a_graph() -> None:
    b = Builder()
    x = b.input([1, 4], dtype=np.float32)
    graph = Graph(dot(explain(b.model(b.op("Mystery", b.relu(x), domain="com.example"))), "none"))
    assert "key" not in graph.nodes
