"""onnxruntime's LSTM with weights of eight bits: what they meet is rounded to eight bits of its own range first.

Gradients go straight through that rounding, to inputs, states and biases; the integer weights are not trained.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from graphrewrite.bridge.forms import op
from graphrewrite.bridge.optable.contrib_activations import MICROSOFT
from graphrewrite.bridge.optable.quantized import SETTINGS, dynamic_quantize_linear
from graphrewrite.bridge.optable.recurrent import biases_added, part, zeros_where_none
from graphrewrite.bridge.rounding import through
from graphrewrite.bridge.steps import Activations, LstmCell, swept

_STILL: Mapping[str | int, str] = dict.fromkeys(("w_scale", "w_zero", "r_scale", "r_zero"), SETTINGS[1])


@dataclass(frozen=True)
class RoundedLstmCell(LstmCell):
    """An LSTM's step whose state is rounded, all rows of the batch to one range, before it meets the weights."""

    def from_state(self, hidden: Tensor) -> Tensor:
        """Return what the state gives to the gates."""
        return on_own_grid(hidden) @ self.recurrent.T


@op("DynamicQuantizeLSTM", domain=MICROSOFT, still=_STILL, ignores=("hidden_size",))
def dynamic_quantize_lstm(
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor | None,
    lengths: Tensor | None,
    initial_h: Tensor | None,
    initial_c: Tensor | None,
    p: Tensor | None,
    w_scale: Tensor,
    w_zero: Tensor,
    r_scale: Tensor,
    r_zero: Tensor,
    *,
    activations: Sequence[str] = (),
    activation_alpha: Sequence[float] = (),
    activation_beta: Sequence[float] = (),
    clip: float | None = None,
    direction: str = "forward",
    input_forget: int = 0,
) -> tuple[Tensor, ...]:
    """Return all hidden states, the last hidden state and the last cell state; w and r are [directions, in, gates]."""
    outer, inner = _floats(w, w_scale, w_zero), _floats(r, r_scale, r_zero)
    states = zeros_where_none(x, (initial_h, initial_c), (len(r), x.shape[1], r.shape[1]))
    names = activations or ("Sigmoid", "Tanh", "Tanh") * len(w)
    chosen = Activations.chosen(names, activation_alpha, activation_beta)
    cells = [
        RoundedLstmCell(inner[d].T, part(p, d), tuple(chosen[3 * d : 3 * d + 3]), clip, bool(input_forget))
        for d in range(len(w))
    ]
    near = on_own_grid(x)
    gates = r.shape[2]
    inputs = [torch.nn.functional.linear(near, outer[d].T, biases_added(b, d, gates)) for d in range(len(w))]
    return swept(inputs, cells, states, lengths, direction)


def on_own_grid(x: Tensor) -> Tensor:
    """Return x on the 256 levels of its own range, with gradients as if it were x."""
    if not x.numel():
        return x
    levels, scale, zero = dynamic_quantize_linear(x.detach())
    return through(x, (levels.to(x.dtype) - zero.to(x.dtype)) * scale)


def _floats(levels: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
    """Return weights as floats; settings are one for each direction, or one for each of its gates' rows."""
    return (levels.to(scale.dtype) - _beside(zero).to(scale.dtype)) * _beside(scale)


def _beside(setting: Tensor) -> Tensor:
    return setting.reshape(len(setting), 1, -1)
