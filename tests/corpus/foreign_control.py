"""Graphs with bodies inside: If, Loop, Scan and local functions; and nets of the newest and the rarer operators."""

import numpy as np
from onnx import TensorProto, helper
from onnx.helper import make_tensor_value_info as value

from tests.corpus.index import Feed
from tests.corpus.sketch import Hand, Sketch, hand_specs
from tests.corpus.spec import Built, Spec

PICTURE = (Feed("x", (None, 3, 32, 32)),)
FLOAT, INT, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def pooled(g: Sketch, x: str, channels: int, classes: int = 10) -> list[tuple[str, int]]:
    """Global pool and a dense layer; the outputs of the graph."""
    return [(g.dense(g.node("Flatten", g.node("GlobalAveragePool", x)), channels, classes), 2)]


def branches() -> Built:
    """If: a light or a heavy branch, chosen by an input; both read one outer map and outer weights."""
    g = Sketch("branches")
    x = g.node("Relu", g.conv("x", 3, 16, strides=[2, 2]))
    wide, narrow, bias = g.weight(16, 16, 3, 3), g.weight(16, 16, 1, 1), g.vector(16)
    bodies = []
    for weight, kernel in ((wide, 3), (narrow, 1)):
        node = helper.make_node(
            "Conv", [x, weight, bias], [f"y{kernel}"], kernel_shape=[kernel] * 2, pads=[kernel // 2] * 4
        )
        relu = helper.make_node("Relu", [f"y{kernel}"], [f"z{kernel}"])
        result = value(f"z{kernel}", FLOAT, ["N", 16, 16, 16])
        bodies.append(helper.make_graph([node, relu], f"branch_{kernel}", [], [result]))
    y = g.node("If", g.node("Squeeze", "choose"), then_branch=bodies[0], else_branch=bodies[1])
    return g.finish((*PICTURE, Feed("choose", (1,), "bool")), pooled(g, g.conv(y, 16, 24), 24), 13)


def looped() -> Built:
    """Loop: a recurrence with weights inside the body, run five times."""
    g = Sketch("looped")
    h = g.node("Tanh", g.dense("x", 8, 16))
    inner = Sketch("looped body", style="body_{op}_{n}")
    state = inner.node("Tanh", inner.dense("h_in", 16, 16))
    going = inner.node("Identity", "going_in")
    body = helper.make_graph(
        inner.nodes, "body",
        [value("i", INT, []), value("going_in", BOOL, []),
         value("h_in", FLOAT, ["N", 16])],
        [value(going, BOOL, []), value(state, FLOAT, ["N", 16])],
        inner.weights,
    )  # fmt: skip
    y = g.node("Loop", g.tensor(5), g.tensor(np.array(True), "bool"), h, body=body)
    return g.finish((Feed("x", (None, 8)),), [(g.dense(y, 16, 4), 2)], 13)


def scanned() -> Built:
    """Scan over time: a gated cell in the body, states collected on the way."""
    g = Sketch("scanned")
    inner = Sketch("scanned body", style="cell_{op}_{n}")
    joined = inner.node("Concat", "h_in", "step", axis=1)
    gate = inner.node("Sigmoid", inner.dense(joined, 24, 16))
    fresh = inner.node("Mul", gate, inner.node("Tanh", inner.dense(joined, 24, 16)))
    kept = inner.node("Mul", inner.node("Sub", inner.tensor(1.0), gate), "h_in")
    state = inner.node("Add", fresh, kept)
    copy = inner.node("Identity", state)
    body = helper.make_graph(
        inner.nodes, "cell",
        [value("h_in", FLOAT, ["N", 16]), value("step", FLOAT, ["N", 8])],
        [value(state, FLOAT, ["N", 16]), value(copy, FLOAT, ["N", 16])],
        inner.weights,
    )  # fmt: skip
    steps = g.node("Transpose", "x", perm=[1, 0, 2])
    start = g.node("Tanh", g.dense(g.node("ReduceMean", "x", axes=[1], keepdims=0), 8, 16))
    states = g.nodes_with("Scan", [start, steps], 2, "", {"body": body, "num_scan_inputs": 1})[1]
    y = g.dense(g.node("Transpose", states, perm=[1, 0, 2]), 16, 4)
    return g.finish((Feed("x", (None, 6, 8)),), [(y, 3)], 13)


def functions() -> Built:
    """Local functions: a block called twice with different weights, and an activation called inside it."""
    g = Sketch("functions")
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    swish = helper.make_function(
        "local", "Swish", ["x"], ["y"],
        [helper.make_node("Sigmoid", ["x"], ["s"]), helper.make_node("Mul", ["x", "s"], ["y"])], imports[:1],
    )  # fmt: skip
    body = [
        helper.make_node("Conv", ["x", "w", "b"], ["h"], pads=[1, 1, 1, 1]),
        helper.make_node("Swish", ["h"], ["a"], domain="local"),
        helper.make_node("Conv", ["a", "v", "c"], ["r"], pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["x", "r"], ["y"]),
    ]
    block = helper.make_function("local", "Block", ["x", "w", "b", "v", "c"], ["y"], body, imports)
    x = g.conv("x", 3, 16, strides=[2, 2])
    for _ in range(2):
        weights = [g.weight(24, 16, 3, 3), g.vector(24), g.weight(16, 24, 3, 3), g.vector(16)]
        x = g.nodes_with("Block", [x, *weights], 1, "local", {})[0]
    return g.finish(PICTURE, pooled(g, x, 16), 17, functions=[swish, block], imports=imports[1:])


def modern_language() -> Built:
    """Operator set 23: RMSNormalization, RotaryEmbedding and Attention with grouped heads as single nodes."""
    g = Sketch("modern")
    x = g.node("Gather", g.weight(60, 32, fan_in=2), "tokens")
    angles = np.outer(np.arange(10), 50.0 ** (-np.arange(4) / 4))
    shape = g.node("Concat", g.node("Shape", "tokens", start=0, end=1), g.tensor([10, 4]), axis=0)
    cos, sin = (g.node("Expand", g.tensor(table[None]), shape) for table in (np.cos(angles), np.sin(angles)))
    for _ in range(2):
        y = g.node("RMSNormalization", x, g.vector(32, 0.7, 1.3), epsilon=1e-5)
        q, k, v = (g.node("MatMul", y, g.weight(32, out, fan_in=32)) for out in (32, 16, 16))
        q = g.node("RotaryEmbedding", q, cos, sin, num_heads=4)
        k = g.node("RotaryEmbedding", k, cos, sin, num_heads=2)
        y = g.node("Attention", q, k, v, q_num_heads=4, kv_num_heads=2, is_causal=1)
        x = g.node("Add", x, g.node("MatMul", y, g.weight(32, 32)))
        y = g.node("LayerNormalization", x, g.vector(32, 0.7, 1.3), g.vector(32), axis=-1)
        x = g.node("Add", x, g.dense(g.node("Gelu", g.dense(y, 32, 64)), 64, 32))
    return g.finish((Feed("tokens", (None, 10), "int64", 0, 60),), [(g.dense(x, 32, 60), 3)], 23, ir=10)


def modern_vision() -> Built:
    """Operator set 22: GroupNormalization, Mish, antialiased Resize, Split by count, GridSample, DeformConv."""
    g = Sketch("modern_vision")
    x = g.node("GroupNormalization", g.conv("x", 3, 24), g.vector(24, 0.7, 1.3), g.vector(24), num_groups=4)
    a, b, c = g.nodes_with("Split", [g.node("Mish", x)], 3, "", {"axis": 1, "num_outputs": 3})
    x = g.node("Concat", g.node("Mul", a, b), g.node("HardSwish", c), axis=1)
    x = g.node("Resize", g.conv(x, 16, 24), "", g.tensor([1.0, 1.0, 0.5, 0.5]), mode="linear", antialias=1)
    offsets = g.node("Tanh", g.conv(x, 24, 18))
    x = g.node(
        "DeformConv", x, g.weight(24, 24, 3, 3), offsets, g.vector(24), kernel_shape=[3, 3], pads=[1, 1, 1, 1]
    )
    grid = g.node("Transpose", g.node("Tanh", g.conv(x, 24, 2)), perm=[0, 2, 3, 1])
    x = g.node("GridSample", x, grid, mode="linear", align_corners=0)
    return g.finish(
        PICTURE, pooled(g, g.node("LpPool", x, kernel_shape=[2, 2], strides=[2, 2], p=2), 24), 22, ir=10
    )


def rearranged() -> Built:
    """Space to depth, depth to space in both orders, max unpooling, global max, a flip by negative steps, Tile."""
    g = Sketch("rearranged")
    x = g.node(
        "PRelu",
        g.conv(g.node("SpaceToDepth", "x", blocksize=2), 12, 32),
        g.tensor(g.rng.uniform(0, 0.4, (32, 1, 1))),
    )
    a = g.conv(g.node("DepthToSpace", x, blocksize=2, mode="DCR"), 8, 16)
    b = g.conv(g.node("DepthToSpace", x, blocksize=2, mode="CRD"), 8, 16)
    flipped = g.node("Slice", b, g.tensor([-1]), g.tensor([-999]), g.tensor([3]), g.tensor([-1]))
    y = g.node("Max", a, flipped)
    small, places = g.nodes_with("MaxPool", [y], 2, "", {"kernel_shape": [2, 2], "strides": [2, 2]})
    wide = g.node("MaxUnpool", g.conv(small, 16, 16), places, kernel_shape=[2, 2], strides=[2, 2])
    z = g.node("Sum", wide, y, g.node("Tile", g.node("GlobalMaxPool", y), g.tensor([1, 1, 32, 32])))
    return g.finish(PICTURE, pooled(g, g.node("ThresholdedRelu", z, alpha=0.1), 16), 13)


def indexed() -> Built:
    """Gather, GatherElements, GatherND, ScatterND, OneHot, Where, TopK, CumSum and Trilu around dense layers."""
    g = Sketch("indexed")
    x = g.node("Relu", g.dense("x", 12, 24))
    x = g.node("Gather", x, g.tensor([*range(23, -1, -2), *range(0, 24, 2)]), axis=2)
    best = g.nodes_with(
        "TopK", [g.node("ReduceSum", x, g.tensor([2]), keepdims=0), g.tensor([3])], 2, "", {"axis": 1}
    )[1]
    hot = g.node(
        "ReduceSum", g.node("OneHot", best, g.tensor(6), g.tensor([0.0, 1.0])), g.tensor([1]), keepdims=0
    )
    x = g.node(
        "Where", g.node("Greater", g.node("Unsqueeze", hot, g.tensor([2])), g.tensor(0.5)), x, g.tensor(0.1)
    )
    mask = g.node("Trilu", g.tensor(np.ones((6, 6))), upper=0)
    x = g.node("CumSum", g.dense(g.node("MatMul", mask, x), 24, 16), g.tensor(1))
    rows = g.node("Transpose", x, perm=[1, 0, 2])
    rows = g.node(
        "ScatterND",
        rows,
        g.tensor(np.array([[0], [3]])),
        g.node("GatherND", g.node("Tanh", rows), g.tensor(np.array([[1], [2]]))),
    )
    return g.finish((Feed("x", (None, 6, 12)),), [(g.dense(rows, 16, 5), 3)], 14)


def specs_of_source() -> list[Spec]:
    """All of the above."""
    return hand_specs("foreign", (
        Hand("control_if", "other", branches, True),
        Hand("control_loop", "recurrent", looped, True),
        Hand("control_scan", "recurrent", scanned),
        Hand("local_functions", "cnn", functions, True),
        Hand("modern_language", "transformer", modern_language, True),
        Hand("modern_vision", "cnn", modern_vision),
        Hand("rearranged", "cnn", rearranged, True),
        Hand("indexed", "other", indexed),
    ))  # fmt: skip
