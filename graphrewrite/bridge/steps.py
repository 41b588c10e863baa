"""Recurrent cells step by step, with everything ONNX lets them be: any activation, clipping, lengths, peepholes.

Cells take what the inputs contribute to all gates at one time, [batch, gates * hidden], and the states, [batch,
hidden] each; they return the new states, the hidden one first.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from graphrewrite.errors import UnsupportedOp

Activation = Callable[[Tensor], Tensor]

# name -> (function of the tensor and its settings, default alpha, default beta); None where it has no such setting.
_KNOWN: dict[str, tuple[Callable[..., Tensor], float | None, float | None]] = {
    "relu": (torch.relu, None, None),
    "tanh": (torch.tanh, None, None),
    "sigmoid": (torch.sigmoid, None, None),
    "softsign": (functional.softsign, None, None),
    "softplus": (functional.softplus, None, None),
    "leakyrelu": (functional.leaky_relu, 0.01, None),
    "thresholdedrelu": (lambda x, a: torch.where(x >= a, x, 0.0), 1.0, None),
    "elu": (functional.elu, 1.0, None),
    "affine": (lambda x, a, b: a * x + b, 1.0, 0.0),
    "scaledtanh": (lambda x, a, b: a * torch.tanh(b * x), 1.0, 1.0),
    "hardsigmoid": (lambda x, a, b: torch.clamp(a * x + b, 0, 1), 0.2, 0.5),
}


class Activations:
    """The activation functions of a recurrent node, read from its attributes."""

    @staticmethod
    def usual(names: Sequence[str], wanted: Sequence[str]) -> bool:
        """Whether every direction has the activations a kind of cell has by default."""
        return all(name.lower() == wanted[i % len(wanted)].lower() for i, name in enumerate(names))

    @staticmethod
    def chosen(names: Sequence[str], alphas: Sequence[float], betas: Sequence[float]) -> list[Activation]:
        """Return the functions in order; alphas and betas go, one by one, to those that have such a setting.

        Raises:
            UnsupportedOp: a name is unknown.
        """
        alpha, beta = iter(alphas), iter(betas)
        return [Activations._one(name, alpha, beta) for name in names]

    @staticmethod
    def _one(name: str, alphas: Iterator[float], betas: Iterator[float]) -> Activation:
        if name.lower() not in _KNOWN:
            raise UnsupportedOp(
                f"a recurrent node has the activation {name!r}; expected one of {', '.join(sorted(_KNOWN))}; "
                "train a part of the model without this node"
            )
        function, alpha, beta = _KNOWN[name.lower()]
        settings = [
            next(given, default) for given, default in ((alphas, alpha), (betas, beta)) if default is not None
        ]
        return (lambda x: function(x, *settings)) if settings else function


class Cell(Protocol):
    """One step of a recurrence."""

    def step(self, inputs: Tensor, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return the states after a step."""


@dataclass(frozen=True)
class LstmCell:
    """Gates i, o, f, c; `peepholes` [3 * hidden] belong to i, o, f."""

    recurrent: Tensor
    peepholes: Tensor | None
    activations: tuple[Activation, ...]
    clip: float | None
    coupled: bool

    def step(self, inputs: Tensor, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return the states after a step."""
        hidden, cell = states
        of_gate, of_cell, of_output = self.activations
        i, o, f, c = (inputs + self.from_state(hidden)).chunk(4, dim=-1)
        see_i, see_o, see_f = self.peepholes.chunk(3) if self.peepholes is not None else (None, None, None)
        i = of_gate(self._bounded(_seeing(i, see_i, cell)))
        f = 1 - i if self.coupled else of_gate(self._bounded(_seeing(f, see_f, cell)))
        cell = f * cell + i * of_cell(self._bounded(c))
        o = of_gate(self._bounded(_seeing(o, see_o, cell)))
        return o * of_output(cell), cell

    def from_state(self, hidden: Tensor) -> Tensor:
        """Return what the state gives to the gates."""
        return hidden @ self.recurrent.T

    def _bounded(self, x: Tensor) -> Tensor:
        return bounded(x, self.clip)


@dataclass(frozen=True)
class GruCell:
    """Gates z, r, h; with `late` the reset gate works on the product, as in torch, else on what goes into it."""

    recurrent: Tensor
    bias: Tensor | None
    activations: tuple[Activation, ...]
    clip: float | None
    late: bool

    def step(self, inputs: Tensor, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return the states after a step."""
        (hidden,) = states
        of_gate, of_new = self.activations
        size = hidden.shape[-1]
        from_z, from_r, from_h = inputs.chunk(3, dim=-1)
        gates = None if self.bias is None else self.bias[: 2 * size]
        inner = None if self.bias is None else self.bias[2 * size :]
        z, r = functional.linear(hidden, self.recurrent[: 2 * size], gates).chunk(2, dim=-1)
        z = of_gate(bounded(from_z + z, self.clip))
        r = of_gate(bounded(from_r + r, self.clip))
        weight = self.recurrent[2 * size :]
        h = (
            r * functional.linear(hidden, weight, inner)
            if self.late
            else functional.linear(r * hidden, weight, inner)
        )
        new = of_new(bounded(from_h + h, self.clip))
        return (new + z * (hidden - new),)


@dataclass(frozen=True)
class RnnCell:
    """One gate."""

    recurrent: Tensor
    activation: Activation
    clip: float | None

    def step(self, inputs: Tensor, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return the states after a step."""
        return (self.activation(bounded(inputs + states[0] @ self.recurrent.T, self.clip)),)


def bounded(x: Tensor, limit: float | None) -> Tensor:
    """Return x held within +-limit."""
    return x if limit is None else torch.clamp(x, -limit, limit)


def swept(
    inputs: Sequence[Tensor],
    cells: Sequence[Cell],
    states: tuple[Tensor, ...],
    lengths: Tensor | None,
    direction: str,
) -> tuple[Tensor, ...]:
    """Run one cell per direction over time.

    Args:
        inputs: for each direction what inputs give to the gates, [time, batch, gates * hidden].
        cells: one for each direction.
        states: [directions, batch, hidden] each.
        lengths: [batch]; behind a sequence's end states stay and outputs are zero.
        direction: forward, reverse or bidirectional; backwards each sequence begins at its own end.

    Returns:
        Hidden states [time, directions, batch, hidden], and the last states as `states`.
    """
    outputs, ends = [], []
    for d, cell in enumerate(cells):
        backwards = direction == "reverse" or d == 1
        seen, last = _swept_one(inputs[d], cell, tuple(state[d] for state in states), lengths, backwards)
        outputs.append(seen)
        ends.append(last)
    return torch.stack(outputs, 1), *(torch.stack(parts) for parts in zip(*ends, strict=True))


def _swept_one(
    inputs: Tensor, cell: Cell, states: tuple[Tensor, ...], lengths: Tensor | None, backwards: bool
) -> tuple[Tensor, tuple[Tensor, ...]]:
    seen = []
    steps = range(inputs.shape[0])
    for time in reversed(steps) if backwards else steps:
        after = cell.step(inputs[time], states)
        if lengths is None:
            seen.append(after[0])
        else:
            running = (lengths > time)[:, None]
            seen.append(torch.where(running, after[0], 0))
            after = tuple(torch.where(running, new, old) for new, old in zip(after, states, strict=True))
        states = after
    if not seen:
        return states[0].new_zeros((0, *states[0].shape)), states
    return torch.stack(seen[::-1] if backwards else seen), states


def _seeing(gate: Tensor, weight: Tensor | None, cell: Tensor) -> Tensor:
    return gate if weight is None else gate + weight * cell
