"""Hand-written recurrent nets: every form in which LSTM, GRU and RNN reach a graph, and hand-rolled cells."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.corpus.blocks import ConvBnAct
from tests.corpus.index import Feed
from tests.corpus.spec import Family, Spec
from tests.corpus.torch_nets import BOTH, Variant, dyn, half, image, net, raw, specs, static, ts

WORDS = 60


class Tagger(nn.Module):
    """Embedding, stacked bidirectional LSTM, a linear layer on every step."""

    def __init__(self, layers: int = 2) -> None:
        super().__init__()
        self.embed = nn.Embedding(WORDS, 24)
        self.lstm = nn.LSTM(24, 20, layers, batch_first=True, bidirectional=True)
        self.out = nn.Linear(40, 9)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.out(self.lstm(self.embed(tokens))[0])


class Classifier(nn.Module):
    """A recurrent layer whose last state is classified; the kind is LSTM, GRU or RNN."""

    def __init__(self, kind: type[nn.RNNBase], both_ways: bool = False) -> None:
        super().__init__()
        self.recurrent = kind(12, 24, batch_first=True, bidirectional=both_ways)
        self.out = nn.Linear(48 if both_ways else 24, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(functional.relu(self.recurrent(x)[0][:, -1]))


class Streaming(nn.Module):
    """States go in and come out, as streaming runtimes want it; time comes first."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(10, 16)
        self.lstm = nn.LSTM(16, 20, 2)
        self.out = nn.Linear(20, 6)

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y, (h, c) = self.lstm(torch.tanh(self.first(x)), (h, c))
        return self.out(y), h, c


class Projected(nn.Module):
    """Stacked GRUs with layer norms and residuals between them."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.GRU(20, 20, batch_first=True) for _ in range(3))
        self.norms = nn.ModuleList(nn.LayerNorm(20) for _ in range(3))
        self.out = nn.Linear(20, 7)

    def forward(self, x: Tensor) -> Tensor:
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = x + layer(norm(x))[0]
        return self.out(x.mean(1))


class Unrolled(nn.Module):
    """A cell written as linear layers in a Python loop: the graph repeats it, sharing the weights."""

    def __init__(self, steps: int = 6) -> None:
        super().__init__()
        self.steps = steps
        self.gates = nn.Linear(8 + 16, 64)
        self.out = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = c = torch.zeros_like(x[:, 0, :1]).expand(-1, 16)
        for t in range(self.steps):
            i, f, g, o = self.gates(torch.cat([x[:, t], h], 1)).chunk(4, 1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
        return self.out(h)


class Minimal(nn.Module):
    """A one-gate cell with separate matrices per gate, unrolled; a CNN reads the picture's rows first."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = ConvBnAct(1, 8)
        self.forget, self.candidate = nn.Linear(8 * 16 + 20, 20), nn.Linear(8 * 16 + 20, 20)
        self.out = nn.Linear(20, 10)

    def forward(self, x: Tensor) -> Tensor:
        rows = functional.max_pool2d(self.conv(x), (4, 1)).permute(0, 2, 1, 3).flatten(2)
        h = rows[:, 0, :20] * 0
        for t in range(4):
            both = torch.cat([rows[:, t], h], 1)
            f = self.forget(both).sigmoid()
            h = (1 - f) * h + f * self.candidate(both).tanh()
        return self.out(h)


class TextReader(nn.Module):
    """CRNN: convolutions, height collapsed, bidirectional LSTM over the width, symbol scores per step."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            ConvBnAct(1, 16),
            nn.MaxPool2d(2),
            ConvBnAct(16, 32),
            nn.MaxPool2d((2, 1)),
            ConvBnAct(32, 32, stride=2),
        )
        self.lstm = nn.LSTM(64, 24, bidirectional=True)
        self.out = nn.Linear(48, 12)

    def forward(self, x: Tensor) -> Tensor:
        y = self.convs(x)
        steps = y.flatten(1, 2).permute(2, 0, 1)
        return self.out(self.lstm(steps)[0]).log_softmax(2)


class Translator(nn.Module):
    """GRU encoder, attention decoder unrolled over given target tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.source, self.target = nn.Embedding(WORDS, 20), nn.Embedding(WORDS, 20)
        self.encoder = nn.GRU(20, 24, batch_first=True)
        self.decoder = nn.GRUCell(44, 24)
        self.score = nn.Linear(24, 24, bias=False)
        self.out = nn.Linear(48, WORDS)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        memory, last = self.encoder(self.source(source))
        h, outputs = last[0], []
        for t in range(4):
            weights = torch.einsum("bd,btd->bt", self.score(h), memory).softmax(1)
            context = torch.einsum("bt,btd->bd", weights, memory)
            h = self.decoder(torch.cat([self.target(target[:, t]), context], 1), h)
            outputs.append(self.out(torch.cat([h, context], 1)))
        return torch.stack(outputs, 1)


class ConvLstm(nn.Module):
    """Gates by convolution, three frames unrolled."""

    def __init__(self) -> None:
        super().__init__()
        self.gates = nn.Conv2d(1 + 12, 48, 3, padding=1)
        self.out = nn.Conv2d(12, 1, 1)

    def forward(self, frames: Tensor) -> Tensor:
        h = c = torch.zeros_like(frames[:, 0]).expand(-1, 12, -1, -1)
        for t in range(3):
            i, f, o, g = self.gates(torch.cat([frames[:, t], h], 1)).split(12, 1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
        return self.out(h)


class DeepQ(nn.Module):
    """A recurrent agent: convolutions, LSTM cell with states in and out, value and advantage heads."""

    def __init__(self) -> None:
        super().__init__()
        self.eye = nn.Sequential(ConvBnAct(4, 16, stride=2), ConvBnAct(16, 16, stride=2), nn.Flatten())
        self.cell = nn.LSTMCell(16 * 16, 24)
        self.value, self.advantage = nn.Linear(24, 1), nn.Linear(24, 5)

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h, c = self.cell(self.eye(x), (h, c))
        advantage = self.advantage(h)
        return self.value(h) + advantage - advantage.mean(1, keepdim=True), h, c


class Forecaster(nn.Module):
    """LSTNet: 1-D convolution, GRU, and a linear autoregressive bypass, added."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(6, 16, 5)
        self.gru = nn.GRU(16, 16, batch_first=True)
        self.out, self.bypass = nn.Linear(16, 6), nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.conv(x.transpose(1, 2))).transpose(1, 2)
        _, h = self.gru(y)
        return self.out(h[0]) + self.bypass(x[:, -8:].transpose(1, 2)).squeeze(2)


def specs_of_source() -> list[Spec]:
    """All of the above, in both exporters where both can."""
    tokens = (Feed("tokens", (None, 12), "int64", 0, WORDS),)
    series, short = (Feed("input", (None, 16, 12)),), (Feed("input", (None, 6, 8)),)
    states = (Feed("input", (5, None, 10)), Feed("h", (2, None, 20)), Feed("c", (2, None, 20)))
    agent = (*image(16, 4), Feed("h", (None, 24)), Feed("c", (None, 24)))
    pairs = (Feed("source", (None, 9), "int64", 0, WORDS), Feed("target", (None, 4), "int64", 0, WORDS))
    old = (ts(11), dyn(18), static(ts(9)))
    table: tuple[
        tuple[str, Family, Callable[[], nn.Module], tuple[Feed, ...], tuple[Variant, ...], bool], ...
    ] = (
        ("lstm_tagger", "recurrent", Tagger, tokens, old, True),
        (
            "lstm_last",
            "recurrent",
            partial(Classifier, nn.LSTM),
            series,
            (ts(14), dyn(18), half(ts(14))),
            False,
        ),
        ("gru_last", "recurrent", partial(Classifier, nn.GRU), series, (ts(13), dyn(18), raw()), True),
        ("gru_both_ways", "recurrent", partial(Classifier, nn.GRU, True), series, old, False),
        ("rnn_last", "recurrent", partial(Classifier, nn.RNN), series, BOTH, False),
        ("lstm_streaming", "recurrent", Streaming, states, BOTH, False),
        ("gru_residual", "recurrent", Projected, (Feed("input", (None, 10, 20)),), BOTH, True),
        ("unrolled_lstm", "recurrent", Unrolled, short, (ts(13), dyn(18), raw()), True),
        ("unrolled_minimal", "recurrent", Minimal, image(16, 1), BOTH, False),
        ("crnn", "recurrent", TextReader, (Feed("input", (None, 1, 16, 32)),), (ts(12), dyn(18)), True),
        ("translator", "recurrent", Translator, pairs, BOTH, False),
        ("conv_lstm", "recurrent", ConvLstm, (Feed("frames", (None, 3, 1, 16, 16)),), BOTH, False),
        ("agent", "recurrent", DeepQ, agent, BOTH, False),
        ("forecaster", "recurrent", Forecaster, (Feed("input", (None, 20, 6)),), BOTH, False),
    )
    found: list[Spec] = []
    for name, family, make, feeds, variants, core in table:
        found += specs(name, family, "plain", partial(net, make, feeds), variants, core)
    return found
