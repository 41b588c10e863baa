"""RNN, GRU, LSTM and the quantized LSTM: one hidden axis across gates, recurrence, states and outputs.

Both directions of a node lose the same hidden units. In principle each could lose its own, as many as the other, since
`hidden_size` is one number; but a weight's rows would then mean other units in each half of it, which no cut of whole
rows can say.
"""

from graphrewrite.dims.axes import Axis, rigid
from graphrewrite.dims.rules.contrib import MICROSOFT
from graphrewrite.dims.sweep import Step, rule

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4, "DynamicQuantizeLSTM": 4}


@rule("RNN", "GRU", "LSTM")
def recurrent(s: Step) -> None:
    """Weights are [directions, gates * hidden, in] and [directions, gates * hidden, hidden].

    A hidden unit that goes takes its rows of every gate along, and its column of the recurrence, whether the reset
    gate of a GRU works before or after that product (`linear_before_reset`). Activations, clips, peepholes and coupled
    gates (`input_forget`) work on each unit alone.
    """
    gates = GATES[s.node.op]
    x, w, r = (s.forced(s.axes(slot)) for slot in range(3))
    hidden = r[2]
    s.tie(x[2], w[2])
    s.contracts(1, 2)
    s.contracts(2, 2)
    s.pin(w[0], "directions stay")
    s.pin(r[0], "directions stay")
    of_units(s, w[1], gates, hidden)
    of_units(s, r[1], gates, hidden)
    for slot, blocks in ((3, 2 * gates), (7, 3)):
        if s.has(slot):
            vector = s.forced(s.axes(slot))
            s.pin(vector[0], "directions stay")
            of_units(s, vector[1], blocks, hidden)
    s.mix("rnn", 0, {2: x[2], -1: hidden})
    runs_over(s, x, hidden)


@rule("DynamicQuantizeLSTM", domain=MICROSOFT)
def dynamic_quantize_lstm(s: Step) -> None:
    """An LSTM of quantized weights [directions, in, gates * hidden] with scales and zero points for every column."""
    usual = ["Sigmoid", "Tanh", "Tanh"]
    given = s.attr("activations")
    if given is not None and given not in (usual, usual * 2):
        s.refuse("a quantized LSTM is followed with its usual activations only")
        return
    x, w, r = (s.forced(s.axes(slot)) for slot in range(3))
    hidden = r[1]
    s.tie(x[2], w[1])
    s.contracts(1, 1)
    s.contracts(2, 1)
    for slot, blocks in ((1, 4), (2, 4), (3, 8), (7, 3), (8, 4), (9, 4), (10, 4), (11, 4)):
        if s.has(slot):
            axes = s.forced(s.axes(slot))
            s.pin(axes[0], "directions stay")
            if axes[-1].sizes[0] == blocks * hidden.sizes[0] and len(axes) > 1:
                of_units(s, axes[-1], blocks, hidden)
    s.mix("quantized_lstm", 0, {2: x[2], -1: hidden})
    s.pin(x[1], "the range of a whole batch is taken")
    runs_over(s, x, hidden)


def of_units(s: Step, axis: Axis, blocks: int, hidden: Axis) -> None:
    """Tie an axis that holds the hidden units once for every gate (or bias, or peephole) with the hidden axis."""
    block, units = s.digits(axis, [blocks, hidden.sizes[0]])
    s.pin(block, "a gate, or what belongs to one")
    s.tie(units, hidden)


def runs_over(s: Step, x: list[Axis], hidden: Axis) -> None:
    """Tie states with the hidden axis; declare the work, how the node follows a cut, and its outputs.

    The input is [time, batch, in], in layout 1 [batch, time, in]. Sequences of a batch do not see each other.
    """
    batch_first = bool(s.integer("layout", 0))
    time, batch = (x[1], x[0]) if batch_first else (x[0], x[1])
    s.pin(time, "time stays")
    directions = rigid(2 if s.attr("direction", "forward") == "bidirectional" else 1, "directions")
    last = [batch, directions, hidden] if batch_first else [directions, batch, hidden]
    for slot in (5, 6):
        if s.has(slot):
            for mine, its in zip(s.forced(s.own(slot)), last, strict=True):
                s.tie(mine, its)
    if s.has(4):
        s.tie(s.axes(4)[0], batch)
    for width in (x[2], hidden):
        s.macs(float(GATES[s.node.op]), [time, batch, directions, width, hidden])
    s.restate([hidden], lambda cut: cut.set_attr(s.index, "hidden_size", cut.count(hidden)))
    s.out([batch, time, directions, hidden] if batch_first else [time, directions, batch, hidden], 0)
    s.out(last, 1)
    s.out(last, 2)
