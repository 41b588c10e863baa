"""RNN, GRU, LSTM: one hidden axis across gates, recurrence, states and outputs."""

from graphrewrite.dims.axes import rigid
from graphrewrite.dims.sweep import Step, rule

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


@rule("RNN", "GRU", "LSTM")
def recurrent(s: Step) -> None:
    """Weights are [directions, gates * hidden, in]; both directions share the hidden axis."""
    gates = GATES[s.node.op]
    x = s.forced(s.axes(0))
    w, r = s.forced(s.axes(1)), s.forced(s.axes(2))
    hidden = r[2]
    s.tie(x[2], w[2])
    s.contracts(1, 2)
    s.contracts(2, 2)
    for axis in (w[0], r[0], x[0], x[1]):
        s.pin(axis, "directions, time and batch stay")
    for block in (w[1], r[1]):
        gate, units = s.digits(block, [gates, hidden.sizes[0]])
        s.pin(gate, "a gate")
        s.tie(units, hidden)
    for slot in (3, 7):
        if s.has(slot):
            s.pin(s.axes(slot)[0], "directions stay")
    if s.has(3):
        gate, units = s.digits(s.forced(s.axes(3))[1], [2 * gates, hidden.sizes[0]])
        s.pin(gate, "a gate")
        s.tie(units, hidden)
    if s.has(7):
        gate, units = s.digits(s.forced(s.axes(7))[1], [3, hidden.sizes[0]])
        s.pin(gate, "a peephole")
        s.tie(units, hidden)
    for slot in (5, 6):
        if s.has(slot):
            state = s.forced(s.own(slot))
            s.tie(state[2], hidden)
            for axis in state[:2]:
                s.pin(axis, "directions and batch stay")
    s.mix("rnn", 0, {2: x[2], -1: hidden})
    steps = x[0].sizes[0] * x[1].sizes[0] * w[0].sizes[0]
    s.macs(float(steps * gates), [x[2], hidden])
    s.macs(float(steps * gates), [hidden, hidden])
    s.restate([hidden], lambda cut: cut.set_attr(s.index, "hidden_size", cut.count(hidden)))
    sizes = s.out_sizes
    for output in range(len(s.node.outputs)):
        if s.node.outputs[output].name:
            s.out([*(rigid(pair, "time and batch") for pair in sizes(output)[:-1]), hidden], output)
