"""Recurrent layers: RNN, GRU, LSTM."""

from graphrewrite.ir.shape_rules.call import Call, shape_rule
from graphrewrite.ir.symbols import Dim


@shape_rule("RNN", "GRU", "LSTM")
@shape_rule("DynamicQuantizeLSTM", domain="com.microsoft")
def recurrent(call: Call) -> None:
    """Input [time, batch, size] (layout 1: batch first); outputs all states and the last ones."""
    x, r = call.shape(0), call.shape(2)
    directions = 2 if call.text("direction", "forward") == "bidirectional" else 1
    hidden: Dim
    if call.attribute("hidden_size") is not None:
        hidden = call.integer("hidden_size", 0)
    else:
        hidden = r[2] if r is not None else call.unknown()
    time, batch = (call.unknown(), call.unknown()) if x is None else (x[0], x[1])
    if call.integer("layout", 0):
        time, batch = batch, time
        call.put(0, (batch, time, directions, hidden))
        last: tuple[Dim, ...] = (batch, directions, hidden)
    else:
        call.put(0, (time, directions, batch, hidden))
        last = (directions, batch, hidden)
    call.put(1, last)
    call.put(2, last)
