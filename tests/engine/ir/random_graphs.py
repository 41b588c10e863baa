"""Seeded random graphs with bodies in bodies, and slow obvious versions of the edits, working on names in protos."""

import random
from collections.abc import Iterator

from onnx import AttributeProto, GraphProto, ModelProto, NodeProto

from graphrewrite.ir import Model
from graphrewrite.ir.edit import all_graphs
from tests.engine.ir.protos import graph, info, model, node, tensor


def random_proto(seed: int, nodes: int = 12) -> ModelProto:
    """Return a model of meaningless operators: any input may be anything made before it, here or further out."""
    draw = random.Random(seed)
    count = iter(range(10**6))

    def build(level: int, visible: list[str], size: int, inputs: list[str]) -> GraphProto:
        constants = [f"c{next(count)}" for _ in range(draw.randrange(3))]
        local = [*inputs, *constants]
        made: list[NodeProto] = []
        for _ in range(size):
            reads = [draw.choice([*visible, *local, ""]) for _ in range(draw.randrange(4))]
            writes = [f"t{next(count)}" for _ in range(draw.randrange(1, 3))]
            if len(writes) == 2 and draw.random() < 0.3:
                writes[draw.randrange(2)] = ""
            each = node("Op", reads, writes, name=f"n{next(count)}", domain="t")
            for _ in range(draw.choice([0, 0, 0, 1, 2]) if level < 2 else 0):
                body = build(level + 1, [*visible, *local], draw.randrange(4), [f"i{next(count)}"])
                each.attribute.append(
                    AttributeProto(name=f"b{next(count)}", type=AttributeProto.GRAPH, g=body)
                )
            made.append(each)
            local += filter(None, writes)
        returnable = [*local, *visible] if level and draw.random() < 0.2 else local
        outputs = draw.sample(returnable, min(len(returnable), draw.randrange(1, 3)))
        return graph(
            made,
            [info(i) for i in inputs],
            [info(o) for o in outputs],
            [tensor(c, [0, 0]) for c in constants],
        )

    proto = model([], domains=["t"])
    proto.graph.CopyFrom(build(0, [], nodes, ["x", "y"]))
    return proto


def graphs_of(outer: GraphProto) -> Iterator[GraphProto]:
    yield outer
    for each in outer.node:
        for attribute in each.attribute:
            if attribute.type == AttributeProto.GRAPH:
                yield from graphs_of(attribute.g)


def names_read(outer: GraphProto) -> set[str]:
    """Return every name that some node reads or some graph returns, at any depth."""
    read = {name for each in graphs_of(outer) for one in each.node for name in one.input}
    return read | {output.name for each in graphs_of(outer) for output in each.output}


def without_unused(proto: ModelProto) -> ModelProto:
    """Take out one node after another whose outputs nobody reads, until there is none; then the constants."""
    left = ModelProto()
    left.CopyFrom(proto)
    while True:
        read = names_read(left.graph)
        useless = [
            (each, index)
            for each in graphs_of(left.graph)
            for index, one in enumerate(each.node)
            if not any(name and name in read for name in one.output)
        ]
        if not useless:
            break
        holder, index = useless[0]
        del holder.node[index]
    read = names_read(left.graph)
    for each in graphs_of(left.graph):
        for index in reversed(range(len(each.initializer))):
            if each.initializer[index].name not in read:
                del each.initializer[index]
    return left


def reads_of(one: NodeProto) -> set[str]:
    """Return the names a node reads, what its bodies read included."""
    inner = [
        body
        for attribute in one.attribute
        if attribute.type == AttributeProto.GRAPH
        for body in graphs_of(attribute.g)
    ]
    names = {name for body in inner for deep in body.node for name in deep.input}
    return names | {output.name for body in inner for output in body.output} | set(one.input)


def in_order(outer: GraphProto) -> list[str] | None:
    """Return node names, always taking the first node that needs none still waiting; None when there is a cycle."""
    waiting = list(outer.node)
    order = []
    while waiting:
        unmade = {name for one in waiting for name in one.output if name}
        ready = next((one for one in waiting if not reads_of(one) & unmade), None)
        if ready is None:
            return None
        order.append(ready.name)
        waiting.remove(ready)
    return order


def broken_links(m: Model) -> list[str]:
    """Return the tensors whose lists of makers and users are not what the nodes say."""
    nodes = [n for each in all_graphs(m.graph) for n in each.nodes]
    tensors = {id(t): t for n in nodes for t in (*n.inputs, *n.outputs)}
    for each in all_graphs(m.graph):
        tensors |= {id(t): t for t in (*each.inputs, *each.outputs, *each.initializers.values())}
    wrong = []
    for t in tensors.values():
        users = sorted(id(n) for n in nodes for other in n.inputs if other is t)
        makers = sorted(id(n) for n in nodes for other in n.outputs if other is t)
        if users != sorted(map(id, t.outputs)) or makers != sorted(map(id, t.inputs)):
            wrong.append(t.name)
    return wrong
