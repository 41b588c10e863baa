"""Recurrent layers as tf2onnx writes those that it cannot fuse: cells spelled out in the bodies of Loop and Scan.

A while loop of TensorFlow becomes a Loop that carries counters and states, looks its step up in a tensor of the outer
graph, and stacks what it computes. The gates of a cell are one product of [input, state], split in four.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper
from onnx.helper import make_tensor_value_info as value

from tests.corpus.index import Feed
from tests.corpus.sketch import Hand, Sketch, hand_specs
from tests.corpus.spec import Built, Spec

FLOAT, INT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64, TensorProto.BOOL
STEPS, WIDTH, UNITS = 6, 8, 16
SEQUENCE = (Feed("x", (None, STEPS, WIDTH)),)


def zeros(g: Sketch, x: str, units: int) -> str:
    """States before the first step: Fill of the batch taken from Shape, in 32-bit integers and back."""
    size = g.node("Cast", g.node("Shape", x), to=INT)
    batch = g.node("Slice", size, g.tensor([0]), g.tensor([1]), g.tensor([0]))
    shape = g.node("Cast", g.node("Concat", batch, g.tensor([units], "int32"), axis=0), to=INT64)
    return g.node("Expand", g.tensor(0.0), shape)


def lstm_cell(b: Sketch, step: str, c: str, h: str, into: int, units: int) -> tuple[str, str]:
    """BasicLSTMCell: input, candidate, forget and output gates in this order, and a forget bias of one."""
    gates = b.dense(b.node("Concat", step, h, axis=1), into + units, 4 * units)
    i, j, f, o = b.nodes_with("Split", [gates], 4, "", {"axis": 1})
    forget = b.node("Sigmoid", b.node("Add", f, b.tensor(1.0)))
    fresh = b.node("Mul", b.node("Sigmoid", i), b.node("Tanh", j))
    c = b.node("Add", b.node("Mul", c, forget), fresh)
    return c, b.node("Mul", b.node("Tanh", c), b.node("Sigmoid", o))


def while_lstm(g: Sketch, x: str, into: int, units: int, name: str) -> str:
    """One layer over [time, batch, features]: a Loop that looks its steps up; returns [time, batch, units]."""
    b = Sketch(name, style=f"{name}/while/{{op}}_{{n}}")
    step = b.node("Gather", x, f"{name}_time", axis=0)
    c, h = lstm_cell(b, step, f"{name}_c", f"{name}_h", into, units)
    time = b.node("Add", f"{name}_time", b.tensor(np.array(1), "int32"))
    going = b.node("Less", time, b.tensor(np.array(STEPS), "int32"))
    stacked = b.node("Identity", h)
    state: list[str | int | None] = ["N", units]
    body = helper.make_graph(
        b.nodes, f"{name}_body",
        [value(f"{name}_i", INT64, []), value(f"{name}_cond", BOOL, []), value(f"{name}_time", INT, []),
         value(f"{name}_c", FLOAT, state), value(f"{name}_h", FLOAT, state)],
        [value(going, BOOL, []), value(time, INT, []), value(c, FLOAT, state), value(h, FLOAT, state),
         value(stacked, FLOAT, state)],
        b.weights,
    )  # fmt: skip
    count = g.node("Gather", g.node("Shape", x), g.tensor(np.array(0), "int64"))
    start = zeros(g, g.node("Transpose", x, perm=[1, 0, 2]), units)
    loop = [count, g.tensor(np.array(True), "bool"), g.tensor(np.array(0), "int32"), start, start]
    return g.nodes_with("Loop", loop, 4, "", {"body": body})[3]


def time_first(g: Sketch) -> str:
    """The input as tf.unstack and TensorArray want it."""
    return g.node("Transpose", "x", perm=[1, 0, 2])


def lstm_loop() -> Built:
    """A tagger: one layer, every step scored."""
    g = Sketch("tf_lstm_loop", style="rnn/{op}_{n}")
    y = while_lstm(g, time_first(g), WIDTH, UNITS, "lstm")
    return g.finish(SEQUENCE, [(g.dense(g.node("Transpose", y, perm=[1, 0, 2]), UNITS, 5), 3)], 13)


def stacked_loops() -> Built:
    """Two layers, the last step scored: StridedSlice as Slice and Squeeze."""
    g = Sketch("tf_stacked_loops", style="rnn/{op}_{n}")
    y = while_lstm(g, time_first(g), WIDTH, UNITS, "lower")
    y = while_lstm(g, y, UNITS, 12, "upper")
    last = g.node("Slice", y, g.tensor([-1]), g.tensor([2**31 - 1]), g.tensor([0]))
    return g.finish(SEQUENCE, [(g.dense(g.node("Squeeze", last, g.tensor([0])), 12, 5), 2)], 13)


def gru_body(b: Sketch, step: str, h: str) -> tuple[str, onnx.GraphProto]:
    """GRUCell: reset and update gates in one product, the candidate in another, the state kept by the update gate."""
    gates = b.node("Sigmoid", b.dense(b.node("Concat", step, h, axis=1), WIDTH + UNITS, 2 * UNITS))
    r, u = b.nodes_with("Split", [gates], 2, "", {"axis": 1})
    candidate = b.dense(b.node("Concat", step, b.node("Mul", r, h), axis=1), WIDTH + UNITS, UNITS)
    kept = b.node("Mul", b.node("Sub", b.tensor(1.0), u), b.node("Tanh", candidate))
    state = b.node("Add", b.node("Mul", u, h), kept)
    out = b.node("Identity", state)
    body = helper.make_graph(
        b.nodes, "gru_body",
        [value(h, FLOAT, ["N", UNITS]), value(step, FLOAT, ["N", WIDTH])],
        [value(state, FLOAT, ["N", UNITS]), value(out, FLOAT, ["N", UNITS])],
        b.weights,
    )  # fmt: skip
    return state, body


def gru_scan() -> Built:
    """A layer as Scan over time, read from its last state and from the mean of all."""
    g = Sketch("tf_gru_scan", style="rnn/{op}_{n}")
    body = gru_body(Sketch("gru body", style="rnn/scan/{op}_{n}"), "gru_step", "gru_h")[1]
    x = time_first(g)
    inputs = [zeros(g, "x", UNITS), x]
    last, states = g.nodes_with("Scan", inputs, 2, "", {"body": body, "num_scan_inputs": 1})
    mean = g.node("ReduceMean", states, axes=[0], keepdims=0)
    return g.finish(SEQUENCE, [(g.dense(g.node("Concat", last, mean, axis=1), 2 * UNITS, 5), 2)], 13)


def specs_of_source() -> list[Spec]:
    """Specs of the three nets."""
    rows = (
        Hand("tf_lstm_loop", "recurrent", lstm_loop),
        Hand("tf_stacked_loops", "recurrent", stacked_loops),
        Hand("tf_gru_scan", "recurrent", gru_scan),
    )
    return hand_specs("foreign", rows)
