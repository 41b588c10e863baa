"""LSTM, GRU and RNN: torch's fused loops where they mean the same, explicit steps where they do not.

torch has one loop per kind: the usual activations, no clipping, no peepholes, all sequences of one length, and for GRU
`linear_before_reset`. It orders the gates in another way, so weights are rearranged in every call, which keeps the
stored ones as the model has them.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from graphrewrite.bridge.forms import op
from graphrewrite.bridge.steps import Activations, GruCell, LstmCell, RnnCell, swept

_FUSED_RNN = {"Tanh": torch.rnn_tanh, "Relu": torch.rnn_relu}
_LSTM_GATES = (0, 2, 3, 1)  # torch's input, forget, cell, output among i, o, f, c
_GRU_GATES = (1, 0, 2)  # torch's reset, update, new among z, r, h


@op("LSTM", since=7, ignores=("hidden_size",))
def lstm(
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor | None = None,
    lengths: Tensor | None = None,
    initial_h: Tensor | None = None,
    initial_c: Tensor | None = None,
    p: Tensor | None = None,
    *,
    activations: Sequence[str] = (),
    activation_alpha: Sequence[float] = (),
    activation_beta: Sequence[float] = (),
    clip: float | None = None,
    direction: str = "forward",
    input_forget: int = 0,
    layout: int = 0,
) -> tuple[Tensor, ...]:
    """Return all hidden states, the last hidden state and the last cell state."""
    x, states = _laid(x, (initial_h, initial_c), r, layout)
    usual = Activations.usual(activations, ("Sigmoid", "Tanh", "Tanh"))
    if usual and clip is None and not input_forget and p is None and lengths is None and x.shape[0]:
        flat = _flat(w, r, b, _LSTM_GATES)
        return _unlaid(_fused(torch.lstm, x, states, flat, direction), layout)
    chosen = Activations.chosen(
        activations or ("Sigmoid", "Tanh", "Tanh") * len(w), activation_alpha, activation_beta
    )
    cells = [
        LstmCell(r[d], part(p, d), tuple(chosen[3 * d : 3 * d + 3]), clip, bool(input_forget))
        for d in range(len(w))
    ]
    inputs = [torch.nn.functional.linear(x, w[d], biases_added(b, d, r.shape[1])) for d in range(len(w))]
    return _unlaid(swept(inputs, cells, states, lengths, direction), layout)


@op("GRU", since=7, ignores=("hidden_size",))
def gru(
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor | None = None,
    lengths: Tensor | None = None,
    initial_h: Tensor | None = None,
    *,
    activations: Sequence[str] = (),
    activation_alpha: Sequence[float] = (),
    activation_beta: Sequence[float] = (),
    clip: float | None = None,
    direction: str = "forward",
    layout: int = 0,
    linear_before_reset: int = 0,
) -> tuple[Tensor, ...]:
    """Return all hidden states and the last one."""
    x, states = _laid(x, (initial_h,), r, layout)
    usual = Activations.usual(activations, ("Sigmoid", "Tanh"))
    if usual and clip is None and linear_before_reset and lengths is None and x.shape[0]:
        return _unlaid(_fused(torch.gru, x, states, _flat(w, r, b, _GRU_GATES), direction), layout)
    chosen = Activations.chosen(
        activations or ("Sigmoid", "Tanh") * len(w), activation_alpha, activation_beta
    )
    cells, inputs = [], []
    for d in range(len(w)):
        outer, inner = _biases(b, d, r.shape[1])
        cells.append(GruCell(r[d], inner, tuple(chosen[2 * d : 2 * d + 2]), clip, bool(linear_before_reset)))
        inputs.append(torch.nn.functional.linear(x, w[d], outer))
    return _unlaid(swept(inputs, cells, states, lengths, direction), layout)


@op("RNN", since=7, ignores=("hidden_size",))
def rnn(
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor | None = None,
    lengths: Tensor | None = None,
    initial_h: Tensor | None = None,
    *,
    activations: Sequence[str] = (),
    activation_alpha: Sequence[float] = (),
    activation_beta: Sequence[float] = (),
    clip: float | None = None,
    direction: str = "forward",
    layout: int = 0,
) -> tuple[Tensor, ...]:
    """Return all hidden states and the last one."""
    x, states = _laid(x, (initial_h,), r, layout)
    names = tuple(activations[: len(w)]) or ("Tanh",) * len(w)
    fused = _FUSED_RNN.get(names[0]) if len(set(names)) == 1 else None
    if fused is not None and clip is None and lengths is None and x.shape[0]:
        return _unlaid(_fused(fused, x, states, _flat(w, r, b, (0,)), direction), layout)
    chosen = Activations.chosen(names, activation_alpha, activation_beta)
    cells = [RnnCell(r[d], chosen[d], clip) for d in range(len(w))]
    inputs = [torch.nn.functional.linear(x, w[d], biases_added(b, d, r.shape[1])) for d in range(len(w))]
    return _unlaid(swept(inputs, cells, states, lengths, direction), layout)


def _laid(
    x: Tensor, initial: tuple[Tensor | None, ...], r: Tensor, layout: int
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Return inputs with time first and states with directions first, zeros where none are given."""
    if layout:
        x = x.transpose(0, 1)
        initial = tuple(None if state is None else state.transpose(0, 1) for state in initial)
    return x, zeros_where_none(x, initial, (len(r), x.shape[1], r.shape[2]))


def zeros_where_none(
    x: Tensor, initial: tuple[Tensor | None, ...], shape: tuple[int, ...]
) -> tuple[Tensor, ...]:
    """Return first states, zeros of this shape where none are given."""
    return tuple(x.new_zeros(shape) if state is None else state for state in initial)


def _unlaid(found: tuple[Tensor, ...], layout: int) -> tuple[Tensor, ...]:
    """Put the batch first where the node wants it: outputs [batch, time, directions, hidden]."""
    if not layout:
        return found
    return found[0].permute(2, 0, 1, 3), *(state.transpose(0, 1) for state in found[1:])


def _fused(
    loop: object, x: Tensor, states: tuple[Tensor, ...], flat: list[Tensor], direction: str
) -> tuple[Tensor, ...]:
    """Run torch's own loop; backwards alone it runs over the flipped sequence."""
    backwards, both = direction == "reverse", direction == "bidirectional"
    assert callable(loop)
    seen, *last = loop(
        x.flip(0) if backwards else x,
        states if len(states) > 1 else states[0],
        flat,
        len(flat) > (4 if both else 2),
        1,
        0.0,
        torch.is_grad_enabled(),  # cuDNN keeps what the way back needs only then
        both,
        False,
    )
    time, batch, _ = seen.shape
    seen = seen.reshape(time, batch, 2 if both else 1, -1).transpose(1, 2)
    return seen.flip(0) if backwards else seen, *last


def _flat(w: Tensor, r: Tensor, b: Tensor | None, gates: tuple[int, ...]) -> list[Tensor]:
    """Return weights as torch's loops take them: for each direction inputs', states', and their biases."""
    flat = []
    for d in range(len(w)):
        parts = [w[d], r[d], *(() if b is None else b[d].chunk(2))]
        flat += [_ordered(part, gates) for part in parts]
    return flat


def _ordered(weight: Tensor, gates: tuple[int, ...]) -> Tensor:
    pieces = weight.chunk(len(gates))
    return torch.cat([pieces[gate] for gate in gates]) if len(gates) > 1 else weight


def part(weight: Tensor | None, direction: int) -> Tensor | None:
    """Return what belongs to one direction."""
    return None if weight is None else weight[direction]


def _biases(b: Tensor | None, direction: int, rows: int) -> tuple[Tensor | None, Tensor | None]:
    return (None, None) if b is None else (b[direction, :rows], b[direction, rows:])


def biases_added(b: Tensor | None, direction: int, rows: int) -> Tensor | None:
    """Return the inputs' and the states' bias of one direction in one."""
    outer, inner = _biases(b, direction, rows)
    return None if outer is None or inner is None else outer + inner
