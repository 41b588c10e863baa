"""Scripted modules: loops that TorchScript keeps, with states, collected steps and choices; the older exporter only."""

from functools import partial

import torch
from torch import Tensor, nn

from tests.corpus.index import Feed
from tests.corpus.spec import Spec
from tests.corpus.torch_nets import net, specs, ts

WIDTH, UNITS = 8, 16


class Gated(nn.Module):
    """A gated cell run over time by a Python loop; returns the last state."""

    def __init__(self) -> None:
        super().__init__()
        self.units = UNITS
        self.gate, self.fresh = nn.Linear(WIDTH + UNITS, UNITS), nn.Linear(WIDTH + UNITS, UNITS)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.zeros(x.size(0), self.units)
        for i in range(x.size(1)):
            joined = torch.cat([x[:, i], h], 1)
            z = torch.sigmoid(self.gate(joined))
            h = z * h + (1 - z) * torch.tanh(self.fresh(joined))
        return h


class Collected(nn.Module):
    """The same cell with every state appended to a list and stacked."""

    def __init__(self) -> None:
        super().__init__()
        self.units = UNITS
        self.gate, self.fresh = nn.Linear(WIDTH + UNITS, UNITS), nn.Linear(WIDTH + UNITS, UNITS)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.zeros(x.size(0), self.units)
        states: list[Tensor] = []
        for i in range(x.size(1)):
            joined = torch.cat([x[:, i], h], 1)
            z = torch.sigmoid(self.gate(joined))
            h = z * h + (1 - z) * torch.tanh(self.fresh(joined))
            states.append(h)
        return torch.stack(states, 1)


class Refined(nn.Module):
    """A residual step repeated a fixed number of times, with a choice inside."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down, self.scale = nn.Linear(UNITS, 32), nn.Linear(32, UNITS), nn.Linear(UNITS, UNITS)

    def forward(self, x: Tensor) -> Tensor:
        for _i in range(4):
            x = x + self.down(torch.relu(self.up(x)))
            if bool(x.mean() > 0.0):
                x = self.scale(x)
        return x


def scripted(body: type[nn.Module], into: int) -> nn.Module:
    """A layer, the scripted loop, and a layer of scores."""
    return torch.jit.script(nn.Sequential(nn.Linear(WIDTH, into), body(), nn.Linear(UNITS, 4)))


def specs_of_source() -> list[Spec]:
    """All of the above under two operator sets."""
    series, row = (Feed("input", (None, 6, WIDTH)),), (Feed("input", (None, WIDTH)),)
    rows = (
        ("scripted_state", Gated, WIDTH, series),
        ("scripted_list", Collected, WIDTH, series),
        ("scripted_choice", Refined, UNITS, row),
    )
    found: list[Spec] = []
    for name, body, into, feeds in rows:
        make = partial(net, partial(scripted, body, into), feeds)
        found += specs(name, "recurrent", "plain", make, (ts(14), ts(17, "op17")))
    return found
